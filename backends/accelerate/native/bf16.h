// bfloat16 in 32-bit lanes: the upper half of a float32.
#pragma once
#include "simd.h"

namespace LEVEL {

/** Bits of x rounded to bfloat16 (to nearest even), in the low half of each lane; NaN stays a quiet NaN. */
INLINE vi bf16Bits(vf x) {
  const vi bits = asInt(x);
  const vi upper = (bits >> 16) & 0xffff;
  const vi rounded = ((bits + 0x7fff + (upper & 1)) >> 16) & 0xffff;
  return x == x ? rounded : (upper | 0x40);
}

/** x rounded to bfloat16. */
INLINE vf roundToBf16(vf x) { return asFloat(bf16Bits(x) << 16); }

/** W floats of bfloat16 bits. */
INLINE vf widen(const uint16_t* p) {
#if defined(__AVX512F__)
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
#elif defined(__AVX2__)
  return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16);
#elif defined(__aarch64__)
  return (vf)vshll_n_u16(vld1_u16(p), 16);
#else
  vi bits;
  for (int i = 0; i < W; i++) bits[i] = (int32_t)((uint32_t)p[i] << 16);
  return asFloat(bits);
#endif
}

/** The first `count` < W of them, zeros in the others. */
INLINE vf widenPartial(const uint16_t* p, long count) {
  uint16_t whole[W] = {};
  memcpy(whole, p, sizeof(uint16_t) * (size_t)count);
  return widen(whole);
}

} // namespace LEVEL
