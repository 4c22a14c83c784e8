// Packing of op(B) into panels of NR columns, [k][NR] each, so that the product reads it as it runs: a plain copy where B is
// stored [k,n], a transposition in registers where it is stored [n,k].
#pragma once
#include "simd.h"

namespace LEVEL {

/** Columns of a panel: two vectors. */
constexpr int NR = 2 * W;

/** Turns four vectors of rows into four of columns, within each group of four lanes. */
INLINE void transposeLanes(vf& a, vf& b, vf& c, vf& d) {
#if defined(__AVX512F__)
  __m512 ab = _mm512_unpacklo_ps((__m512)a, (__m512)b), abHigh = _mm512_unpackhi_ps((__m512)a, (__m512)b);
  __m512 cd = _mm512_unpacklo_ps((__m512)c, (__m512)d), cdHigh = _mm512_unpackhi_ps((__m512)c, (__m512)d);
  a = (vf)_mm512_shuffle_ps(ab, cd, 0x44);
  b = (vf)_mm512_shuffle_ps(ab, cd, 0xee);
  c = (vf)_mm512_shuffle_ps(abHigh, cdHigh, 0x44);
  d = (vf)_mm512_shuffle_ps(abHigh, cdHigh, 0xee);
#elif defined(__AVX2__)
  __m256 ab = _mm256_unpacklo_ps((__m256)a, (__m256)b), abHigh = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  __m256 cd = _mm256_unpacklo_ps((__m256)c, (__m256)d), cdHigh = _mm256_unpackhi_ps((__m256)c, (__m256)d);
  a = (vf)_mm256_shuffle_ps(ab, cd, 0x44);
  b = (vf)_mm256_shuffle_ps(ab, cd, 0xee);
  c = (vf)_mm256_shuffle_ps(abHigh, cdHigh, 0x44);
  d = (vf)_mm256_shuffle_ps(abHigh, cdHigh, 0xee);
#elif defined(__x86_64__)
  __m128 w = (__m128)a, x = (__m128)b, y = (__m128)c, z = (__m128)d;
  _MM_TRANSPOSE4_PS(w, x, y, z);
  a = (vf)w, b = (vf)x, c = (vf)y, d = (vf)z;
#elif defined(__aarch64__)
  float32x4x2_t ab = vtrnq_f32((float32x4_t)a, (float32x4_t)b), cd = vtrnq_f32((float32x4_t)c, (float32x4_t)d);
  a = (vf)vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
  b = (vf)vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
  c = (vf)vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
  d = (vf)vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
#else
  vf w = a, x = b, y = c, z = d;
  a = vf{w[0], x[0], y[0], z[0]}, b = vf{w[1], x[1], y[1], z[1]};
  c = vf{w[2], x[2], y[2], z[2]}, d = vf{w[3], x[3], y[3], z[3]};
#endif
}

/** Four floats of each of W / 4 rows that stand 4·stride apart. */
INLINE vf loadQuads(const float* p, long stride) {
#if defined(__AVX512F__)
  __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(p));
  v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 4 * stride), 1);
  v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 8 * stride), 2);
  return (vf)_mm512_insertf32x4(v, _mm_loadu_ps(p + 12 * stride), 3);
#elif defined(__AVX2__)
  return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * stride), 1);
#else
  (void)stride;
  return load(p);
#endif
}

/** out [k][outStride] = x [W][stride] transposed, k = 0 … count-1. */
INLINE void transposeRows(float* out, long outStride, const float* x, long stride, long count) {
  long p = 0;
  for (; p + 4 <= count; p += 4) {
    vf a = loadQuads(x + p, stride), b = loadQuads(x + stride + p, stride);
    vf c = loadQuads(x + 2 * stride + p, stride), d = loadQuads(x + 3 * stride + p, stride);
    transposeLanes(a, b, c, d);
    store(out + p * outStride, a);
    store(out + (p + 1) * outStride, b);
    store(out + (p + 2) * outStride, c);
    store(out + (p + 3) * outStride, d);
  }
  for (; p < count; p++) {
    for (int i = 0; i < W; i++) out[p * outStride + i] = x[i * stride + p];
  }
}

/** panel [k][NR] = `columns` <= NR columns of a B whose element (p,j) is b[p·row + j·column], zeros in the rest. */
static void packPanel(float* panel, const float* b, long row, long column, long k, long columns) {
  if (column == 1) {
    if (columns == NR) {
      for (long p = 0; p < k; p++) {
        store(panel + p * NR, load(b + p * row));
        store(panel + p * NR + W, load(b + p * row + W));
      }
      return;
    }
    for (long p = 0; p < k; p++) {
      for (int v = 0; v < NR; v += W) {
        const long rest = columns - v;
        vf x = rest >= W ? load(b + p * row + v) : rest > 0 ? loadPartial(b + p * row + v, rest) : vf{};
        store(panel + p * NR + v, x);
      }
    }
    return;
  }
  for (int v = 0; v < NR; v += W) {
    if (columns - v >= W) {
      transposeRows(panel + v, NR, b + v * column, column, k);
      continue;
    }
    for (long p = 0; p < k; p++) {
      for (int j = 0; j < W; j++) panel[p * NR + v + j] = v + j < columns ? b[(v + j) * column + p] : 0;
    }
  }
}

} // namespace LEVEL
