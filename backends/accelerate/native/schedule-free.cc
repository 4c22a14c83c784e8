// Schedule-free AdamW (core/ops/schedule-free.ts). p follows from z and x as they are stored, in float64 and without contraction, so
// that a restored run makes the same bits of them: hence a source of its own.
#include "kernels.h"

#include "simd.h"

namespace LEVEL {

void scheduleFree(Context* context, float* p, float* g, float* z, float* x, float* v, long count, const ScheduleFreeValues* values) {
  const ScheduleFreeValues o = *values;
  const float rate = (float)o.learningRate, decay = (float)o.weightDecay, scale = (float)o.gradientScale;
  const float b2 = (float)o.beta2, c2 = (float)(1 - o.beta2), averaging = (float)o.averaging, epsilon = (float)o.eps;
  const float correction = (float)(1 / sqrt(1 - pow(o.beta2, o.step)));
  const double beta1 = o.beta1;
  const int parts = partsFor(context, count, 16384);
  parallel(context, parts, [=](int part) {
    const Range range = rangeOf(count, 64, part, parts);
    forVectors(range.end - range.begin, [&](long offset, auto load, auto store) {
      const long i = range.begin + offset;
      const vf gradient = load(g + i) * scale;
      const vf second = load(v + i) * b2 + gradient * gradient * c2;
      store(v + i, second);
      store(g + i, vf{});
      const vf base = load(z + i) - rate * (gradient / (squareRoot(second) * correction + epsilon) + decay * load(p + i));
      store(z + i, base);
      store(x + i, load(x + i) + averaging * (base - load(x + i)));
    });
    for (long i = range.begin; i < range.end; i++) {
      const double base = (double)z[i];
      p[i] = (float)(base + beta1 * ((double)x[i] - base));
    }
  });
}

} // namespace LEVEL
