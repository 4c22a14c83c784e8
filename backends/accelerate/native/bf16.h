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

} // namespace LEVEL
