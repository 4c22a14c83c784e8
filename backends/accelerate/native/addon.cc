// The boundary: JavaScript's arguments in, kernels out. An instance's functions carry it as their data, so a call finds its
// threads and kernels without a lookup; instances belong to their environment (a worker has its own) and end with it.
#include <napi.h>

#include "call.h"
#include "levels.h"

namespace {

using Values = napi_value;

#define KERNEL(name) Values name(napi_env env, napi_callback_info info)

/** Floats of a packed op(B) [k,n]. */
double packedFloats(const Call& call, long n, long k) {
  return static_cast<double>(call.table().packedBytes(call.context(), n, k) / sizeof(float));
}

KERNEL(gemm) {
  Call call(env, info, "gemm");
  const bool transA = call.flag(0, "transA"), transB = call.flag(1, "transB");
  const long m = call.size(2, "m"), n = call.size(3, "n"), k = call.size(4, "k");
  const float alpha = static_cast<float>(call.number(5, "alpha")), beta = static_cast<float>(call.number(12, "beta"));
  const long lda = call.size(8, "lda", 1), ldb = call.size(11, "ldb", 1), ldc = call.size(15, "ldc", 1);
  const long aOffset = call.offset(7, "aOffset"), bOffset = call.offset(10, "bOffset"), cOffset = call.offset(14, "cOffset");
  const auto end = [](long offset, long rows, long columns, long stride) {
    return rows == 0 || columns == 0 ? 0.0 : static_cast<double>(offset) + static_cast<double>(rows - 1) * stride + columns;
  };
  const float* a = call.floats(6, "A", end(aOffset, transA ? k : m, transA ? m : k, lda));
  const float* b = call.floats(9, "B", end(bOffset, transB ? n : k, transB ? k : n, ldb));
  float* c = call.floats(13, "C", end(cOffset, m, n, ldc));
  call.check(ldc >= n && lda >= (transA ? m : k) && ldb >= (transB ? k : n), "a leading dimension is below its row length");
  const float* packed = call.ok() ? call.floatsOrNull(16, "packed", packedFloats(call, n, k)) : nullptr;
  if (!call.ok()) return nullptr;
  const Product product = {m,           n,           k,           a + aOffset, transA ? 1 : lda, transA ? lda : 1,
                           b + bOffset, transB ? 1 : ldb, transB ? ldb : 1, c + cOffset, ldc, alpha, beta, nullptr, packed};
  call.table().gemm(call.context(), &product);
  return nullptr;
}

/** packedLength(n, k): elements of the Float32Array that `pack` fills; 0 where products read B itself. */
KERNEL(packedLength) {
  Call call(env, info, "packedLength");
  const long n = call.size(0, "n"), k = call.size(1, "k");
  return call.ok() ? call.value(packedFloats(call, n, k)) : nullptr;
}

/** pack(packed, transB, n, k, B, bOffset, ldb): 1, or 0 where the precision has no form for a value of B. */
KERNEL(pack) {
  Call call(env, info, "pack");
  const bool transB = call.flag(1, "transB");
  const long n = call.size(2, "n"), k = call.size(3, "k"), ldb = call.size(6, "ldb", 1), bOffset = call.offset(5, "bOffset");
  const long rows = transB ? n : k, columns = transB ? k : n;
  float* packed = call.floats(0, "packed", call.ok() ? packedFloats(call, n, k) : 0);
  const float* b = call.floats(4, "B", rows && columns ? double(bOffset) + double(rows - 1) * ldb + columns : 0);
  call.check(ldb >= columns, "a leading dimension is below its row length");
  if (!call.ok()) return nullptr;
  const Product product = {0, n, k, nullptr, 0, 1, b + bOffset, transB ? 1 : ldb, transB ? ldb : 1, nullptr, n, 1, 0};
  return call.value(call.table().pack(call.context(), &product, packed));
}

/** hold(w, groups, n, k): the number that `letGo` takes; 0 where products read the weights as they stand. */
KERNEL(hold) {
  Call call(env, info, "holdWeights");
  const long groups = call.size(1, "groups"), n = call.size(2, "O"), k = call.size(3, "I");
  const float* w = call.floats(0, "w", double(groups) * n * k);
  return call.ok() ? call.value(call.instance().hold(w, groups, n, k)) : nullptr;
}

KERNEL(linear) {
  Call call(env, info, "linear");
  const long N = call.size(4, "N"), I = call.size(5, "I"), O = call.size(6, "O");
  float* y = call.floats(0, "y", double(N) * O);
  const float* x = call.floats(1, "x", double(N) * I);
  const float* w = call.floats(2, "w", double(O) * I);
  const float* b = call.floatsOrNull(3, "b", O);
  const bool accumulate = call.flag(7, "accumulate");
  if (call.ok()) call.table().linear(call.context(), y, x, w, b, N, I, O, accumulate);
  return nullptr;
}

KERNEL(linearBf16) {
  Call call(env, info, "linearBf16");
  const long N = call.size(4, "N"), I = call.size(5, "I"), O = call.size(6, "O");
  float* y = call.floats(0, "y", double(N) * O);
  const float* x = call.floats(1, "x", double(N) * I);
  const std::uint16_t* w = call.halves(2, "w", double(O) * I);
  const float* b = call.floatsOrNull(3, "b", O);
  const bool accumulate = call.flag(7, "accumulate");
  if (call.ok()) call.table().linearBf16(call.context(), y, x, w, b, N, I, O, accumulate);
  return nullptr;
}

KERNEL(linearBackward) {
  Call call(env, info, "linearBackward");
  const long N = call.size(6, "N"), I = call.size(7, "I"), O = call.size(8, "O");
  float* dx = call.floatsOrNull(0, "dx", double(N) * I);
  float* dw = call.floatsOrNull(1, "dw", double(O) * I);
  float* db = call.floatsOrNull(2, "db", O);
  const float* dy = call.floats(3, "dy", double(N) * O);
  const float* x = call.floats(4, "x", double(N) * I);
  const float* w = call.floats(5, "w", double(O) * I);
  const bool accumulate = call.flag(9, "accumulateDx");
  if (call.ok()) call.table().linearBackward(call.context(), dx, dw, db, dy, x, w, N, I, O, accumulate);
  return nullptr;
}

/** offsets [E+1] of rows; their last one is the number of rows. */
const std::int32_t* rowOffsets(Call& call, int index, long E, long& rows) {
  const std::int32_t* offsets = call.ints(index, "offsets", double(E) + 1);
  call.rising(offsets, E + 1, "offsets", 2147483647.0);
  rows = call.ok() ? offsets[E] : 0;
  return offsets;
}

KERNEL(groupedLinear) {
  Call call(env, info, "groupedLinear");
  const long E = call.size(4, "E"), I = call.size(5, "I"), O = call.size(6, "O");
  long M = 0;
  const std::int32_t* offsets = rowOffsets(call, 3, E, M);
  float* y = call.floats(0, "y", double(M) * O);
  const float* x = call.floats(1, "x", double(M) * I);
  const float* w = call.floats(2, "w", double(E) * O * I);
  if (call.ok()) call.table().groupedLinear(call.context(), y, x, w, offsets, E, I, O);
  return nullptr;
}

KERNEL(groupedLinearBackward) {
  Call call(env, info, "groupedLinearBackward");
  const long E = call.size(6, "E"), I = call.size(7, "I"), O = call.size(8, "O");
  long M = 0;
  const std::int32_t* offsets = rowOffsets(call, 5, E, M);
  float* dx = call.floats(0, "dx", double(M) * I);
  float* dw = call.floats(1, "dw", double(E) * O * I);
  const float* dy = call.floats(2, "dy", double(M) * O);
  const float* x = call.floats(3, "x", double(M) * I);
  const float* w = call.floats(4, "w", double(E) * O * I);
  if (call.ok()) call.table().groupedLinearBackward(call.context(), dx, dw, dy, x, w, offsets, E, I, O);
  return nullptr;
}

KERNEL(embedding) {
  Call call(env, info, "embedding");
  const long N = call.size(3, "N"), C = call.size(4, "C");
  float* y = call.floats(0, "y", double(N) * C);
  const float* table = call.floats(1, "table", 0);
  const double rows = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* ids = call.ints(2, "ids", N);
  call.within(ids, N, "ids", rows);
  if (call.ok()) call.table().embedding(call.context(), y, table, ids, N, C);
  return nullptr;
}

KERNEL(embeddingBf16) {
  Call call(env, info, "embeddingBf16");
  const long N = call.size(3, "N"), C = call.size(4, "C");
  float* y = call.floats(0, "y", double(N) * C);
  const std::uint16_t* table = call.halves(1, "table", 0);
  const double rows = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* ids = call.ints(2, "ids", N);
  call.within(ids, N, "ids", rows);
  if (call.ok()) call.table().embeddingBf16(call.context(), y, table, ids, N, C);
  return nullptr;
}

KERNEL(embeddingBackward) {
  Call call(env, info, "embeddingBackward");
  const long N = call.size(3, "N"), C = call.size(4, "C");
  float* dTable = call.floats(0, "dTable", 0);
  const double rows = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const float* dy = call.floats(1, "dy", double(N) * C);
  const std::int32_t* ids = call.ints(2, "ids", N);
  call.within(ids, N, "ids", rows);
  if (call.ok()) call.table().embeddingBackward(call.context(), dTable, dy, ids, N, C);
  return nullptr;
}

KERNEL(add) {
  Call call(env, info, "add");
  const long count = call.offset(2, "count");
  float* y = call.floats(0, "y", double(count));
  const float* x = call.floats(1, "x", double(count));
  if (call.ok()) call.table().add(call.context(), y, x, count);
  return nullptr;
}

KERNEL(rmsNorm) {
  Call call(env, info, "rmsNorm");
  const long N = call.size(4, "N"), C = call.size(5, "C");
  float* y = call.floats(0, "y", double(N) * C);
  float* rstd = call.floats(1, "rstd", N);
  const float* x = call.floats(2, "x", double(N) * C);
  const float* gamma = call.floats(3, "gamma", C);
  const float eps = static_cast<float>(call.number(6, "eps"));
  if (call.ok()) call.table().rmsNorm(call.context(), y, rstd, x, gamma, N, C, eps);
  return nullptr;
}

KERNEL(rmsNormBackward) {
  Call call(env, info, "rmsNormBackward");
  const long N = call.size(6, "N"), C = call.size(7, "C");
  float* dx = call.floats(0, "dx", double(N) * C);
  float* dGamma = call.floats(1, "dGamma", C);
  const float* dy = call.floats(2, "dy", double(N) * C);
  const float* x = call.floats(3, "x", double(N) * C);
  const float* gamma = call.floats(4, "gamma", C);
  const float* rstd = call.floats(5, "rstd", N);
  if (call.ok()) call.table().rmsNormBackward(call.context(), dx, dGamma, dy, x, gamma, rstd, N, C);
  return nullptr;
}

/** Both ropes take the same arguments. */
Values ropeOf(napi_env env, napi_callback_info info, const char* name, decltype(KernelTable::rope) KernelTable::* kernel) {
  Call call(env, info, name);
  const long offset = call.offset(1, "offset"), stride = call.size(2, "stride");
  const long N = call.size(6, "N"), heads = call.size(7, "heads"), D = call.size(8, "D");
  const double width = double(heads) * D, half = std::floor(D / 2.0);
  float* x = call.floats(0, "x", N > 0 && width > 0 ? double(offset) + double(N - 1) * stride + width : 0);
  const float* cosines = call.floats(3, "cos", 0);
  const double rows = half > 0 ? std::floor(double(call.length()) / half) : 2147483647.0;
  const float* sines = call.floats(4, "sin", half > 0 ? rows * half : 0);
  const std::int32_t* positions = call.ints(5, "positions", N);
  call.within(positions, N, "positions", rows);
  const bool inverse = call.flag(9, "inverse");
  if (call.ok()) (call.table().*kernel)(call.context(), x + offset, stride, cosines, sines, positions, N, heads, D, inverse);
  return nullptr;
}

KERNEL(rope) { return ropeOf(env, info, "rope", &KernelTable::rope); }
KERNEL(ropeInterleaved) { return ropeOf(env, info, "ropeInterleaved", &KernelTable::ropeInterleaved); }

KERNEL(scale) {
  Call call(env, info, "scale");
  const long count = call.offset(3, "count");
  float* y = call.floats(0, "y", double(count));
  const float* x = call.floats(1, "x", double(count));
  const float factor = static_cast<float>(call.number(2, "factor"));
  if (call.ok()) call.table().scale(call.context(), y, x, factor, count);
  return nullptr;
}

KERNEL(clamp) {
  Call call(env, info, "clamp");
  const long count = call.offset(3, "count");
  float* y = call.floats(0, "y", double(count));
  const float* x = call.floats(1, "x", double(count));
  const float limit = static_cast<float>(call.number(2, "limit"));
  if (call.ok()) call.table().clamp(call.context(), y, x, limit, count);
  return nullptr;
}

KERNEL(clampBackward) {
  Call call(env, info, "clampBackward");
  const long count = call.offset(4, "count");
  float* dx = call.floats(0, "dx", double(count));
  const float* dy = call.floats(1, "dy", double(count));
  const float* x = call.floats(2, "x", double(count));
  const float limit = static_cast<float>(call.number(3, "limit"));
  if (call.ok()) call.table().clampBackward(call.context(), dx, dy, x, limit, count);
  return nullptr;
}

KERNEL(layerNorm) {
  Call call(env, info, "layerNorm");
  const long N = call.size(6, "N"), C = call.size(7, "C");
  float* y = call.floats(0, "y", double(N) * C);
  float* mean = call.floats(1, "mean", N);
  float* rstd = call.floats(2, "rstd", N);
  const float* x = call.floats(3, "x", double(N) * C);
  const float* gamma = call.floats(4, "gamma", C);
  const float* beta = call.floats(5, "beta", C);
  const float eps = static_cast<float>(call.number(8, "eps"));
  if (call.ok()) call.table().layerNorm(call.context(), y, mean, rstd, x, gamma, beta, N, C, eps);
  return nullptr;
}

KERNEL(layerNormBackward) {
  Call call(env, info, "layerNormBackward");
  const long N = call.size(8, "N"), C = call.size(9, "C");
  float* dx = call.floats(0, "dx", double(N) * C);
  float* dGamma = call.floats(1, "dGamma", C);
  float* dBeta = call.floats(2, "dBeta", C);
  const float* dy = call.floats(3, "dy", double(N) * C);
  const float* x = call.floats(4, "x", double(N) * C);
  const float* gamma = call.floats(5, "gamma", C);
  const float* mean = call.floats(6, "mean", N);
  const float* rstd = call.floats(7, "rstd", N);
  if (call.ok()) call.table().layerNormBackward(call.context(), dx, dGamma, dBeta, dy, x, gamma, mean, rstd, N, C);
  return nullptr;
}

KERNEL(sparseMixer) {
  Call call(env, info, "sparseMixer");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts", 2);
  float* probabilities = call.floats(0, "probabilities", double(N) * E);
  float* weights = call.floats(1, "weights", 2.0 * N);
  std::int32_t* experts = call.ints(2, "experts", 2.0 * N);
  const float* logits = call.floats(3, "logits", double(N) * E);
  const float jitter = static_cast<float>(call.number(6, "jitter"));
  if (call.ok()) call.table().sparseMixer(call.context(), probabilities, weights, experts, logits, N, E, jitter);
  return nullptr;
}

KERNEL(sparseMixerBackward) {
  Call call(env, info, "sparseMixerBackward");
  const long N = call.size(6, "N"), E = call.size(7, "numExperts", 2);
  float* dLogits = call.floats(0, "dLogits", double(N) * E);
  const float* dWeights = call.floats(1, "dWeights", 2.0 * N);
  const float* dProbabilities = call.floatsOrNull(2, "dProbabilities", E);
  const float* probabilities = call.floats(3, "probabilities", double(N) * E);
  const float* logits = call.floats(4, "logits", double(N) * E);
  const std::int32_t* experts = call.ints(5, "experts", 2.0 * N);
  call.within(experts, 2.0 * N, "experts", E);
  const float jitter = static_cast<float>(call.number(8, "jitter"));
  if (call.ok()) {
    call.table().sparseMixerBackward(call.context(), dLogits, dWeights, dProbabilities, probabilities, logits, experts, N, E, jitter);
  }
  return nullptr;
}

KERNEL(softmax) {
  Call call(env, info, "softmax");
  const long rows = call.size(2, "rows"), n = call.size(3, "n");
  float* y = call.floats(0, "y", double(rows) * n);
  const float* x = call.floats(1, "x", double(rows) * n);
  if (call.ok()) call.table().softmax(call.context(), y, x, rows, n);
  return nullptr;
}

KERNEL(swiglu) {
  Call call(env, info, "swiglu");
  const long M = call.size(2, "M"), F = call.size(3, "F");
  float* hidden = call.floats(0, "hidden", double(M) * F);
  const float* gateUp = call.floats(1, "gateUp", 2 * double(M) * F);
  if (call.ok()) call.table().swiglu(call.context(), hidden, gateUp, M, F);
  return nullptr;
}

KERNEL(swigluBackward) {
  Call call(env, info, "swigluBackward");
  const long M = call.size(3, "M"), F = call.size(4, "F");
  float* dGateUp = call.floats(0, "dGateUp", 2 * double(M) * F);
  const float* dHidden = call.floats(1, "dHidden", double(M) * F);
  const float* gateUp = call.floats(2, "gateUp", 2 * double(M) * F);
  if (call.ok()) call.table().swigluBackward(call.context(), dGateUp, dHidden, gateUp, M, F);
  return nullptr;
}

/** The ten numbers of an AttentionShape and its first keys or null, from argument `index` on. */
AttentionShape attentionShape(Call& call, int index) {
  AttentionShape s = {};
  s.batch = call.size(index, "batch");
  s.queries = call.size(index + 1, "queries");
  s.heads = call.size(index + 2, "heads");
  s.kvHeads = call.size(index + 3, "kvHeads", 1);
  s.headDim = call.size(index + 4, "headDim");
  s.scale = static_cast<float>(call.number(index + 5, "scale"));
  s.window = call.size(index + 6, "window");
  s.queryStride = call.size(index + 7, "queryStride");
  s.keyStride = call.size(index + 8, "keyStride");
  s.keyBatchStride = call.offset(index + 9, "keyBatchStride");
  call.check(s.kvHeads == 0 || s.heads % s.kvHeads == 0, "kvHeads must divide heads");
  s.firstKeys = call.intsOrNull(index + 10, "firstKeys", double(s.batch) * s.queries);
  for (long i = 0; s.firstKeys && call.ok() && i < s.batch * s.queries; i++) {
    const long t = i % s.queries, least = t == 0 ? 0 : s.firstKeys[i - 1];
    call.check(s.firstKeys[i] >= least && s.firstKeys[i] <= t, "firstKeys must rise, each at most its query's place");
  }
  return s;
}

bool isEmpty(const AttentionShape& s) { return s.batch == 0 || s.queries == 0 || s.heads == 0 || s.headDim == 0; }

double queryEnd(const AttentionShape& s, long offset) {
  return isEmpty(s) ? 0 : double(offset) + (double(s.batch) * s.queries - 1) * s.queryStride + double(s.heads) * s.headDim;
}

/** Elements up to the last key that a query sees; `starts` is null where all are 0. */
double keyEnd(const AttentionShape& s, const std::int32_t* starts, long offset) {
  double end = 0;
  for (long b = 0; !isEmpty(s) && b < s.batch; b++) {
    const double keys = double(starts ? starts[b] : 0) + s.queries;
    end = std::fmax(end, double(offset) + double(b) * s.keyBatchStride + (keys - 1) * s.keyStride + double(s.kvHeads) * s.headDim);
  }
  return end;
}

KERNEL(attention) {
  Call call(env, info, "attention");
  const AttentionShape s = attentionShape(call, 9);
  const long qOffset = call.offset(3, "qOffset"), kOffset = call.offset(5, "kOffset"), vOffset = call.offset(7, "vOffset");
  const double rows = double(s.batch) * s.queries;
  const std::int32_t* starts = call.ints(8, "starts", s.batch);
  call.within(starts, s.batch, "starts", 1073741824.0);
  for (long b = 0; s.firstKeys && call.ok() && b < s.batch; b++) call.check(starts[b] == 0, "firstKeys need starts of 0");
  if (!call.ok()) return nullptr;
  float* out = call.floats(0, "out", rows * s.heads * s.headDim);
  float* logSumExp = call.floatsOrNull(1, "logSumExp", rows * s.heads);
  const float* q = call.floats(2, "q", queryEnd(s, qOffset));
  const float* k = call.floats(4, "k", keyEnd(s, starts, kOffset));
  const float* v = call.floats(6, "v", keyEnd(s, starts, vOffset));
  if (!call.ok() || isEmpty(s)) return nullptr;
  call.table().attention(call.context(), out, logSumExp, q + qOffset, k + kOffset, v + vOffset, starts, &s);
  return nullptr;
}

KERNEL(attentionBackward) {
  Call call(env, info, "attentionBackward");
  const AttentionShape s = attentionShape(call, 12);
  const long qOffset = call.offset(7, "qOffset"), kOffset = call.offset(9, "kOffset"), vOffset = call.offset(11, "vOffset");
  const double rows = double(s.batch) * s.queries;
  const double qEnd = queryEnd(s, qOffset), kEnd = keyEnd(s, nullptr, kOffset), vEnd = keyEnd(s, nullptr, vOffset);
  float* dq = call.floats(0, "dq", qEnd);
  float* dk = call.floats(1, "dk", kEnd);
  float* dv = call.floats(2, "dv", vEnd);
  const float* dOut = call.floats(3, "dOut", rows * s.heads * s.headDim);
  const float* out = call.floats(4, "out", rows * s.heads * s.headDim);
  const float* logSumExp = call.floats(5, "logSumExp", rows * s.heads);
  const float* q = call.floats(6, "q", qEnd);
  const float* k = call.floats(8, "k", kEnd);
  const float* v = call.floats(10, "v", vEnd);
  if (!call.ok() || isEmpty(s)) return nullptr;
  call.table().attentionBackward(call.context(), dq + qOffset, dk + kOffset, dv + vOffset, dOut, out, logSumExp, q + qOffset,
                                 k + kOffset, v + vOffset, &s);
  return nullptr;
}

KERNEL(router) {
  Call call(env, info, "router");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts"), K = call.size(6, "topK");
  float* probabilities = call.floats(0, "probabilities", double(N) * E);
  float* weights = call.floats(1, "weights", double(N) * K);
  std::int32_t* experts = call.ints(2, "experts", double(N) * K);
  const float* logits = call.floats(3, "logits", double(N) * E);
  const bool renormalise = call.flag(7, "renormalise");
  const float smallestSum = static_cast<float>(call.number(8, "smallestSum"));
  call.check(K <= E, "topK is larger than numExperts");
  if (call.ok()) call.table().router(call.context(), probabilities, weights, experts, logits, N, E, K, renormalise, smallestSum);
  return nullptr;
}

KERNEL(routerBackward) {
  Call call(env, info, "routerBackward");
  const long N = call.size(6, "N"), E = call.size(7, "numExperts"), K = call.size(8, "topK");
  float* dLogits = call.floats(0, "dLogits", double(N) * E);
  const float* dWeights = call.floats(1, "dWeights", double(N) * K);
  const float* dProbabilities = call.floatsOrNull(2, "dProbabilities", E);
  const float* probabilities = call.floats(3, "probabilities", double(N) * E);
  const float* weights = call.floats(4, "weights", double(N) * K);
  const std::int32_t* experts = call.ints(5, "experts", double(N) * K);
  call.within(experts, double(N) * K, "experts", E);
  const bool renormalise = call.flag(9, "renormalise");
  const float smallestSum = static_cast<float>(call.number(10, "smallestSum"));
  if (call.ok()) {
    call.table().routerBackward(call.context(), dLogits, dWeights, dProbabilities, probabilities, weights, experts, N, E, K,
                                renormalise, smallestSum);
  }
  return nullptr;
}

/** A stable counting sort of (token, choice) by expert: too little work to be worth a vector. */
KERNEL(dispatch) {
  Call call(env, info, "dispatch");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts"), K = call.size(6, "topK");
  const double M = double(N) * K;
  const std::int32_t* experts = call.ints(0, "experts", M);
  std::int32_t* offsets = call.ints(1, "offsets", double(E) + 1);
  std::int32_t* rows = call.ints(2, "rows", M);
  std::int32_t* slots = call.ints(3, "slots", M);
  call.check(M <= 2147483647.0, "N·topK must be below 2^31");
  call.within(experts, M, "experts", E);
  if (!call.ok()) return nullptr;
  const long routed = N * K;
  for (long e = 0; e <= E; e++) offsets[e] = 0;
  for (long i = 0; i < routed; i++) offsets[experts[i] + 1]++;
  for (long e = 0; e < E; e++) offsets[e + 1] += offsets[e];
  // offsets[e] runs up to the start of expert e + 1 while rows are placed, and is moved back afterwards
  for (long n = 0, i = 0; n < N; n++) {
    for (long k = 0; k < K; k++, i++) {
      const std::int32_t slot = offsets[experts[i]]++;
      slots[i] = slot;
      rows[slot] = static_cast<std::int32_t>(n);
    }
  }
  for (long e = E; e > 0; e--) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
  return nullptr;
}

KERNEL(gather) {
  Call call(env, info, "gather");
  const long M = call.size(3, "M"), C = call.size(4, "C");
  float* y = call.floats(0, "y", double(M) * C);
  const float* x = call.floats(1, "x", 0);
  const double end = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* rows = call.ints(2, "rows", M);
  call.within(rows, M, "rows", end);
  if (call.ok()) call.table().gather(call.context(), y, x, rows, M, C);
  return nullptr;
}

KERNEL(gatherBackward) {
  Call call(env, info, "gatherBackward");
  const long N = call.size(3, "N"), K = call.size(4, "K", 1), C = call.size(5, "C");
  float* dx = call.floats(0, "dx", double(N) * C);
  const float* dy = call.floats(1, "dy", 0);
  const double end = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* slots = call.ints(2, "slots", double(N) * K);
  call.within(slots, double(N) * K, "slots", end);
  if (call.ok()) call.table().gatherBackward(call.context(), dx, dy, slots, N, K, C);
  return nullptr;
}

KERNEL(combine) {
  Call call(env, info, "combine");
  const long N = call.size(4, "N"), K = call.size(5, "K"), C = call.size(6, "C");
  float* y = call.floats(0, "y", double(N) * C);
  const float* x = call.floats(1, "x", 0);
  const double end = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const float* weights = call.floats(2, "weights", double(N) * K);
  const std::int32_t* slots = call.ints(3, "slots", double(N) * K);
  call.within(slots, double(N) * K, "slots", end);
  if (call.ok()) call.table().combine(call.context(), y, x, weights, slots, N, K, C);
  return nullptr;
}

KERNEL(combineBackward) {
  Call call(env, info, "combineBackward");
  const long N = call.size(6, "N"), K = call.size(7, "K"), C = call.size(8, "C");
  float* dx = call.floats(0, "dx", 0);
  double end = double(call.length());
  float* dWeights = call.floats(1, "dWeights", double(N) * K);
  const float* dy = call.floats(2, "dy", double(N) * C);
  const float* x = call.floats(3, "x", 0);
  end = C > 0 ? std::floor(std::fmin(end, double(call.length())) / C) : 2147483647.0;
  const float* weights = call.floats(4, "weights", double(N) * K);
  const std::int32_t* slots = call.ints(5, "slots", double(N) * K);
  call.within(slots, double(N) * K, "slots", end);
  if (call.ok()) call.table().combineBackward(call.context(), dx, dWeights, dy, x, weights, slots, N, K, C);
  return nullptr;
}

/** gathered, gateUp, hidden and output, from argument `index` on. */
ExpertsBuffers expertsBuffers(Call& call, int index, const ExpertsShape& s) {
  const double M = double(s.N) * s.K;
  return {call.floats(index, "gathered", M * s.C), call.floats(index + 1, "gateUp", 2 * M * s.F),
          call.floats(index + 2, "hidden", M * s.F), call.floats(index + 3, "output", M * s.C)};
}

/** N, C, E, K and F, from argument `index` on. */
ExpertsShape expertsShape(Call& call, int index) {
  return {call.size(index, "tokens"), call.size(index + 1, "hiddenSize"), call.size(index + 2, "numExperts"),
          call.size(index + 3, "topK"), call.size(index + 4, "expertWidth")};
}

/** offsets of a routing whose rows are all owned by some expert. */
const std::int32_t* routingOffsets(Call& call, int index, const ExpertsShape& s) {
  const double M = double(s.N) * s.K;
  const std::int32_t* offsets = call.ints(index, "offsets", double(s.E) + 1);
  call.rising(offsets, s.E + 1, "offsets", M);
  call.check(M <= 2147483647.0, "tokens·topK must be below 2^31");
  return offsets;
}

KERNEL(experts) {
  Call call(env, info, "experts");
  const ExpertsShape s = expertsShape(call, 12);
  const double M = double(s.N) * s.K;
  float* y = call.floats(0, "y", double(s.N) * s.C);
  const ExpertsBuffers saved = expertsBuffers(call, 1, s);
  const float* x = call.floats(5, "x", double(s.N) * s.C);
  const float* wGateUp = call.floats(6, "wGateUp", 2.0 * s.E * s.F * s.C);
  const float* wDown = call.floats(7, "wDown", double(s.E) * s.C * s.F);
  const float* weights = call.floats(8, "weights", M);
  const std::int32_t* offsets = routingOffsets(call, 9, s);
  const std::int32_t* rows = call.ints(10, "rows", M);
  const std::int32_t* slots = call.ints(11, "slots", M);
  call.within(rows, M, "rows", s.N);
  call.within(slots, M, "slots", M);
  if (call.ok()) {
    call.table().experts(call.context(), y, &saved, x, wGateUp, wDown, weights, offsets, rows, slots, &s);
  }
  return nullptr;
}

KERNEL(expertsBf16) {
  Call call(env, info, "expertsBf16");
  const ExpertsShape s = expertsShape(call, 12);
  const double M = double(s.N) * s.K;
  float* y = call.floats(0, "y", double(s.N) * s.C);
  const ExpertsBuffers saved = expertsBuffers(call, 1, s);
  const float* x = call.floats(5, "x", double(s.N) * s.C);
  const std::uint16_t* wGateUp = call.halves(6, "wGateUp", 2.0 * s.E * s.F * s.C);
  const std::uint16_t* wDown = call.halves(7, "wDown", double(s.E) * s.C * s.F);
  const float* weights = call.floats(8, "weights", M);
  const std::int32_t* offsets = routingOffsets(call, 9, s);
  const std::int32_t* rows = call.ints(10, "rows", M);
  const std::int32_t* slots = call.ints(11, "slots", M);
  call.within(rows, M, "rows", s.N);
  call.within(slots, M, "slots", M);
  if (call.ok()) {
    call.table().expertsBf16(call.context(), y, &saved, x, wGateUp, wDown, weights, offsets, rows, slots, &s);
  }
  return nullptr;
}

KERNEL(expertsBackward) {
  Call call(env, info, "expertsBackward");
  const ExpertsShape s = expertsShape(call, 18);
  const double M = double(s.N) * s.K;
  float* dx = call.floats(0, "dx", double(s.N) * s.C);
  float* dWeights = call.floats(1, "dWeights", M);
  float* dWGateUp = call.floats(2, "dWGateUp", 2.0 * s.E * s.F * s.C);
  float* dWDown = call.floats(3, "dWDown", double(s.E) * s.C * s.F);
  const ExpertsBuffers scratch = expertsBuffers(call, 4, s);
  const float* dy = call.floats(8, "dy", double(s.N) * s.C);
  const ExpertsBuffers saved = expertsBuffers(call, 9, s);
  const float* wGateUp = call.floats(13, "wGateUp", 2.0 * s.E * s.F * s.C);
  const float* wDown = call.floats(14, "wDown", double(s.E) * s.C * s.F);
  const float* weights = call.floats(15, "weights", M);
  const std::int32_t* offsets = routingOffsets(call, 16, s);
  const std::int32_t* slots = call.ints(17, "slots", M);
  call.within(slots, M, "slots", M);
  call.check(s.K >= 1 || s.N == 0, "topK must be at least 1");
  if (call.ok()) {
    call.table().expertsBackward(call.context(), dx, dWeights, dWGateUp, dWDown, &scratch, dy, &saved, wGateUp, wDown, weights,
                                 offsets, slots, &s);
  }
  return nullptr;
}

KERNEL(crossEntropy) {
  Call call(env, info, "crossEntropy");
  const long N = call.size(3, "N"), V = call.size(4, "V");
  float* gradient = call.floatsOrNull(0, "gradient", double(N) * V);
  const float* logits = call.floats(1, "logits", double(N) * V);
  const std::int32_t* targets = call.ints(2, "targets", N);
  const float scale = static_cast<float>(call.number(5, "scale"));
  for (long n = 0; call.ok() && n < N; n++) {
    if (targets[n] != IGNORE_INDEX) call.within(targets + n, 1, "targets", V);
  }
  return call.ok() ? call.value(call.table().crossEntropy(call.context(), gradient, logits, targets, N, V, scale)) : nullptr;
}

KERNEL(sumOfSquares) {
  Call call(env, info, "sumOfSquares");
  const float* x = call.floats(0, "x", 0);
  return call.ok() ? call.value(call.table().sumOfSquares(call.context(), x, static_cast<long>(call.length()))) : nullptr;
}

KERNEL(adamw) {
  Call call(env, info, "adamw");
  const long offset = call.offset(4, "offset"), count = call.offset(5, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* m = call.floats(2, "m", end);
  float* v = call.floats(3, "v", end);
  double values[7];
  static const char* const names[] = {"learningRate", "beta1", "beta2", "eps", "weightDecay", "step", "gradientScale"};
  for (int i = 0; i < 7; i++) values[i] = call.number(6 + i, names[i]);
  if (call.ok()) {
    call.table().adamw(call.context(), p + offset, g + offset, m + offset, v + offset, count, values[0], values[1], values[2],
                       values[3], values[4], values[5], values[6]);
  }
  return nullptr;
}

KERNEL(sgd) {
  Call call(env, info, "sgd");
  const long offset = call.offset(3, "offset"), count = call.offset(4, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* velocity = call.floatsOrNull(2, "velocity", end);
  const double learningRate = call.number(5, "learningRate"), momentum = call.number(6, "momentum");
  const bool nesterov = call.flag(7, "nesterov");
  const double weightDecay = call.number(8, "weightDecay"), step = call.number(9, "step");
  const double gradientScale = call.number(10, "gradientScale");
  if (call.ok()) {
    call.table().sgd(call.context(), p + offset, g + offset, velocity ? velocity + offset : nullptr, count, learningRate, momentum,
                     nesterov, weightDecay, step, gradientScale);
  }
  return nullptr;
}

KERNEL(lion) {
  Call call(env, info, "lion");
  const long offset = call.offset(3, "offset"), count = call.offset(4, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* m = call.floats(2, "m", end);
  const double learningRate = call.number(5, "learningRate"), beta1 = call.number(6, "beta1"), beta2 = call.number(7, "beta2");
  const double weightDecay = call.number(8, "weightDecay"), gradientScale = call.number(9, "gradientScale");
  if (call.ok()) {
    call.table().lion(call.context(), p + offset, g + offset, m + offset, count, learningRate, beta1, beta2, weightDecay,
                      gradientScale);
  }
  return nullptr;
}

KERNEL(adam) {
  Call call(env, info, "adam");
  const long offset = call.offset(5, "offset"), count = call.offset(6, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* m = call.floats(2, "m", end);
  float* v = call.floats(3, "v", end);
  float* vMax = call.floatsOrNull(4, "vMax", end);
  double values[7];
  static const char* const names[] = {"learningRate", "beta1", "beta2", "eps", "weightDecay", "step", "gradientScale"};
  for (int i = 0; i < 7; i++) values[i] = call.number(7 + i, names[i]);
  if (call.ok()) {
    call.table().adam(call.context(), p + offset, g + offset, m + offset, v + offset, vMax ? vMax + offset : nullptr, count, values[0],
                      values[1], values[2], values[3], values[4], values[5], values[6]);
  }
  return nullptr;
}

KERNEL(adafactor) {
  Call call(env, info, "adafactor");
  const long rowOffset = call.offset(3, "rowOffset"), columnOffset = call.offset(5, "columnOffset");
  const long offset = call.offset(6, "offset"), rows = call.size(7, "rows"), columns = call.size(8, "columns");
  const double end = double(offset) + double(rows) * double(columns);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* row = call.floats(2, "row", double(rowOffset) + double(rows));
  float* column = call.floatsOrNull(4, "column", double(columnOffset) + double(columns));
  AdafactorValues o;
  o.learningRate = call.number(9, "learningRate");
  o.step = call.number(10, "step");
  o.decayRate = call.number(11, "decayRate");
  o.eps1 = call.number(12, "eps1");
  o.eps2 = call.number(13, "eps2");
  o.clip = call.number(14, "clip");
  o.relative = call.flag(15, "relative");
  o.weightDecay = call.number(16, "weightDecay");
  o.gradientScale = call.number(17, "gradientScale");
  if (call.ok()) {
    call.table().adafactor(call.context(), p + offset, g + offset, row + rowOffset, column ? column + columnOffset : nullptr, rows,
                           columns, &o);
  }
  return nullptr;
}

KERNEL(scheduleFree) {
  Call call(env, info, "scheduleFree");
  const long offset = call.offset(5, "offset"), count = call.offset(6, "count");
  const double end = double(offset) + double(count);
  static const char* const arrays[] = {"p", "g", "z", "x", "v"};
  float* a[5];
  for (int i = 0; i < 5; i++) a[i] = call.floats(i, arrays[i], end);
  static const char* const names[] = {"learningRate", "beta1", "beta2", "eps", "weightDecay", "averaging", "step", "gradientScale"};
  double values[8];
  for (int i = 0; i < 8; i++) values[i] = call.number(7 + i, names[i]);
  const ScheduleFreeValues o = {values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7]};
  if (call.ok()) {
    call.table().scheduleFree(call.context(), a[0] + offset, a[1] + offset, a[2] + offset, a[3] + offset, a[4] + offset, count, &o);
  }
  return nullptr;
}

KERNEL(roundToBf16) {
  Call call(env, info, "roundToBf16");
  const long count = call.offset(2, "count");
  float* out = call.floats(0, "out", double(count));
  const float* x = call.floats(1, "x", double(count));
  if (call.ok()) call.table().roundToBf16(call.context(), out, x, count);
  return nullptr;
}

KERNEL(roundToF16) {
  Call call(env, info, "roundToF16");
  const long count = call.offset(2, "count");
  float* out = call.floats(0, "out", double(count));
  const float* x = call.floats(1, "x", double(count));
  if (call.ok()) call.table().roundToF16(call.context(), out, x, count);
  return nullptr;
}

KERNEL(chooseExperts) {
  Call call(env, info, "chooseExperts");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts"), K = call.size(6, "topK");
  float* weights = call.floats(0, "weights", double(N) * K);
  std::int32_t* experts = call.ints(1, "experts", double(N) * K);
  const float* probabilities = call.floats(2, "probabilities", double(N) * E);
  const float* bias = call.floats(3, "bias", E);
  const bool renormalise = call.flag(7, "renormalise");
  const float smallestSum = static_cast<float>(call.number(8, "smallestSum"));
  call.check(K <= E, "topK is larger than numExperts");
  if (call.ok()) {
    call.table().chooseExperts(call.context(), weights, experts, probabilities, bias, N, E, K, renormalise, smallestSum);
  }
  return nullptr;
}

KERNEL(zLoss) {
  Call call(env, info, "zLoss");
  const long N = call.size(2, "N"), E = call.size(3, "E");
  float* dLogits = call.floatsOrNull(0, "dLogits", double(N) * E);
  const float* logits = call.floats(1, "logits", double(N) * E);
  const float scale = static_cast<float>(call.number(4, "scale"));
  return call.ok() ? call.value(call.table().zLoss(call.context(), dLogits, logits, N, E, scale)) : nullptr;
}

KERNEL(muonMomentum) {
  Call call(env, info, "muonMomentum");
  const long offset = call.offset(2, "offset"), count = call.offset(3, "count");
  const double end = double(offset) + double(count);
  float* g = call.floats(0, "g", end);
  float* m = call.floats(1, "m", end);
  const double momentum = call.number(4, "momentum");
  const bool nesterov = call.flag(5, "nesterov");
  const double gradientScale = call.number(6, "gradientScale");
  if (call.ok()) call.table().muonMomentum(call.context(), g + offset, m + offset, count, momentum, nesterov, gradientScale);
  return nullptr;
}

/** Matrices of a batch: their offsets, and how many. Refuses those that leave x. */
const double* matrices(Call& call, int index, double xLength, long rows, long columns, long& count) {
  const double* offsets = call.doubles(index, "offsets", 0);
  count = static_cast<long>(call.length());
  const double size = double(rows) * columns;
  for (long i = 0; call.ok() && i < count; i++) {
    const bool holds = offsets[i] >= 0 && offsets[i] == std::floor(offsets[i]) && offsets[i] + size <= xLength;
    call.check(holds, "matrix " + std::to_string(i) + " does not lie within x");
  }
  return offsets;
}

KERNEL(newtonSchulz) {
  Call call(env, info, "newtonSchulz");
  const long rows = call.size(2, "rows"), columns = call.size(3, "columns");
  float* x = call.floats(0, "x", 0);
  const double length = double(call.length());
  long count = 0;
  const double* offsets = matrices(call, 1, length, rows, columns, count);
  const double* coefficients = call.doubles(4, "coefficients", 0);
  const long steps = static_cast<long>(call.length() / 3);
  const bool rounded = call.flag(5, "rounded");
  const int precision = rounded ? PRECISION_BF16 : call.context()->precision;
  if (call.ok()) call.table().newtonSchulz(call.context(), x, offsets, count, rows, columns, coefficients, steps, precision);
  return nullptr;
}

KERNEL(muonNormalise) {
  Call call(env, info, "muonNormalise");
  const long rows = call.size(2, "rows"), columns = call.size(3, "columns");
  float* x = call.floats(0, "x", 0);
  const double length = double(call.length());
  long count = 0;
  const double* offsets = matrices(call, 1, length, rows, columns, count);
  float* v = call.floats(4, "v", double(count) * rows);
  const double beta2 = call.number(5, "beta2");
  if (call.ok()) call.table().muonNormalise(call.context(), x, offsets, count, rows, columns, v, beta2);
  return nullptr;
}

KERNEL(muonUpdate) {
  Call call(env, info, "muonUpdate");
  const long offset = call.offset(2, "offset"), count = call.offset(3, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  const double rate = call.number(4, "rate"), decay = call.number(5, "decay");
  const bool cautious = call.flag(6, "cautious");
  if (call.ok()) call.table().muonUpdate(call.context(), p + offset, g + offset, count, rate, decay, cautious);
  return nullptr;
}

KERNEL(toBf16) {
  Call call(env, info, "toBf16");
  const float* x = call.floats(1, "x", 0);
  const std::size_t count = call.length();
  std::uint16_t* out = call.halves(0, "out", double(count));
  if (call.ok()) call.table().toBf16(call.context(), out, x, static_cast<long>(count));
  return nullptr;
}

KERNEL(fromBf16) {
  Call call(env, info, "fromBf16");
  const std::uint16_t* x = call.halves(1, "x", 0);
  const std::size_t count = call.length();
  float* out = call.floats(0, "out", double(count));
  if (call.ok()) call.table().fromBf16(call.context(), out, x, static_cast<long>(count));
  return nullptr;
}

KERNEL(toF16) {
  Call call(env, info, "toF16");
  const float* x = call.floats(1, "x", 0);
  const std::size_t count = call.length();
  std::uint16_t* out = call.halves(0, "out", double(count));
  if (call.ok()) call.table().toF16(call.context(), out, x, static_cast<long>(count));
  return nullptr;
}

KERNEL(fromF16) {
  Call call(env, info, "fromF16");
  const std::uint16_t* x = call.halves(1, "x", 0);
  const std::size_t count = call.length();
  float* out = call.floats(0, "out", double(count));
  if (call.ok()) call.table().fromF16(call.context(), out, x, static_cast<long>(count));
  return nullptr;
}

KERNEL(fillNormal) {
  Call call(env, info, "fillNormal");
  float* out = call.floats(0, "out", 0);
  const long count = static_cast<long>(call.length());
  const double mean = call.number(1, "mean"), deviation = call.number(2, "deviation");
  const auto word = [&](int index, const char* name) { return static_cast<std::uint32_t>(call.offset(index, name)); };
  const NormalStream stream = {word(3, "keyLow"), word(4, "keyHigh"), word(5, "stream"), word(6, "step")};
  const long start = call.offset(7, "start");
  if (call.ok()) call.table().fillNormal(call.context(), out, count, mean, deviation, stream, static_cast<double>(start));
  return nullptr;
}

KERNEL(exponential) {
  Call call(env, info, "exponential");
  const float* x = call.floats(1, "x", 0);
  const std::size_t count = call.length();
  float* y = call.floats(0, "y", double(count));
  if (call.ok()) call.table().exponential(call.context(), y, x, static_cast<long>(count));
  return nullptr;
}

struct Entry {
  const char* name;
  napi_callback function;
};

#define ENTRY(name) {#name, name}
const Entry KERNELS[] = {
    ENTRY(packedLength), ENTRY(pack),           ENTRY(hold),
    ENTRY(gemm),         ENTRY(linear),         ENTRY(linearBackward), ENTRY(groupedLinear),     ENTRY(groupedLinearBackward),
    ENTRY(embedding),    ENTRY(embeddingBackward), ENTRY(add),         ENTRY(rmsNorm),           ENTRY(rmsNormBackward),
    ENTRY(rope),         ENTRY(softmax),        ENTRY(swiglu),         ENTRY(swigluBackward),    ENTRY(attention),
    ENTRY(attentionBackward), ENTRY(router),    ENTRY(routerBackward), ENTRY(dispatch),          ENTRY(gather),
    ENTRY(gatherBackward), ENTRY(combine),      ENTRY(combineBackward), ENTRY(experts),          ENTRY(expertsBackward),
    ENTRY(crossEntropy), ENTRY(sumOfSquares),   ENTRY(adamw),          ENTRY(sgd),               ENTRY(lion),
    ENTRY(muonMomentum), ENTRY(newtonSchulz),   ENTRY(muonNormalise),  ENTRY(muonUpdate),        ENTRY(toBf16),
    ENTRY(fromBf16),     ENTRY(toF16),          ENTRY(fromF16),        ENTRY(fillNormal),        ENTRY(exponential),
    ENTRY(adam),         ENTRY(adafactor),      ENTRY(scheduleFree),   ENTRY(roundToBf16),       ENTRY(roundToF16),
    ENTRY(chooseExperts), ENTRY(zLoss),          ENTRY(linearBf16),     ENTRY(embeddingBf16),     ENTRY(expertsBf16),
    ENTRY(scale),        ENTRY(clamp),          ENTRY(clampBackward),  ENTRY(layerNorm),         ENTRY(layerNormBackward),
    ENTRY(ropeInterleaved), ENTRY(sparseMixer), ENTRY(sparseMixerBackward),
};

/** The instances of one environment. */
struct Instances {
  std::vector<std::unique_ptr<Instance>> all;
};

std::vector<std::string> strings(const Napi::Array& array) {
  std::vector<std::string> result;
  for (std::uint32_t i = 0; i < array.Length(); i++) result.push_back(array.Get(i).ToString());
  return result;
}

Napi::Array stringsOf(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (std::uint32_t i = 0; i < values.size(); i++) array.Set(i, values[i]);
  return array;
}

/** letGo(id): frees what `hold` packed; a closed instance holds nothing. */
Napi::Value letGo(const Napi::CallbackInfo& info) {
  Instance* instance = static_cast<Instance*>(info.Data());
  if (!instance->closed) instance->release(info[0].As<Napi::Number>().DoubleValue());
  return info.Env().Undefined();
}

Napi::Value close(const Napi::CallbackInfo& info) {
  Instance* instance = static_cast<Instance*>(info.Data());
  if (!instance->closed) instance->close();
  return info.Env().Undefined();
}

/** Precision of the products from here on; a whole number, as in options.ts. */
Napi::Value setPrecision(const Napi::CallbackInfo& info) {
  Instance* instance = static_cast<Instance*>(info.Data());
  if (!instance->closed) instance->context.precision = info[0].As<Napi::Number>().Int32Value();
  return info.Env().Undefined();
}

/** Bytes of scratch memory that an instance holds. */
Napi::Value bytes(const Napi::CallbackInfo& info) {
  const Instance* instance = static_cast<Instance*>(info.Data());
  return Napi::Number::New(info.Env(), instance->closed ? 0 : static_cast<double>(instance->pool->bytes()));
}

Napi::Object blasOf(Napi::Env env, const Blas& blas) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("vendor", blas.vendor);
  object.Set("version", blas.version);
  object.Set("path", blas.path);
  return object;
}

/**
 * create(isa, threads, precision, libraries, blasFrom): an object of kernels with close, bytes, isa, blas (null where none was
 * bound), and tried (what was wrong with libraries). The arguments were checked in TypeScript.
 */
Napi::Value create(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string isa = info[0].ToString();
  const KernelTable* table = nullptr;
  for (const KernelTable* candidate : usableLevels()) {
    if (!table && (isa.empty() || isa == candidate->name)) table = candidate;
  }
  if (!table) {
    Napi::RangeError::New(env, "the instruction set " + isa + " cannot be used here").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const int threads = info[1].ToNumber().Int32Value();
  const int precision = info[2].ToNumber().Int32Value();
  Blas blas;
  std::vector<std::string> tried;
  const bool bound = bindBlas(strings(info[3].As<Napi::Array>()), blas, tried);
  auto owned = std::make_unique<Instance>(table, threads, precision, blas, info[4].ToNumber().DoubleValue());
  Instance* instance = owned.get();
  env.GetInstanceData<Instances>()->all.push_back(std::move(owned));

  Napi::Object object = Napi::Object::New(env);
  for (const Entry& entry : KERNELS) {
    napi_value function = nullptr;
    napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.function, instance, &function);
    object.Set(entry.name, Napi::Value(env, function));
  }
  object.Set("close", Napi::Function::New(env, close, "close", instance));
  object.Set("letGo", Napi::Function::New(env, letGo, "letGo", instance));
  object.Set("bytes", Napi::Function::New(env, bytes, "bytes", instance));
  object.Set("setPrecision", Napi::Function::New(env, setPrecision, "setPrecision", instance));
  object.Set("isa", table->name);
  object.Set("nativePrecisions", table->nativePrecisions);
  object.Set("blas", bound ? Napi::Value(blasOf(env, blas)) : env.Null());
  object.Set("tried", stringsOf(env, tried));
  return object;
}

/** levels(): names of the instruction sets that were compiled in, and of those that run here, best first. */
Napi::Value levels(const Napi::CallbackInfo& info) {
  std::vector<std::string> usable;
  for (const KernelTable* table : usableLevels()) usable.push_back(table->name);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("compiled", stringsOf(info.Env(), compiledLevels()));
  object.Set("usable", stringsOf(info.Env(), usable));
  return object;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instances()); // deleted with the environment, which joins the threads
  exports.Set("create", Napi::Function::New(env, create, "create"));
  exports.Set("levels", Napi::Function::New(env, levels, "levels"));
  return exports;
}

} // namespace

NODE_API_MODULE(gemmoe, initialise)
