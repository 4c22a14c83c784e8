// Calls of products: gemm, linear, grouped linear, and what packs their weights.
#pragma once
#include "call.h"

namespace {

/** Elements of an array that a matrix [rows,columns] in it takes up. */
double matrixEnd(long offset, long rows, long columns, long stride) {
  return rows == 0 || columns == 0 ? 0 : double(offset) + double(rows - 1) * stride + columns;
}

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
  const float* a = call.floats(6, "A", matrixEnd(aOffset, transA ? k : m, transA ? m : k, lda));
  const float* b = call.floats(9, "B", matrixEnd(bOffset, transB ? n : k, transB ? k : n, ldb));
  float* c = call.floats(13, "C", matrixEnd(cOffset, m, n, ldc));
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
  const float* b = call.floats(4, "B", matrixEnd(bOffset, rows, columns, ldb));
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

const Entry PRODUCT_CALLS[] = {
    ENTRY(gemm), ENTRY(packedLength), ENTRY(pack), ENTRY(hold), ENTRY(linear), ENTRY(linearBf16), ENTRY(linearBackward),
    ENTRY(groupedLinear), ENTRY(groupedLinearBackward),
};

} // namespace
