// Casts between floats and the 16-bit formats that checkpoints hold, as bits in a Uint16Array.

import type { FloatArray } from '../tensor/dtype.ts';

const single = new Float32Array(1);
const bits = new Uint32Array(single.buffer);

/** out = bfloat16 of x: the upper half of float32, rounded to nearest even; NaN stays a quiet NaN. */
export function toBf16(out: Uint16Array, x: FloatArray): void {
  for (let i = 0; i < x.length; i++) {
    single[0] = x[i];
    const b = bits[0];
    out[i] = x[i] !== x[i] ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
}

/** out = floats of bfloat16 bits; exact. */
export function fromBf16(out: FloatArray, x: Uint16Array): void {
  for (let i = 0; i < x.length; i++) {
    bits[0] = x[i] << 16;
    out[i] = single[0];
  }
}

/** out = IEEE half of x, rounded to nearest even; beyond 65504 it becomes Infinity. */
export function toF16(out: Uint16Array, x: FloatArray): void {
  for (let i = 0; i < x.length; i++) {
    single[0] = x[i];
    out[i] = halfOf(bits[0]);
  }
}

/** out = floats of IEEE half bits; exact. */
export function fromF16(out: FloatArray, x: Uint16Array): void {
  for (let i = 0; i < x.length; i++) {
    const sign = x[i] & 0x8000 ? -1 : 1;
    const exponent = (x[i] >>> 10) & 0x1f;
    const fraction = x[i] & 0x3ff;
    if (exponent === 0) out[i] = sign * fraction * 2 ** -24;
    else if (exponent === 31) out[i] = fraction ? Number.NaN : sign * Infinity;
    else out[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
}

/** out [count] = x rounded to bfloat16: the lower half of float32 rounded away to even; NaN stays. */
export function roundToBf16(out: FloatArray, x: FloatArray, count: number): void {
  for (let i = 0; i < count; i++) {
    const value = x[i];
    if (value !== value) {
      out[i] = value;
      continue;
    }
    single[0] = value;
    const b = bits[0];
    bits[0] = (b + 0x7fff + ((b >>> 16) & 1)) & 0xffff0000;
    out[i] = single[0];
  }
}

/** Below it halves are multiples of 2^-24. */
const LEAST_NORMAL_HALF = 2 ** -14;
/** From here on halves are infinite. */
const HALF_OVERFLOW = 65520;

/** out [count] = x rounded to IEEE half. */
export function roundToF16(out: FloatArray, x: FloatArray, count: number): void {
  for (let i = 0; i < count; i++) {
    single[0] = x[i];
    const value = single[0];
    const magnitude = Math.abs(value);
    if (magnitude >= LEAST_NORMAL_HALF && magnitude < HALF_OVERFLOW) {
      const b = bits[0];
      bits[0] = (b + 0xfff + ((b >>> 13) & 1)) & 0xffffe000;
      out[i] = single[0];
    } else if (magnitude < LEAST_NORMAL_HALF) {
      out[i] = Math.sign(value) * roundToEven(magnitude * 2 ** 24) * 2 ** -24;
    } else {
      out[i] = value * Infinity; // NaN stays
    }
  }
}

/** Half bits of float32 bits. */
function halfOf(b: number): number {
  const sign = (b >>> 16) & 0x8000;
  const magnitude = b & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and above round to Infinity
  if (magnitude < 0x38800000) {
    // subnormal: a multiple of 2^-24, rounded by adding and taking away
    single[0] = Math.abs(toFloat(b)) * 2 ** 24;
    return sign | roundToEven(single[0]);
  }
  const rebased = magnitude - 0x38000000;
  return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
}

function toFloat(b: number): number {
  bits[0] = b;
  return single[0];
}

function roundToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest > 0.5 || (rest === 0.5 && floor % 2 === 1)) return floor + 1;
  return floor;
}
