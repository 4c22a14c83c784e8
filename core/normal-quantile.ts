// Normal values from random words: the inverse of the normal distribution function (Wichura 1988, algorithm AS 241, PPND16).
//
// Only additions, multiplications, divisions and square roots, which IEEE 754 fixes to the last bit: the same word gives the same
// value in every version of Node.js, on every machine, and in C++ (backends/accelerate/native/normal.cc, operation for operation).
// Math.log and Math.cos promise no such thing.

const LN2 = 0.6931471805599453;

/** Natural logarithm of z / 2^33 for a whole z from 1 to 2^32 - 1. */
function logOfTail(z: number): number {
  let exponent = 31 - Math.clz32(z);
  let mantissa = z / 2 ** exponent;
  if (mantissa > Math.SQRT2) {
    mantissa = mantissa / 2;
    exponent++;
  }
  // log m = 2·atanh((m-1)/(m+1))
  const s = (mantissa - 1) / (mantissa + 1);
  const t = s * s;
  let sum = 1 / 21;
  for (let divisor = 19; divisor >= 1; divisor -= 2) sum = sum * t + 1 / divisor;
  return (exponent - 33) * LN2 + 2 * s * sum;
}

/** Numerator and divisor for |p - ½| <= 0.425, in r = 0.425² - (p - ½)²; highest power first. */
const CENTRAL = [
  2509.0809287301227, 33430.57558358813, 67265.7709270087, 45921.95393154987, 13731.69376550946, 1971.5909503065513,
  133.14166789178438, 3.3871328727963665,
];
const CENTRAL_DIVISOR = [
  5226.495278852854, 28729.085735721943, 39307.89580009271, 21213.794301586597, 5394.196021424751, 687.1870074920579,
  42.31333070160091, 1,
];
/** Numerator and divisor beyond, in r = √(-log p) - 1.6. */
const TAIL = [
  0.0007745450142783414, 0.022723844989269184, 0.2417807251774506, 1.2704582524523684, 3.6478483247632045,
  5.769497221460691, 4.630337846156546, 1.4234371107496835,
];
const TAIL_DIVISOR = [
  1.0507500716444169e-9, 0.0005475938084995345, 0.015198666563616457, 0.14810397642748008, 0.6897673349851,
  1.6763848301838038, 2.053191626637759, 1,
];

/** c[0]·r^7 + … + c[7]. */
function polynomial(coefficients: readonly number[], r: number): number {
  let value = coefficients[0];
  for (let i = 1; i < 8; i++) value = value * r + coefficients[i];
  return value;
}

/** The normal value of a 32-bit word w: that below which a share of (w + ½) / 2^32 lies. */
export function normalQuantile(word: number): number {
  const isLow = word < 0x80000000;
  const tail = isLow ? word : 0xffffffff - word;
  const p = (tail + 0.5) / 2 ** 32;
  const q = 0.5 - p;
  let value: number;
  if (q <= 0.425) {
    const r = 0.180625 - q * q;
    value = (q * polynomial(CENTRAL, r)) / polynomial(CENTRAL_DIVISOR, r);
  } else {
    const r = Math.sqrt(-logOfTail(2 * tail + 1)) - 1.6;
    value = polynomial(TAIL, r) / polynomial(TAIL_DIVISOR, r);
  }
  return isLow ? -value : value;
}
