// Every kernel, compiled once for each instruction-set level: LEVEL names it, the compiler's flags say what it may use.
#include "kernels.h"

#include "adafactor.h"
#include "attention.h"
#include "experts.h"
#include "gemm.h"
#include "muon.h"
#include "newton-schulz.h"
#include "optimizers.h"
#include "rows.h"
#include "sparse-mixer.h"

#define TEXT(x) #x
#define NAME(x) TEXT(x)

namespace LEVEL {

void fillNormals(float* out, long count, double mean, double deviation, NormalStream stream, double start); // normal.cc

void scheduleFree(Context* context, float* p, float* g, float* z, float* x, float* v, long count,
                  const ScheduleFreeValues* values); // schedule-free.cc

static void fillNormal(Context* context, float* out, long count, double mean, double deviation, NormalStream stream, double start) {
  const int parts = partsFor(context, count, 8192);
  parallel(context, parts, [=](int part) {
    const Range range = rangeOf(count, 64, part, parts);
    fillNormals(out + range.begin, range.end - range.begin, mean, deviation, stream, start + (double)range.begin);
  });
}

static int prepare() {
#ifdef GEMMOE_TILES
  return tilesGranted();
#else
  return 1;
#endif
}

#ifdef GEMMOE_NATIVE_BF16
constexpr int NATIVE = 1 << PRECISION_F32 | 1 << PRECISION_BF16 | 1 << PRECISION_BF16X2 | 1 << PRECISION_BF16X3;
#else
constexpr int NATIVE = 1 << PRECISION_F32;
#endif

extern const KernelTable table;
const KernelTable table = {
    NAME(LEVEL),    NATIVE,          prepare,        gemm,           packedBytes,    pack,            linear,
    linearBackward, groupedLinear,   groupedLinearBackward, embedding, embeddingBackward,
    add,            rmsNorm,         rmsNormBackward, rope,          softmax,
    swiglu,         swigluBackward,  attention,      attentionBackward, router,
    routerBackward, gather,          gatherBackward, combine,        combineBackward,
    experts,        expertsBackward, crossEntropy,   sumOfSquares,   adamw,
    sgd,            lion,            adam,           adafactor,      scheduleFree,    muonMomentum,   newtonSchulz,   muonNormalise,
    muonUpdate,     toBf16,          fromBf16,       toF16,          fromF16,
    fillNormal,     roundBf16,       roundF16,       chooseExperts,  zLoss,
    linearBf16,     embeddingBf16,   expertsBf16,    scale,          clamp,
    clampBackward,  layerNorm,       layerNormBackward, ropeInterleaved, sparseMixer,
    sparseMixerBackward, exponentialOf,
};

} // namespace LEVEL
