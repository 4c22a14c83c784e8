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

/** The normal value of a 32-bit word w: that below which a share of (w + ½) / 2^32 lies. */
export function normalQuantile(word: number): number {
  const isLow = word < 0x80000000;
  const tail = isLow ? word : 0xffffffff - word;
  const p = (tail + 0.5) / 2 ** 32;
  const q = 0.5 - p;
  let value: number;
  if (q <= 0.425) {
    const r = 0.180625 - q * q;
    value =
      (q *
        (((((((2509.0809287301226727 * r + 33430.575583588128105) * r + 67265.770927008700853) * r +
          45921.953931549871457) *
          r +
          13731.693765509461125) *
          r +
          1971.5909503065514427) *
          r +
          133.14166789178437745) *
          r +
          3.387132872796366608)) /
      (((((((5226.495278852854561 * r + 28729.085735721942674) * r + 39307.89580009271061) * r +
        21213.794301586595867) *
        r +
        5394.1960214247511077) *
        r +
        687.1870074920579083) *
        r +
        42.313330701600911252) *
        r +
        1);
  } else {
    const r = Math.sqrt(-logOfTail(2 * tail + 1)) - 1.6;
    value =
      (((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r + 0.24178072517745061177) * r +
        1.27045825245236838258) *
        r +
        3.64784832476320460504) *
        r +
        5.7694972214606914055) *
        r +
        4.6303378461565452959) *
        r +
        1.42343711074968357734) /
      (((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r + 0.0151986665636164571966) * r +
        0.14810397642748007459) *
        r +
        0.68976733498510000455) *
        r +
        1.6763848301838038494) *
        r +
        2.05319162663775882187) *
        r +
        1);
  }
  return isLow ? -value : value;
}
