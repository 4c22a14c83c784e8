// Normal values, bit for bit those of core/random.ts and core/normal-quantile.ts: Philox4x32-10, then the normal quantile. Compiled
// without contraction (no fused multiply-add), as JavaScript has none. Plain loops over a block, which the compiler turns to vectors.
#include <math.h>
#include <string.h>

#include "kernels.h"

namespace LEVEL {

void fillNormals(float* out, long count, double mean, double deviation, NormalStream stream, double start);

namespace {

constexpr int BLOCKS = 64;
/** Values that are made at once. */
constexpr int VALUES = 4 * BLOCKS;

/** Words 4·first … 4·first + VALUES - 1 of a stream, word j of all blocks before word j + 1 of any. */
inline void philox(uint32_t words[VALUES], uint64_t first, NormalStream stream) {
  uint32_t* c0 = words;
  uint32_t* c1 = words + BLOCKS;
  uint32_t* c2 = words + 2 * BLOCKS;
  uint32_t* c3 = words + 3 * BLOCKS;
  for (int i = 0; i < BLOCKS; i++) {
    c0[i] = (uint32_t)(first + i);
    c1[i] = (uint32_t)((first + i) >> 32);
    c2[i] = stream.step;
    c3[i] = stream.stream;
  }
  uint32_t key0 = stream.keyLow, key1 = stream.keyHigh;
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < BLOCKS; i++) {
      const uint64_t a = (uint64_t)0xd2511f53u * c0[i], b = (uint64_t)0xcd9e8d57u * c2[i];
      c0[i] = (uint32_t)(b >> 32) ^ c1[i] ^ key0;
      c1[i] = (uint32_t)b;
      c2[i] = (uint32_t)(a >> 32) ^ c3[i] ^ key1;
      c3[i] = (uint32_t)a;
    }
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
}

/** Logarithm of z / 2^33; see logOfTail in core/normal-quantile.ts. */
inline double logOfTail(double z) {
  union {
    double value;
    uint64_t bits;
  } u = {z};
  int64_t exponent = (int64_t)(u.bits >> 52) - 1023;
  u.bits = (u.bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
  const bool large = u.value > 1.4142135623730951;
  const double mantissa = large ? u.value / 2 : u.value;
  exponent += large ? 1 : 0;
  const double s = (mantissa - 1) / (mantissa + 1), t = s * s;
  double sum = 1.0 / 21;
  sum = sum * t + 1.0 / 19;
  sum = sum * t + 1.0 / 17;
  sum = sum * t + 1.0 / 15;
  sum = sum * t + 1.0 / 13;
  sum = sum * t + 1.0 / 11;
  sum = sum * t + 1.0 / 9;
  sum = sum * t + 1.0 / 7;
  sum = sum * t + 1.0 / 5;
  sum = sum * t + 1.0 / 3;
  sum = sum * t + 1.0 / 1;
  return (double)(int32_t)(exponent - 33) * 0.6931471805599453 + 2 * s * sum;
}

/** The smaller of p and 1 - p is (tail + 0.5) / 2^32; below 2^31. */
inline double tailOf(uint32_t word) {
  return (double)(int32_t)(word < 0x80000000u ? word : 0xffffffffu - word);
}

inline double signedAs(uint32_t word, double value) { return word < 0x80000000u ? -value : value; }

/** 0.5 - p, and where the rational function of the centre ends. */
inline double distance(uint32_t word) { return 0.5 - (tailOf(word) + 0.5) / 4294967296.0; }
constexpr double CENTRE = 0.425;

/** The quantile within CENTRE of the median. */
inline double centralQuantile(uint32_t word) {
  const double q = distance(word), r = 0.180625 - q * q;
  const double value =
      (q * (((((((2509.0809287301226727 * r + 33430.575583588128105) * r + 67265.770927008700853) * r + 45921.953931549871457) * r +
               13731.693765509461125) * r + 1971.5909503065514427) * r + 133.14166789178437745) * r + 3.387132872796366608)) /
      (((((((5226.495278852854561 * r + 28729.085735721942674) * r + 39307.89580009271061) * r + 21213.794301586595867) * r +
          5394.1960214247511077) * r + 687.1870074920579083) * r + 42.313330701600911252) * r + 1);
  return signedAs(word, value);
}

/** The quantile further out. */
inline double farQuantile(uint32_t word) {
  const double r = sqrt(-logOfTail(2 * tailOf(word) + 1)) - 1.6;
  const double value =
      (((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r + 0.24178072517745061177) * r + 1.27045825245236838258) * r +
          3.64784832476320460504) * r + 5.7694972214606914055) * r + 4.6303378461565452959) * r + 1.42343711074968357734) /
      (((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r + 0.0151986665636164571966) * r +
          0.14810397642748007459) * r + 0.68976733498510000455) * r + 1.6763848301838038494) * r + 2.05319162663775882187) * r + 1);
  return signedAs(word, value);
}

/** values = normal quantiles of words. The far ones, 15 in 100, are gathered and made together: they cost three times as much. */
inline void normalQuantiles(double values[VALUES], const uint32_t words[VALUES]) {
  int isFar[VALUES], far[VALUES], count = 0;
  for (int i = 0; i < VALUES; i++) {
    values[i] = centralQuantile(words[i]);
    isFar[i] = distance(words[i]) > CENTRE;
  }
  for (int i = 0; i < VALUES; i++) {
    far[count] = i;
    count += isFar[i];
  }
  constexpr int TOGETHER = 8;
  for (int first = 0; first < count; first += TOGETHER) {
    uint32_t tails[TOGETHER];
    double made[TOGETHER];
    for (int i = 0; i < TOGETHER; i++) tails[i] = words[first + i < count ? far[first + i] : far[first]];
    for (int i = 0; i < TOGETHER; i++) made[i] = farQuantile(tails[i]);
    for (int i = 0; i < TOGETHER && first + i < count; i++) values[far[first + i]] = made[i];
  }
}

} // namespace

/** out [count] = mean + deviation·normal; element i depends on the stream and start + i alone. */
void fillNormals(float* out, long count, double mean, double deviation, NormalStream stream, double start) {
  const uint64_t begin = (uint64_t)start;
  long at = 0;
  while (at < count) {
    const uint64_t element = begin + (uint64_t)at, first = element / 4;
    alignas(64) uint32_t words[VALUES];
    alignas(64) double values[VALUES];
    philox(words, first, stream);
    normalQuantiles(values, words);
    float floats[VALUES], inOrder[VALUES];
    for (int i = 0; i < VALUES; i++) floats[i] = (float)(mean + deviation * values[i]);
    for (int i = 0; i < BLOCKS; i++) {
      for (int j = 0; j < 4; j++) inOrder[4 * i + j] = floats[j * BLOCKS + i];
    }
    const long skipped = (long)(element % 4), left = count - at;
    const long made = left < VALUES - skipped ? left : VALUES - skipped;
    memcpy(out + at, inOrder + skipped, sizeof(float) * (size_t)made);
    at += made;
  }
}

} // namespace LEVEL
