// The vector of this level: W floats that add and multiply with the usual operators, and the few operations that have none.
//
// GCC's vector extensions (clang has them too) give one source for SSE2, AVX2, AVX-512 and NEON. Intrinsics stand only where
// the extensions have no good form: partial loads, sums over a vector, transposition.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace LEVEL {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));
typedef float vfUnaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define ONE_COPY __attribute__((noinline))
#else
#define ONE_COPY __attribute__((noipa))
#endif

INLINE vf load(const float* p) { return *(const vfUnaligned*)p; }
INLINE void store(float* p, vf v) { *(vfUnaligned*)p = v; }
INLINE vf splat(float x) { return x - vf{}; } // not x + 0, which would turn -0 into 0
INLINE vi splatInt(int32_t x) { return x - vi{}; }
INLINE vf asFloat(vi x) { return (vf)x; }
INLINE vi asInt(vf x) { return (vi)x; }
INLINE vf maximum(vf a, vf b) { return a > b ? a : b; } // b where either is NaN
INLINE vf minimum(vf a, vf b) { return a < b ? a : b; }
INLINE vf absolute(vf x) { return asFloat(asInt(x) & 0x7fffffff); }
INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE long most(long a, long b) { return a > b ? a : b; }
INLINE long roundUp(long x, long unit) { return (x + unit - 1) / unit * unit; }

/** The first `count` < W floats, `fill` in the others. */
INLINE vf loadPartial(const float* p, long count, float fill = 0) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_loadu_ps((__m512)splat(fill), (__mmask16)((1u << count) - 1), p);
#else
  float whole[W];
  for (int i = 0; i < W; i++) whole[i] = i < count ? p[i] : fill;
  return load(whole);
#endif
}

INLINE void storePartial(float* p, vf v, long count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
#else
  float whole[W];
  store(whole, v);
  for (long i = 0; i < count; i++) p[i] = whole[i];
#endif
}

/** Sum of the lanes. */
INLINE float sum(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
  __m128 x = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
#elif defined(__aarch64__)
  return vaddvq_f32((float32x4_t)v);
#else
  return (v[0] + v[1]) + (v[2] + v[3]);
#endif
}

/** Sum of the lanes in double precision. */
INLINE double sumDouble(vf v) {
  double total = 0;
  for (int i = 0; i < W; i++) total += (double)v[i];
  return total;
}

/** Largest lane; NaN may be passed over. */
INLINE float largest(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float m = v[0];
  for (int i = 1; i < W; i++) m = v[i] > m ? v[i] : m;
  return m;
#endif
}

/** sqrt of each lane. */
INLINE vf squareRoot(vf v) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)v);
#elif defined(__x86_64__)
  return (vf)_mm_sqrt_ps((__m128)v);
#elif defined(__aarch64__)
  return (vf)vsqrtq_f32((float32x4_t)v);
#else
  for (int i = 0; i < W; i++) v[i] = sqrtf(v[i]);
  return v;
#endif
}

/** Whether any lane is infinite or NaN. */
INLINE bool anyNonFinite(vf v) {
  vi exponent = asInt(v) & 0x7f800000;
  vi found = exponent == 0x7f800000;
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)found, (__m512i)found) != 0;
#else
  int32_t any = 0;
  for (int i = 0; i < W; i++) any |= found[i];
  return any != 0;
#endif
}

/**
 * e^x to within 1 ulp: x = n·ln 2 + f with |f| <= ln 2 / 2, the polynomial of Cephes' expf for e^f, then 2^n in two factors so
 * that the ends of the range (denormal results, infinity) come out right. NaN stays NaN.
 */
INLINE vf exponential(vf x) {
  const float magic = 12582912.0f; // 1.5·2^23: adding it rounds to a whole number
  vf y = x > splat(89.0f) ? splat(89.0f) : x;
  y = y < splat(-104.0f) ? splat(-104.0f) : y;
  vf shifted = y * 1.44269504088896341f + magic;
  vi n = asInt(shifted) - asInt(splat(magic));
  vf whole = shifted - magic;
  vf f = whole * -0.693359375f + y;
  f = whole * 2.12194440e-4f + f;
  vf p = f * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * (f * f) + f;
  p = p + 1.0f;
  vi half = n >> 1;
  vf first = asFloat((half + 127) << 23);
  vf second = asFloat((n - half + 127) << 23);
  return p * first * second;
}

/** 1 / (1 + e^-x). */
INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + exponential(-x)); }

/** Calls body(i, load, store) over `count` elements: whole vectors, then what is left of one. */
template <class Body>
INLINE void forVectors(long count, Body body) {
  long i = 0;
  for (; i + W <= count; i += W) {
    body(i, [](const float* p, float = 0) { return load(p); }, [](float* p, vf v) { store(p, v); });
  }
  if (i < count) {
    const long rest = count - i;
    body(i, [rest](const float* p, float fill = 0) { return loadPartial(p, rest, fill); },
         [rest](float* p, vf v) { storePartial(p, v, rest); });
  }
}

/** Splits [0, count) in `parts` ranges of whole `unit`s, as even as can be. */
struct Range {
  long begin, end;
};
INLINE Range rangeOf(long count, long unit, int part, int parts) {
  const long units = (count + unit - 1) / unit;
  return {least(count, units * part / parts * unit), least(count, units * (part + 1) / parts * unit)};
}

/**
 * body(part). One copy of it in machine code serves any number of threads: in two copies the compiler may contract a·b + c in
 * different places, and the bits would depend on the threads.
 */
template <class Body>
ONE_COPY static void runPart(void* body, int part) {
  const Body own = *(const Body*)body; // which no store can reach, so that what it holds stays in registers
  own(part);
}

/** body(part) on `parts` threads. */
template <class Body>
static void parallel(Context* context, int parts, Body body) {
  if (parts <= 1) return runPart<Body>(&body, 0);
  context->run(context, runPart<Body>, &body, parts);
}

/** Work, in elements touched once, below which a second thread costs more than it saves. */
constexpr long PARALLEL_ELEMENTS = 32768;

/** Threads for work on `elements` numbers: never more than have something to do. */
INLINE int partsFor(const Context* context, long elements, long perPart = PARALLEL_ELEMENTS) {
  return (int)most(1, least(context->threads, elements / perPart));
}

/** body(begin, end) over rows, on as many threads as `elements` numbers are worth. */
template <class Body>
static void parallelRows(Context* context, long rows, long elements, Body body) {
  const int parts = (int)most(1, least(partsFor(context, elements), rows));
  parallel(context, parts, [=](int part) {
    const Range range = rangeOf(rows, 1, part, parts);
    if (range.begin < range.end) body(range.begin, range.end, part);
  });
}

/** body(range) over `count` elements, of which `worth` are worth a thread; ranges begin at multiples of `unit`. */
template <class Body>
static void parallelRanges(Context* context, long count, Body body, long worth = PARALLEL_ELEMENTS, long unit = W) {
  const int parts = partsFor(context, count, worth);
  parallel(context, parts, [=](int part) { body(rangeOf(count, unit, part, parts)); });
}

/** As forVectors, on threads. */
template <class Body>
static void parallelVectors(Context* context, long count, Body body, long worth = PARALLEL_ELEMENTS, long unit = W) {
  const auto overRange = [=](Range range) {
    forVectors(range.end - range.begin, [&](long i, auto load, auto store) { body(range.begin + i, load, store); });
  };
  parallelRanges(context, count, overRange, worth, unit);
}

template <class T>
INLINE T* scratch(Context* context, int part, int slot, long count) {
  return (T*)context->scratch(context, part, slot, (size_t)count * sizeof(T));
}

} // namespace LEVEL
