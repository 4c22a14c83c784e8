// Kernels that go over rows or elements once: norms, rope, softmax, SwiGLU, embedding, cross-entropy, casts.
#pragma once
#include "bf16.h"

namespace LEVEL {

static void embedding(Context* context, float* y, const float* table, const int32_t* ids, long N, long C) {
  parallelRows(context, N, N * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) memcpy(y + n * C, table + (long)ids[n] * C, sizeof(float) * C);
  });
}

/** Ids may repeat, so that threads share out the columns and not the rows. */
static void embeddingBf16(Context* context, float* y, const uint16_t* table, const int32_t* ids, long N, long C) {
  parallelRows(context, N, N * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const uint16_t* from = table + (long)ids[n] * C;
      float* to = y + n * C;
      long i = 0;
      for (; i + W <= C; i += W) store(to + i, widen(from + i));
      if (i < C) storePartial(to + i, widenPartial(from + i, C - i), C - i);
    }
  });
}

static void embeddingBackward(Context* context, float* dTable, const float* dy, const int32_t* ids, long N, long C) {
  const int parts = (int)most(1, least(partsFor(context, N * C), (C + W - 1) / W));
  parallel(context, parts, [=](int part) {
    const Range columns = rangeOf(C, W, part, parts);
    for (long n = 0; n < N; n++) {
      float* row = dTable + (long)ids[n] * C + columns.begin;
      const float* from = dy + n * C + columns.begin;
      forVectors(columns.end - columns.begin, [&](long i, auto load, auto store) { store(row + i, load(row + i) + load(from + i)); });
    }
  });
}

static void add(Context* context, float* y, const float* x, long count) {
  parallelVectors(context, count, [=](long i, auto load, auto store) { store(y + i, load(y + i) + load(x + i)); });
}

static void scale(Context* context, float* y, const float* x, float factor, long count) {
  parallelVectors(context, count, [=](long i, auto load, auto store) { store(y + i, load(x + i) * factor); });
}

static void clamp(Context* context, float* y, const float* x, float limit, long count) {
  parallelVectors(context, count, [=](long i, auto load, auto store) {
    const vf v = load(x + i), high = splat(limit), low = splat(-limit);
    store(y + i, v > high ? high : v < low ? low : v); // NaN stays
  });
}

static void clampBackward(Context* context, float* dx, const float* dy, const float* x, float limit, long count) {
  parallelVectors(context, count, [=](long i, auto load, auto store) {
    const vf v = load(x + i), d = load(dy + i);
    store(dx + i, v > splat(limit) ? vf{} : v < splat(-limit) ? vf{} : d);
  });
}

static void layerNorm(Context* context, float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta,
                      long N, long C, float eps) {
  parallelRows(context, N, 2 * N * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float* from = x + n * C;
      vf total{}, squares{};
      forVectors(C, [&](long i, auto load, auto) { total += load(from + i); });
      const float middle = sum(total) / (float)C;
      // lanes beyond the row are filled with the mean, which adds nothing
      forVectors(C, [&](long i, auto load, auto) {
        const vf centred = load(from + i, middle) - middle;
        squares += centred * centred;
      });
      const float r = 1.0f / sqrtf(sum(squares) / (float)C + eps);
      mean[n] = middle;
      rstd[n] = r;
      float* to = y + n * C;
      forVectors(C, [&](long i, auto load, auto store) {
        store(to + i, (load(from + i) - middle) * r * load(gamma + i) + load(beta + i));
      });
    }
  });
}

/** Σ x² of n values. */
INLINE float rowSquares(const float* x, long n) {
  vf first{}, second{};
  long i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    const vf a = load(x + i), b = load(x + i + W);
    first += a * a;
    second += b * b;
  }
  for (; i < n; i += W) {
    const vf a = n - i >= W ? load(x + i) : loadPartial(x + i, n - i);
    first += a * a;
  }
  return sum(first + second);
}

static void rmsNorm(Context* context, float* y, float* rstd, const float* x, const float* gamma, long N, long C, float eps) {
  parallelRows(context, N, N * C, [=](long begin, long end, int) {
    // W rows at a time: one root and one division for all of them
    for (long first = begin; first < end; first += W) {
      const long rows = least(W, end - first);
      float squares[W] = {};
      for (long r = 0; r < rows; r++) squares[r] = rowSquares(x + (first + r) * C, C);
      storePartial(rstd + first, 1.0f / squareRoot(load(squares) / (float)C + eps), rows);
      for (long n = first; n < first + rows; n++) {
        const float* from = x + n * C;
        float* to = y + n * C;
        const float scale = rstd[n];
        forVectors(C, [&](long i, auto load, auto store) { store(to + i, load(from + i) * scale * load(gamma + i)); });
      }
    }
  });
}

/** Rows that are summed before they are added to a total. */
constexpr long ROW_BLOCK = 64;

/** body(c, first, last, load, store) for columns from c on and each block of rows, one after the other; threads share the columns. */
template <class Body>
static void columnBlocks(Context* context, long N, long C, long elements, Body body) {
  const int parts = (int)most(1, least(partsFor(context, elements), (C + W - 1) / W));
  parallel(context, parts, [=](int part) {
    const Range columns = rangeOf(C, W, part, parts);
    for (long first = 0; first < N; first += ROW_BLOCK) {
      const long last = least(N, first + ROW_BLOCK);
      forVectors(columns.end - columns.begin,
                 [&](long i, auto load, auto store) { body(columns.begin + i, first, last, load, store); });
    }
  });
}

static void rmsNormBackward(Context* context, float* dx, float* dGamma, const float* dy, const float* x, const float* gamma,
                            const float* rstd, long N, long C) {
  parallelRows(context, N, 2 * N * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float *from = x + n * C, *d = dy + n * C;
      const float scale = rstd[n];
      vf dot{};
      forVectors(C, [&](long i, auto load, auto) { dot += load(d + i) * load(gamma + i) * load(from + i); });
      const float mean = sum(dot) * scale * scale * scale / (float)C;
      float* to = dx + n * C;
      forVectors(C, [&](long i, auto load, auto store) {
        store(to + i, load(to + i) + load(d + i) * load(gamma + i) * scale - load(from + i) * mean);
      });
    }
  });
  columnBlocks(context, N, C, N * C, [=](long c, long first, long last, auto load, auto store) {
    vf total{};
    for (long n = first; n < last; n++) total += load(dy + n * C + c) * load(x + n * C + c) * rstd[n];
    store(dGamma + c, load(dGamma + c) + total);
  });
}

static void layerNormBackward(Context* context, float* dx, float* dGamma, float* dBeta, const float* dy, const float* x,
                              const float* gamma, const float* mean, const float* rstd, long N, long C) {
  parallelRows(context, N, 3 * N * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float *from = x + n * C, *d = dy + n * C;
      const float middle = mean[n], r = rstd[n];
      vf total{}, dot{};
      forVectors(C, [&](long i, auto load, auto) {
        const vf g = load(d + i) * load(gamma + i); // 0 beyond the row
        total += g;
        dot += g * (load(from + i) - middle);
      });
      const float meanOfG = sum(total) / (float)C, meanOfDot = sum(dot) * r * r / (float)C;
      float* to = dx + n * C;
      forVectors(C, [&](long i, auto load, auto store) {
        const vf g = load(d + i) * load(gamma + i);
        store(to + i, load(to + i) + r * (g - meanOfG - (load(from + i) - middle) * meanOfDot));
      });
    }
  });
  columnBlocks(context, N, C, 2 * N * C, [=](long c, long first, long last, auto load, auto store) {
    vf forGamma{}, forBeta{};
    for (long n = first; n < last; n++) {
      const vf d = load(dy + n * C + c);
      forGamma += d * (load(x + n * C + c) - mean[n]) * rstd[n];
      forBeta += d;
    }
    store(dGamma + c, load(dGamma + c) + forGamma);
    store(dBeta + c, load(dBeta + c) + forBeta);
  });
}

/** Pairs of neighbours. */
static void ropeInterleaved(Context* context, float* x, long stride, const float* cosines, const float* sines,
                            const int32_t* positions, long N, long heads, long D, int inverse) {
  const long half = D / 2;
  const float sign = inverse ? -1.0f : 1.0f;
  parallelRows(context, N, N * heads * D, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float *c = cosines + positions[n] * half, *s = sines + positions[n] * half;
      for (long h = 0; h < heads; h++) {
        float* pair = x + n * stride + h * D;
        for (long i = 0; i < half; i++, pair += 2) {
          const float a = pair[0], b = pair[1], sine = sign * s[i];
          pair[0] = a * c[i] - b * sine;
          pair[1] = b * c[i] + a * sine;
        }
      }
    }
  });
}

static void rope(Context* context, float* x, long stride, const float* cosines, const float* sines, const int32_t* positions,
                 long N, long heads, long D, int inverse) {
  const long half = D / 2;
  const float sign = inverse ? -1.0f : 1.0f;
  parallelRows(context, N, N * heads * D, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float *c = cosines + positions[n] * half, *s = sines + positions[n] * half;
      for (long h = 0; h < heads; h++) {
        float *a = x + n * stride + h * D, *b = a + half;
        forVectors(half, [&](long i, auto load, auto store) {
          const vf first = load(a + i), second = load(b + i), cosine = load(c + i), sine = load(s + i) * sign;
          store(a + i, first * cosine - second * sine);
          store(b + i, second * cosine + first * sine);
        });
      }
    }
  });
}

/** Largest of n values; NaN only where all are NaN. */
INLINE float rowMaximum(const float* x, long n) {
  vf most = splat(-INFINITY);
  forVectors(n, [&](long i, auto load, auto) { most = maximum(load(x + i, -INFINITY), most); });
  return largest(most);
}

/** y = e^(x·scale - shift) of n values; their sum. y may be x. */
INLINE float exponentials(float* y, const float* x, long n, float scale, float shift) {
  vf first{}, second{};
  long i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    const vf a = exponential(load(x + i) * scale - shift), b = exponential(load(x + i + W) * scale - shift);
    store(y + i, a);
    store(y + i + W, b);
    first += a;
    second += b;
  }
  for (; i < n; i += W) {
    if (n - i >= W) {
      const vf a = exponential(load(x + i) * scale - shift);
      store(y + i, a);
      first += a;
    } else {
      const vf a = exponential(loadPartial(x + i, n - i, -INFINITY) * scale - shift);
      storePartial(y + i, a, n - i);
      first += a;
    }
  }
  return sum(first + second);
}

INLINE void scaleRow(float* y, long n, float factor) {
  forVectors(n, [&](long i, auto load, auto store) { store(y + i, load(y + i) * factor); });
}

static void softmaxRow(float* y, const float* x, long n) {
  const float total = exponentials(y, x, n, 1.0f, rowMaximum(x, n));
  scaleRow(y, n, 1.0f / total);
}

static void softmax(Context* context, float* y, const float* x, long rows, long n) {
  parallelRows(context, rows, rows * n * 4, [=](long begin, long end, int) {
    for (long r = begin; r < end; r++) softmaxRow(y + r * n, x + r * n, n);
  });
}

/** hidden [M,F] = SiLU(gate)·up for columns [begin,end) of F. */
INLINE void swigluBlock(float* hidden, const float* gateUp, long M, long F, long begin, long end) {
  for (long m = 0; m < M; m++) {
    const float *gate = gateUp + m * 2 * F + begin, *up = gate + F;
    float* to = hidden + m * F + begin;
    forVectors(end - begin, [&](long i, auto load, auto store) {
      const vf g = load(gate + i);
      store(to + i, g * sigmoid(g) * load(up + i));
    });
  }
}

static void swiglu(Context* context, float* hidden, const float* gateUp, long M, long F) {
  parallelRows(context, M, M * F * 8, [=](long begin, long end, int) {
    swigluBlock(hidden + begin * F, gateUp + begin * 2 * F, end - begin, F, 0, F);
  });
}

INLINE void swigluBackwardRows(float* dGateUp, const float* dHidden, const float* gateUp, long M, long F) {
  for (long m = 0; m < M; m++) {
    const float *gate = gateUp + m * 2 * F, *up = gate + F, *d = dHidden + m * F;
    float *dGate = dGateUp + m * 2 * F, *dUp = dGate + F;
    forVectors(F, [&](long i, auto load, auto store) {
      const vf g = load(gate + i), u = load(up + i), dh = load(d + i);
      const vf s = sigmoid(g);
      store(dUp + i, dh * g * s);
      store(dGate + i, dh * u * s * (1.0f + g * (1.0f - s)));
    });
  }
}

static void swigluBackward(Context* context, float* dGateUp, const float* dHidden, const float* gateUp, long M, long F) {
  parallelRows(context, M, M * F * 8, [=](long begin, long end, int) {
    swigluBackwardRows(dGateUp + begin * 2 * F, dHidden + begin * F, gateUp + begin * 2 * F, end - begin, F);
  });
}

/** Cross-entropy of one row; writes its gradient where there is one. */
INLINE double crossEntropyRow(float* gradient, const float* logits, int32_t target, long V, float scale, float* spare) {
  const float shift = rowMaximum(logits, V);
  const double chosen = (double)logits[target] - (double)shift;
  float* to = gradient ? gradient : spare;
  double total = 0;
  // sums of whole rows are kept in double precision: V may be 150,000
  constexpr long BLOCK = 1024;
  for (long i = 0; i < V; i += BLOCK) {
    const long count = least(BLOCK, V - i);
    total += (double)exponentials(gradient ? to + i : to, logits + i, count, 1.0f, shift);
  }
  if (gradient) {
    scaleRow(gradient, V, (float)((double)scale / total));
    gradient[target] -= scale;
  }
  return log(total) - chosen;
}

static double crossEntropy(Context* context, float* gradient, const float* logits, const int32_t* targets, long N, long V,
                           float scale) {
  double* losses = scratch<double>(context, 0, SLOT_SUMS, N);
  parallelRows(context, N, N * V * 4, [=](long begin, long end, int part) {
    float* spare = gradient ? nullptr : scratch<float>(context, part, SLOT_SCORES, 1024);
    for (long n = begin; n < end; n++) {
      float* row = gradient ? gradient + n * V : nullptr;
      losses[n] = 0;
      if (targets[n] != IGNORE_INDEX) losses[n] = crossEntropyRow(row, logits + n * V, targets[n], V, scale, spare);
      else if (row) memset(row, 0, sizeof(float) * V);
    }
  });
  double total = 0;
  for (long n = 0; n < N; n++) total += losses[n];
  return total;
}

static void toBf16(Context* context, uint16_t* out, const float* x, long count) {
  parallelRanges(context, count, [=](Range range) {
    for (long i = range.begin; i < range.end; i += W) {
      const long rest = least(W, range.end - i);
      const vi bits = bf16Bits(rest == W ? load(x + i) : loadPartial(x + i, rest));
      for (long j = 0; j < rest; j++) out[i + j] = (uint16_t)bits[j];
    }
  });
}

static void fromBf16(Context* context, float* out, const uint16_t* x, long count) {
  parallelRanges(context, count, [=](Range range) {
    for (long i = range.begin; i < range.end; i++) {
      const uint32_t bits = (uint32_t)x[i] << 16;
      memcpy(out + i, &bits, 4);
    }
  });
}

/** Half-precision bits of a float, rounded to nearest even. */
INLINE uint16_t halfBits(float value) {
  uint32_t b;
  memcpy(&b, &value, 4);
  const uint32_t sign = (b >> 16) & 0x8000, magnitude = b & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // 65520 and above round to infinity
  if (magnitude < 0x38800000) {                                  // subnormal: a multiple of 2^-24
    float x;
    memcpy(&x, &magnitude, 4);
    return (uint16_t)(sign | (uint32_t)nearbyintf(x * 16777216.0f));
  }
  const uint32_t rebased = magnitude - 0x38000000;
  return (uint16_t)(sign | ((rebased + 0xfff + ((rebased >> 13) & 1)) >> 13));
}

INLINE float halfValue(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 0x1f, fraction = h & 0x3ff;
  if (exponent == 0) {
    const float x = (float)fraction * 5.9604644775390625e-8f;
    return sign ? -x : x;
  }
  const uint32_t bits = exponent == 31 ? sign | 0x7f800000 | (fraction ? 0x400000 | fraction << 13 : 0)
                                       : sign | ((exponent + 112) << 23) | (fraction << 13);
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

static void toF16(Context* context, uint16_t* out, const float* x, long count) {
  parallelRanges(context, count, [=](Range range) {
    long i = range.begin;
#if defined(__AVX512F__)
    for (; i + W <= range.end; i += W) {
      const vf v = load(x + i);
      // the instruction keeps the payload of NaN, the definition does not
      const __m256i half = _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      _mm256_storeu_si256((__m256i*)(out + i), half);
      for (int j = 0; j < W; j++) if (v[j] != v[j]) out[i + j] = halfBits(v[j]);
    }
#endif
    for (; i < range.end; i++) out[i] = halfBits(x[i]);
  });
}

static void fromF16(Context* context, float* out, const uint16_t* x, long count) {
  parallelRanges(context, count, [=](Range range) {
    for (long i = range.begin; i < range.end; i++) out[i] = halfValue(x[i]);
  });
}

static void roundBf16(Context* context, float* out, const float* x, long count) {
  parallelVectors(context, count, [=](long i, auto load, auto store) { store(out + i, roundToBf16(load(x + i))); });
}

static void roundF16(Context* context, float* out, const float* x, long count) {
  parallelRanges(context, count, [=](Range range) {
    long i = range.begin;
#if defined(__AVX512F__)
    for (; i + W <= range.end; i += W) {
      const __m256i half = _mm512_cvtps_ph((__m512)load(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      store(out + i, (vf)_mm512_cvtph_ps(half));
    }
#endif
    for (; i < range.end; i++) out[i] = halfValue(halfBits(x[i]));
  });
}

static void exponentialOf(Context*, float* y, const float* x, long count) {
  forVectors(count, [&](long i, auto load, auto store) { store(y + i, exponential(load(x + i))); });
}

} // namespace LEVEL
