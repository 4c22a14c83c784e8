// Products of bfloat16 operands, summed in float32: one part (`bf16`), or operands split in two or three parts whose products
// together are as good as 16 bits (`bf16x2`) or as float32 (`bf16x3`, Henry, Tang, Heinecke 2019).
//
// With x = x0 + x1 + x2, each part the rest of the ones before rounded to bfloat16, x is exact in three parts. The products kept
// are those above the last bit of a float32: a0b0, a0b1, a1b0, a0b2, a1b1, a2b0; the small ones are summed first.
//
// Layouts, in 32-bit words of two consecutive k: a block of A is [part][rows][KWORDS], a panel of B [part][KWORDS][NR]. They
// serve both VDPBF16PS and the tiles of AMX. Where there is neither, operands are rounded and multiplied as float32: the same
// numbers at float32's speed.
#pragma once
#include <stdlib.h>

#include "gemm.h"

#if defined(__AMX_BF16__) || defined(GEMMOE_EMULATE_AMX)
#define GEMMOE_TILES 1
#include "amx.h"
#endif
#if defined(__AVX512BF16__) || defined(GEMMOE_TILES)
#define GEMMOE_NATIVE_BF16 1
#endif

namespace LEVEL {

/** Part of k that is packed at once. */
constexpr long KC_LOW = 256;
constexpr long KWORDS = KC_LOW / 2;

#ifdef GEMMOE_NATIVE_BF16

#ifdef GEMMOE_TILES
constexpr long BLOCK_ROWS = 32;
#else
constexpr long BLOCK_ROWS = MR;
#endif
/** Rows that a block of A has room for. */
constexpr long BLOCK_ROOM = 32;
constexpr long MOST_PARTS = 3;

/** Which parts are multiplied, small products first; `count` of them. */
struct PartProducts {
  int parts, count;
  struct { int a, b; } pairs[6];
};
INLINE const PartProducts& partProducts(int precision) {
  static const PartProducts one = {1, 1, {{0, 0}}};
  static const PartProducts two = {2, 3, {{1, 0}, {0, 1}, {0, 0}}};
  static const PartProducts three = {3, 6, {{2, 0}, {1, 1}, {0, 2}, {1, 0}, {0, 1}, {0, 0}}};
  return precision == PRECISION_BF16X3 ? three : precision == PRECISION_BF16X2 ? two : one;
}

/** bits[q] = bfloat16 bits of part q of x. Returns the first part's float, whose exponent tells whether x can be split. */
INLINE vf split(vf x, int parts, vi bits[MOST_PARTS]) {
  bits[0] = bf16Bits(x);
  const vf first = asFloat(bits[0] << 16);
  vf rest = x - first;
  for (int q = 1; q < parts; q++) {
    bits[q] = bf16Bits(rest);
    rest -= asFloat(bits[q] << 16);
  }
  return first;
}

/** Stores the low halves of 16 lanes. */
INLINE void storeHalves(uint16_t* p, vi bits) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)bits)); }

#if defined(__AVX512BF16__)
/** bfloat16 of 16 lanes by the instruction, which takes denormals as zero; so do the products, whatever they are given. */
INLINE __m256i roundLanes(vf x) { return (__m256i)_mm512_cvtneps_pbh((__m512)x); }
#endif

/** words [part][count/2 rounded up to KWORDS' unit] of a row of `count` floats; what is beyond is zero. True where not finite. */
INLINE bool splitRow(uint32_t* words, long partStride, const float* x, long count, long paddedCount, int parts) {
  bool special = false;
  vi bits[MOST_PARTS];
  for (long p = 0; p < paddedCount; p += W) {
    const long rest = count - p;
    const vf v = rest >= W ? load(x + p) : rest > 0 ? loadPartial(x + p, rest) : vf{};
#if defined(__AVX512BF16__)
    if (parts == 1) {
      _mm256_storeu_si256((__m256i*)((uint16_t*)words + p), roundLanes(v));
      continue;
    }
#endif
    special |= anyNonFinite(split(v, parts, bits));
    for (int q = 0; q < parts; q++) storeHalves((uint16_t*)(words + q * partStride) + p, bits[q]);
  }
  return special;
}

/** words[part][lane] of two rows of 16 lanes, k even and odd. */
INLINE bool splitPair(uint32_t* words, long partStride, vf even, vf odd, int parts) {
#if defined(__AVX512BF16__)
  if (parts == 1) {
    const __m512i low = _mm512_cvtepu16_epi32(roundLanes(even)), high = _mm512_cvtepu16_epi32(roundLanes(odd));
    _mm512_storeu_si512(words, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    return false;
  }
#endif
  vi low[MOST_PARTS], high[MOST_PARTS];
  const bool special = anyNonFinite(split(even, parts, low)) | anyNonFinite(split(odd, parts, high));
  for (int q = 0; q < parts; q++) store((float*)(words + q * partStride), asFloat(low[q] | (high[q] << 16)));
  return special;
}

/** As `splitRow` for what is bfloat16 already: the first part is all of it. */
INLINE bool halfRow(uint32_t* words, long partStride, const uint16_t* x, long count, long paddedCount, int parts) {
  uint16_t* first = (uint16_t*)words;
  memcpy(first, x, sizeof(uint16_t) * (size_t)count);
  memset(first + count, 0, sizeof(uint16_t) * (size_t)(paddedCount - count));
  bool special = false;
  for (int q = 1; q < parts; q++) memset(words + q * partStride, 0, sizeof(uint16_t) * (size_t)paddedCount);
  for (long p = 0; parts > 1 && p < paddedCount; p += W) special |= anyNonFinite(widen(first + p));
  return special;
}

INLINE vf loadUpTo(const float* p, long count) {
  return count >= W ? load(p) : count > 0 ? loadPartial(p, count) : vf{};
}

/** Packs a panel of B; `rows` has room for [part][NR][KWORDS]. True where a value cannot be split. */
static bool packWords(uint32_t* panel, uint32_t* rows, const Product& g, long first, long count, long words, long column,
                      long columns, int parts) {
  const long partStride = words * NR;
  const float* b = g.b + first * g.bRow + column * g.bColumn;
  bool special = false;
  if (!g.bHalf && g.bColumn == 1) {
    for (long w = 0; w < words; w++) {
      for (int v = 0; v < NR; v += W) {
        const long p = 2 * w, rest = columns - v;
        const vf even = p < count ? loadUpTo(b + p * g.bRow + v, rest) : vf{};
        const vf odd = p + 1 < count ? loadUpTo(b + (p + 1) * g.bRow + v, rest) : vf{};
        special |= splitPair(panel + w * NR + v, partStride, even, odd, parts);
      }
    }
    return special;
  }
  const long rowPartStride = NR * words;
  if (columns < NR) memset(rows, 0, sizeof(uint32_t) * rowPartStride * parts);
  for (long j = 0; j < columns; j++) {
    if (g.bHalf) special |= halfRow(rows + j * words, rowPartStride, g.bHalf + (column + j) * g.bColumn + first, count, 2 * words, parts);
    else special |= splitRow(rows + j * words, rowPartStride, b + j * g.bColumn, count, 2 * words, parts);
  }
  for (int q = 0; q < parts; q++) {
    for (int v = 0; v < NR; v += W) {
      transposeRows((float*)(panel + q * partStride) + v, NR, (const float*)(rows + q * rowPartStride + v * words), words, words);
    }
  }
  return special;
}

/** Packs rows of A to [part][rows][words]; `pairs` has room for [part][words][W]. Rows up to `room` are zero. */
static bool packBlock(uint32_t* block, uint32_t* pairs, const Product& g, long first, long count, long words, long row,
                      long rows, long room, int parts) {
  const long partStride = room * words;
  const float* a = g.a + row * g.aRow + first * g.aColumn;
  bool special = false;
  if (rows < room) {
    for (int q = 0; q < parts; q++) {
      memset(block + q * partStride + rows * words, 0, sizeof(uint32_t) * (room - rows) * words);
    }
  }
  if (g.aColumn == 1) {
    for (long i = 0; i < rows; i++) {
      special |= splitRow(block + i * words, partStride, a + i * g.aRow, count, 2 * words, parts);
    }
    return special;
  }
  for (long i = 0; i < rows; i += W) {
    for (long w = 0; w < words; w++) {
      const long p = 2 * w;
      const vf even = p < count ? loadUpTo(a + p * g.aColumn + i, rows - i) : vf{};
      const vf odd = p + 1 < count ? loadUpTo(a + (p + 1) * g.aColumn + i, rows - i) : vf{};
      special |= splitPair(pairs + w * W, words * W, even, odd, parts);
    }
    for (int q = 0; q < parts; q++) {
      for (long w = 0; w < words; w += W) {
        float transposed[W * W];
        transposeRows(transposed, W, (const float*)(pairs + q * words * W + w * W), W, W);
        for (long r = 0; r < least(W, rows - i); r++) {
          memcpy(block + q * partStride + (i + r) * words + w, transposed + r * W, sizeof(float) * W);
        }
      }
    }
  }
  return special;
}

/** A tile of packed words. */
struct WordTile {
  const uint32_t* a;
  long aPart;
  const uint32_t* b;
  long bPart;
  long words;
  float* c;
  long ldc, rows, columns;
  float alpha, beta;
};

INLINE void addToC(float* c, vf sum, long count, float alpha, float beta) {
  sum *= alpha;
  if (count >= W) store(c, beta == 0 ? sum : sum + beta * load(c));
  else storePartial(c, beta == 0 ? sum : sum + beta * loadPartial(c, count), count);
}

#ifdef GEMMOE_TILES
static void wordTile(const WordTile& t, const PartProducts& products) {
  alignas(64) float sums[BLOCK_ROWS * NR];
  const bool tall = t.rows > 16, wide = t.columns > W;
  const long aStride = t.words * 4;
  tileZero(0);
  tileZero(1);
  tileZero(2);
  tileZero(3);
  for (int product = 0; product < products.count; product++) {
    const uint32_t* a = t.a + products.pairs[product].a * t.aPart;
    const uint32_t* b = t.b + products.pairs[product].b * t.bPart;
    for (long w = 0; w < t.words; w += 16) {
      tileLoad(4, a + w, aStride);
      tileLoad(6, b + w * NR, NR * 4);
      tileMultiply(0, 4, 6);
      if (wide) {
        tileLoad(7, b + w * NR + W, NR * 4);
        tileMultiply(1, 4, 7);
      }
      if (!tall) continue;
      tileLoad(5, a + 16 * t.words + w, aStride);
      tileMultiply(2, 5, 6);
      if (wide) tileMultiply(3, 5, 7);
    }
  }
  tileStore(0, sums, NR * 4);
  tileStore(1, sums + W, NR * 4);
  tileStore(2, sums + 16 * NR, NR * 4);
  tileStore(3, sums + 16 * NR + W, NR * 4);
  for (long i = 0; i < t.rows; i++) {
    addToC(t.c + i * t.ldc, load(sums + i * NR), t.columns, t.alpha, t.beta);
    if (wide) addToC(t.c + i * t.ldc + W, load(sums + i * NR + W), t.columns - W, t.alpha, t.beta);
  }
}
#else
template <int ROWS>
static void wordRows(const WordTile& t, const PartProducts& products) {
  vf sums[ROWS][2];
  for (int i = 0; i < ROWS; i++) sums[i][0] = sums[i][1] = vf{};
  for (int product = 0; product < products.count; product++) {
    const uint32_t* a = t.a + products.pairs[product].a * t.aPart;
    const uint32_t* b = t.b + products.pairs[product].b * t.bPart;
    const long words = t.words;
    for (long w = 0; w < words; w++) {
      const vi left = (vi)load((const float*)b), right = (vi)load((const float*)b + W);
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; i++) {
        const vi x = splatInt((int32_t)a[i * words]);
        sums[i][0] = (vf)_mm512_dpbf16_ps((__m512)sums[i][0], (__m512bh)x, (__m512bh)left);
        sums[i][1] = (vf)_mm512_dpbf16_ps((__m512)sums[i][1], (__m512bh)x, (__m512bh)right);
      }
      a++;
      b += NR;
    }
  }
  for (int i = 0; i < ROWS; i++) {
    addToC(t.c + i * t.ldc, sums[i][0], t.columns, t.alpha, t.beta);
    if (t.columns > W) addToC(t.c + i * t.ldc + W, sums[i][1], t.columns - W, t.alpha, t.beta);
  }
}

static void wordTile(const WordTile& t, const PartProducts& products) {
  switch (t.rows) {
    case 1: return wordRows<1>(t, products);
    case 2: return wordRows<2>(t, products);
    case 3: return wordRows<3>(t, products);
    case 4: return wordRows<4>(t, products);
    case 5: return wordRows<5>(t, products);
    case 6: return wordRows<6>(t, products);
    case 7: return wordRows<7>(t, products);
    case 8: return wordRows<8>(t, products);
    case 9: return wordRows<9>(t, products);
    case 10: return wordRows<10>(t, products);
    case 11: return wordRows<11>(t, products);
    case 12: return wordRows<12>(t, products);
    case 13: return wordRows<13>(t, products);
    case 14: return wordRows<14>(t, products);
  }
}
#endif

/** The product of a block of A and the panels of [first,last) in float32: for values that have no split (infinities, NaN). */
static void plainBlock(const Product& g, Depth depth, long row, long rows, long first, long last, float* pack) {
  Product block = g;
  block.m = rows;
  block.a += row * g.aRow;
  block.c += row * g.ldc;
  for (long j = first; j < last; j += NR) {
    packColumns(pack, g, depth.begin, depth.count, j, least(NR, last - j));
    tiles(block, depth, j, least(last, j + NR), nullptr, [&](long, long&) { return pack; });
  }
}

/** Words of a part of k. */
INLINE long wordsOf(long count) { return roundUp(count, 32) / 2; }

static size_t lowPackedBytes(const Context* context, long n, long k) {
  const long words = k / KC_LOW * KWORDS + wordsOf(k % KC_LOW);
  return sizeof(uint32_t) * (size_t)(words * roundUp(n, NR) * partProducts(context->precision).parts);
}

/** The words of a packed B for the part of k from p on: blocks of KC_LOW one behind the other, each with all its panels. */
INLINE long packedWords(const Product& g, long p, int parts) { return p / 2 * roundUp(g.n, NR) * parts; }

static int lowPack(const Context* context, const Product& g, uint32_t* packed) {
  const int parts = partProducts(context->precision).parts;
  uint32_t* rows = (uint32_t*)malloc(sizeof(uint32_t) * (size_t)(parts * NR * KWORDS));
  if (!rows) return 0;
  bool special = false;
  for (long p = 0; p < g.k; p += KC_LOW) {
    const long count = least(KC_LOW, g.k - p), words = wordsOf(count);
    uint32_t* panels = packed + packedWords(g, p, parts);
    for (long j = 0; j < g.n; j += NR) {
      special |= packWords(panels + j * parts * words, rows, g, p, count, words, j, least(NR, g.n - j), parts);
    }
  }
  free(rows);
  return !(special && parts > 1);
}

static void wordColumns(Context* context, int part, const Product& g, long begin, long end) {
  const PartProducts& products = partProducts(context->precision);
  uint32_t* panels = scratch<uint32_t>(context, part, SLOT_PACK, MOST_PARTS * KWORDS * NC);
  uint32_t* block = scratch<uint32_t>(context, part, SLOT_PACK_A, 2 * MOST_PARTS * BLOCK_ROOM * KWORDS + KC_LOW * NR);
  uint32_t* spare = block + MOST_PARTS * BLOCK_ROOM * KWORDS;
  float* plain = (float*)(spare + MOST_PARTS * BLOCK_ROOM * KWORDS);
  const bool splits = products.parts > 1; // one part takes infinities and NaN as they are
#ifdef GEMMOE_TILES
  tileConfigure();
#endif
  for (long p = 0; p < g.k; p += KC_LOW) {
    const Depth depth = {p, least(KC_LOW, g.k - p), p == 0 ? g.beta : 1.0f};
    const long words = wordsOf(depth.count);
    for (long first = begin; first < end; first += NC) {
      const long last = least(end, first + NC);
      bool special = false;
      const uint32_t* all = panels - first * products.parts * words;
      if (g.packed) all = (const uint32_t*)g.packed + packedWords(g, p, products.parts);
      for (long j = first; j < last && !g.packed; j += NR) {
        uint32_t* panel = panels + (j - first) * products.parts * words;
        special |= packWords(panel, spare, g, p, depth.count, words, j, least(NR, last - j), products.parts);
      }
      const long blocks = (g.m + BLOCK_ROWS - 1) / BLOCK_ROWS;
      for (long i = 0; i < blocks; i++) {
#ifdef GEMMOE_TILES
        const long row = i * BLOCK_ROWS, rows = least(BLOCK_ROWS, g.m - row), room = rows > 16 ? 32 : 16;
#else
        const long row = g.m * i / blocks, rows = g.m * (i + 1) / blocks - row, room = rows;
#endif
        const bool refused = packBlock(block, spare, g, p, depth.count, words, row, rows, room, products.parts);
        if (splits && (special || refused)) {
          plainBlock(g, depth, row, rows, first, last, plain);
          continue;
        }
        for (long j = first; j < last; j += NR) {
          const WordTile t = {block, room * words, all + j * products.parts * words, words * NR, words,
                              g.c + row * g.ldc + j, g.ldc, rows, least(NR, last - j), g.alpha, depth.beta};
          wordTile(t, products);
        }
      }
    }
  }
#ifdef GEMMOE_TILES
  tileRelease();
#endif
}

#else // no instruction for bfloat16

static size_t lowPackedBytes(const Context*, long, long) { return 0; }
static int lowPack(const Context*, const Product&, uint32_t*) { return 0; }

/** The product of operands rounded to bfloat16, multiplied as float32. */
static void wordColumns(Context* context, int part, const Product& g, long begin, long end) {
  float* pack = scratch<float>(context, part, SLOT_PACK, KC_LOW * NC);
  float* block = scratch<float>(context, part, SLOT_PACK_A, KC_LOW * MR);
  for (long p = 0; p < g.k; p += KC_LOW) {
    const Depth depth = {p, least(KC_LOW, g.k - p), p == 0 ? g.beta : 1.0f};
    for (long first = begin; first < end; first += NC) {
      const long last = least(end, first + NC);
      for (long j = first; j < last; j += NR) {
        float* panel = pack + (j - first) * depth.count;
        packColumns(panel, g, p, depth.count, j, least(NR, last - j));
        for (long i = 0; i < depth.count * NR; i += W) store(panel + i, roundToBf16(load(panel + i)));
      }
      for (long row = 0; row < g.m; row += MR) {
        Product rounded = g;
        rounded.m = least(MR, g.m - row);
        rounded.a = block;
        rounded.aRow = depth.count;
        rounded.aColumn = 1;
        rounded.c += row * g.ldc;
        for (long i = 0; i < rounded.m; i++) {
          for (long q = 0; q < depth.count; q++) block[i * depth.count + q] = g.a[(row + i) * g.aRow + (p + q) * g.aColumn];
        }
        forVectors(rounded.m * depth.count, [&](long i, auto load, auto store) { store(block + i, roundToBf16(load(block + i))); });
        tiles(rounded, {0, depth.count, depth.beta}, first, last, nullptr, [&](long j, long&) { return pack + (j - first) * depth.count; });
      }
    }
  }
}

#endif

/** Columns [begin,end) of a product in the context's precision, which is not float32. */
static void lowPrecisionColumns(Context* context, int part, const Product& g, Way way, long begin, long end) {
  if (way != WAY_DOT) return wordColumns(context, part, g, begin, end);
  // few rows cost the reading of B, not the multiplying: float32 holds whatever the parts would
  if (context->precision == PRECISION_BF16) dotProducts<true>(g, begin, end);
  else dotProducts<false>(g, begin, end);
}

} // namespace LEVEL
