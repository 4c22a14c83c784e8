// Matrix products. A tile of MR rows by one or two vectors of columns is kept in registers while k runs; B comes from packed
// panels (transpose.h) or, where packing would not pay, from where it stands; A is read in place, an element at a time.
//
// Every element of C is summed over k in order (in blocks of KC, each added to C), whatever the tile and the thread, so the
// result depends neither on the number of threads nor on their scheduling.
#pragma once
#include "bf16.h"
#include "transpose.h"

namespace LEVEL {

/** Most rows of a tile: what the registers hold beside two vectors of B and one of A. */
#if defined(__AVX512F__)
constexpr int MR = 14;
#elif defined(__aarch64__)
constexpr int MR = 12;
#else
constexpr int MR = 6;
#endif

/** Length of the part of k that is packed at once: a panel of it is in the first or second cache. */
constexpr long KC = 512;
/** Columns that are packed at once. */
constexpr long NC = 8 * NR;

/** Rows of op(A) [m,k] by one panel of op(B), added to or written in C. */
struct Tile {
  long k;
  const float* a;
  /** Elements between two rows of op(A) where UNIT_K, between two columns otherwise; the other stride is 1. */
  long aStride;
  const float* b;
  long bStride;
  float* c;
  long ldc;
  /** Columns of C that exist. */
  long columns;
  float alpha, beta;
};

template <int ROWS, int VECTORS, bool UNIT_K>
static void tile(const Tile& t) {
  vf sums[ROWS][VECTORS];
  for (int i = 0; i < ROWS; i++) {
    for (int v = 0; v < VECTORS; v++) sums[i][v] = vf{};
  }
  const float* a = t.a;
  const float* b = t.b;
  const long aStride = t.aStride, bStride = t.bStride;
  for (long p = t.k; p > 0; p--) {
    vf columns[VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) columns[v] = load(b + v * W);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
      const vf x = splat(UNIT_K ? a[i * aStride] : a[i]);
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) sums[i][v] += x * columns[v];
    }
    a += UNIT_K ? 1 : aStride;
    b += bStride;
  }
  for (int i = 0; i < ROWS; i++) {
    float* c = t.c + i * t.ldc;
    for (int v = 0; v < VECTORS; v++, c += W) {
      const long count = t.columns - v * W;
      if (count <= 0) break;
      vf sum = sums[i][v] * t.alpha;
      if (count >= W) {
        store(c, t.beta == 0 ? sum : sum + t.beta * load(c));
      } else {
        storePartial(c, t.beta == 0 ? sum : sum + t.beta * loadPartial(c, count), count);
      }
    }
  }
}

typedef void (*TileFunction)(const Tile&);

template <int VECTORS, bool UNIT_K>
INLINE TileFunction tileOf(long rows) {
  switch (rows) {
    case 1: return tile<1, VECTORS, UNIT_K>;
    case 2: return tile<2, VECTORS, UNIT_K>;
    case 3: return tile<3, VECTORS, UNIT_K>;
    case 4: return tile<4, VECTORS, UNIT_K>;
    case 5: return tile<5, VECTORS, UNIT_K>;
    case 6: return tile<6, VECTORS, UNIT_K>;
#if defined(__AVX512F__) || defined(__aarch64__)
    case 7: return tile<7, VECTORS, UNIT_K>;
    case 8: return tile<8, VECTORS, UNIT_K>;
    case 9: return tile<9, VECTORS, UNIT_K>;
    case 10: return tile<10, VECTORS, UNIT_K>;
    case 11: return tile<11, VECTORS, UNIT_K>;
    case 12: return tile<12, VECTORS, UNIT_K>;
#endif
#if defined(__AVX512F__)
    case 13: return tile<13, VECTORS, UNIT_K>;
    case 14: return tile<14, VECTORS, UNIT_K>;
#endif
  }
  return nullptr;
}

INLINE TileFunction chooseTile(long rows, long columns, bool unitK) {
  if (columns > W) return unitK ? tileOf<2, true>(rows) : tileOf<2, false>(rows);
  return unitK ? tileOf<1, true>(rows) : tileOf<1, false>(rows);
}

/** The part of k that one pass of tiles takes, and what it adds to. */
struct Depth {
  long begin, count;
  float beta;
};

/** Elements between rows (or columns) of A from which it is copied for a block: further apart, they fall on each other in the
 * caches and each on a page of its own. */
constexpr long FAR_APART = 512;
/** Panels that make use of a copy of A. */
constexpr long COPY_PANELS = 3;
/** Floats between the rows of a copy of A: no power of two. */
constexpr long COPY_STRIDE = KC + 16;

/** Floats between the columns of a copy of a transposed A: whole vectors. */
constexpr long COPY_WIDTH = (MR + W - 1) / W * W;

constexpr long COPY_FLOATS = MR * COPY_STRIDE > KC * COPY_WIDTH ? MR * COPY_STRIDE : KC * COPY_WIDTH;

/** Copies `rows` rows of op(A) for one pass: [rows][COPY_STRIDE], or [k][COPY_WIDTH] where A is stored transposed. */
INLINE void copyBlock(float* copy, const float* a, long stride, bool unitK, long rows, long k) {
  if (unitK) {
    for (long i = 0; i < rows; i++) {
      forVectors(k, [&](long p, auto load, auto store) { store(copy + i * COPY_STRIDE + p, load(a + i * stride + p)); });
    }
    return;
  }
  for (long p = 0; p < k; p++) {
    for (long i = 0; i < rows; i += W) {
      const float* from = a + p * stride + i;
      store(copy + p * COPY_WIDTH + i, rows - i >= W ? load(from) : loadPartial(from, rows - i));
    }
  }
}

/**
 * Rows [0,m) of op(A) times the panels of [0,n): `panelOf(j)` gives the panel that starts at column j, and its stride. `copy`
 * has room for COPY_FLOATS, or is null where A is near at hand.
 */
template <class PanelOf>
INLINE void tiles(const Product& g, Depth depth, long firstColumn, long endColumn, float* copy, PanelOf panelOf) {
  const bool unitK = g.aColumn == 1;
  const long far = unitK ? g.aRow : g.aColumn;
  const bool copied = copy && far >= FAR_APART && endColumn - firstColumn > COPY_PANELS * NR;
  const long blocks = (g.m + MR - 1) / MR;
  for (long block = 0; block < blocks; block++) {
    const long row = g.m * block / blocks; // blocks of nearly equal height: no sliver at the end
    const long rows = g.m * (block + 1) / blocks - row;
    const float* a = g.a + row * g.aRow + depth.begin * g.aColumn;
    long aStride = far;
    if (copied) {
      copyBlock(copy, a, far, unitK, rows, depth.count);
      a = copy;
      aStride = unitK ? COPY_STRIDE : COPY_WIDTH;
    }
    for (long j = firstColumn; j < endColumn; j += NR) {
      const long columns = least(NR, endColumn - j);
      long bStride = NR;
      const float* b = panelOf(j, bStride);
      const Tile t = {depth.count, a, aStride, b, bStride, g.c + row * g.ldc + j, g.ldc, columns, g.alpha, depth.beta};
      chooseTile(rows, columns, unitK)(t);
    }
  }
}

/** Rows up to which B is read where it stands, if its rows run along C's: fewer do not pay for a copy. */
constexpr long DIRECT_ROWS = 2 * MR;
/** Rows up to which op(B) = Bᵀ is read along k, a sum over a vector ending each element. */
constexpr long DOT_ROWS = 4;

INLINE vf loadFloats(const float* p) { return load(p); }
INLINE vf loadFloats(const uint16_t* p) { return widen(p); }
INLINE vf loadFloatsPartial(const float* p, long count) { return loadPartial(p, count); }
INLINE vf loadFloatsPartial(const uint16_t* p, long count) { return widenPartial(p, count); }

/** C = alpha·A·Bᵀ + beta·C for few rows of A: both are read along k. `elements` are those of B. */
template <bool ROUNDED, class Element>
static void dotProductsOf(const Product& g, const Element* elements, long begin, long end) {
  constexpr int COLUMNS = 4;
  const auto operand = [](vf x) { return ROUNDED ? roundToBf16(x) : x; };
  for (long j = begin; j < end; j += COLUMNS) {
    const long columns = least(COLUMNS, end - j);
    for (long i = 0; i < g.m; i += DOT_ROWS) {
      const long rows = least(DOT_ROWS, g.m - i);
      vf sums[DOT_ROWS][COLUMNS] = {};
      const float* a = g.a + i * g.aRow;
      const Element* b = elements + j * g.bColumn;
      // rows and columns that are none repeat the last one: their sums are not kept
      const float* aRows[DOT_ROWS];
      const Element* bRows[COLUMNS];
      for (long r = 0; r < DOT_ROWS; r++) aRows[r] = a + least(r, rows - 1) * g.aRow;
      for (long c = 0; c < COLUMNS; c++) bRows[c] = b + least(c, columns - 1) * g.bColumn;
      auto accumulate = [&](auto rowCount) {
        constexpr int ROWS = decltype(rowCount)::value;
        long p = 0;
        for (; p + W <= g.k; p += W) {
          vf y[COLUMNS];
          for (int c = 0; c < COLUMNS; c++) y[c] = operand(loadFloats(bRows[c] + p));
          for (int r = 0; r < ROWS; r++) {
            const vf x = operand(load(aRows[r] + p));
            for (int c = 0; c < COLUMNS; c++) sums[r][c] += x * y[c];
          }
        }
        if (p < g.k) {
          vf y[COLUMNS];
          for (int c = 0; c < COLUMNS; c++) y[c] = operand(loadFloatsPartial(bRows[c] + p, g.k - p));
          for (int r = 0; r < ROWS; r++) {
            const vf x = operand(loadPartial(aRows[r] + p, g.k - p));
            for (int c = 0; c < COLUMNS; c++) sums[r][c] += x * y[c];
          }
        }
      };
      struct One { enum { value = 1 }; };
      struct Two { enum { value = 2 }; };
      struct Four { enum { value = 4 }; };
      if (rows == 1) accumulate(One{});
      else if (rows == 2) accumulate(Two{});
      else accumulate(Four{});
      for (long r = 0; r < rows; r++) {
        for (long c = 0; c < columns; c++) {
          float* out = g.c + (i + r) * g.ldc + j + c;
          const float value = g.alpha * sum(sums[r][c]);
          *out = g.beta == 0 ? value : value + g.beta * *out;
        }
      }
    }
  }
}

template <bool ROUNDED>
static void dotProducts(const Product& g, long begin, long end) {
  if (g.bHalf) dotProductsOf<ROUNDED>(g, g.bHalf, begin, end);
  else dotProductsOf<ROUNDED>(g, g.b, begin, end);
}

/** Part of k that is widened at once. */
constexpr long WIDENED = 256;

/** panel [k][NR] of `columns` columns of a B in bfloat16: elements [first, first + k) of its rows from `column` on. */
static void packHalfPanel(float* panel, const Product& g, long first, long k, long column, long columns) {
  float floats[W * WIDENED];
  for (int v = 0; v < NR; v += W) {
    const long rows = least(W, most(0, columns - v));
    for (long p = 0; p < k; p += WIDENED) {
      const long count = least(WIDENED, k - p), padded = roundUp(count, W);
      for (long r = 0; r < W; r++) {
        float* to = floats + r * WIDENED;
        if (r >= rows) {
          memset(to, 0, sizeof(float) * (size_t)padded);
          continue;
        }
        const uint16_t* from = g.bHalf + (column + v + r) * g.bColumn + first + p;
        for (long i = 0; i < count; i += W) store(to + i, count - i >= W ? widen(from + i) : widenPartial(from + i, count - i));
      }
      transposeRows(panel + p * NR + v, NR, floats, WIDENED, count);
    }
  }
}

/** The panel of op(B) from `column` on, rows [first, first + k). */
INLINE void packColumns(float* panel, const Product& g, long first, long k, long column, long columns) {
  if (g.bHalf) packHalfPanel(panel, g, first, k, column, columns);
  else packPanel(panel, g.b + first * g.bRow + column * g.bColumn, g.bRow, g.bColumn, k, columns);
}

/** How a product is made; decided by its whole shape, so that every part of it is made alike. */
enum Way { WAY_DOT, WAY_DIRECT, WAY_PACKED };

INLINE Way wayOf(const Product& g) {
  if (g.bColumn != 1 && g.aColumn == 1 && g.m <= DOT_ROWS) return WAY_DOT;
  if (g.bColumn == 1 && g.m <= DIRECT_ROWS && !g.packed) return WAY_DIRECT;
  return WAY_PACKED;
}

/** The packed panels of a B for the part of k from p on: blocks of KC stand one behind the other, each with all its panels. */
INLINE const float* packedBlock(const Product& g, long p) { return (const float*)g.packed + p * roundUp(g.n, NR); }

/** Packed panels, and behind them a copied block of A. */
constexpr long PACK_FLOATS = KC * NC + COPY_FLOATS;

/** Columns [begin,end) of a product on one thread; begin is a multiple of NR. `pack` holds PACK_FLOATS. */
static void productColumns(const Product& g, Way way, long begin, long end, float* pack) {
  if (way == WAY_DOT) return dotProducts<false>(g, begin, end);
  for (long p = 0; p < g.k; p += KC) {
    const Depth depth = {p, least(KC, g.k - p), p == 0 ? g.beta : 1.0f};
    if (way == WAY_DIRECT) {
      const long whole = begin + (end - begin) / W * W;
      tiles(g, depth, begin, whole, nullptr, [&](long j, long& stride) {
        stride = g.bRow;
        return g.b + p * g.bRow + j;
      });
      if (whole < end) {
        packPanel(pack, g.b + p * g.bRow + whole, g.bRow, 1, depth.count, end - whole);
        tiles(g, depth, whole, end, nullptr, [&](long, long&) { return pack; });
      }
      continue;
    }
    if (g.packed) {
      const float* panels = packedBlock(g, p);
      tiles(g, depth, begin, end, pack + KC * NC, [&](long j, long&) { return panels + j * depth.count; });
      continue;
    }
    for (long first = begin; first < end; first += NC) {
      const long last = least(end, first + NC);
      for (long j = first; j < last; j += NR) {
        packColumns(pack + (j - first) * depth.count, g, p, depth.count, j, least(NR, last - j));
      }
      tiles(g, depth, first, last, pack + KC * NC, [&](long j, long&) { return pack + (j - first) * depth.count; });
    }
  }
}

/** C = beta·C, never reading C where beta is 0. */
static void scaleMatrix(float* c, long ldc, long m, long n, float beta) {
  for (long i = 0; i < m; i++) {
    forVectors(n, [&](long j, auto load, auto store) {
      store(c + i * ldc + j, beta == 0 ? vf{} : beta * load(c + i * ldc + j));
    });
  }
}

INLINE bool hasNothingToSum(const Product& g) {
  if (g.m == 0 || g.n == 0) return true;
  if (g.k > 0 && g.alpha != 0) return false;
  if (g.beta != 1) scaleMatrix(g.c, g.ldc, g.m, g.n, g.beta);
  return true;
}

INLINE float* packScratch(Context* context, int part) { return scratch<float>(context, part, SLOT_PACK, PACK_FLOATS); }

} // namespace LEVEL

#include "low-precision.h"

namespace LEVEL {

/** What `pack` made of a product's B where it is held; null where it is not. */
static const void* heldPacked(const Context* context, const Product& g) {
  if (g.bRow != 1 || g.bColumn != g.k || g.bHalf) return nullptr;
  long low = 0, high = context->heldCount; // the last that begins at B or before
  while (low < high) {
    const long middle = (low + high) / 2;
    if (context->held[middle].base <= g.b) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return nullptr;
  const HeldWeights& held = context->held[low - 1];
  const long elements = held.n * held.k, at = g.b - held.base;
  if (held.n != g.n || held.k != g.k || held.precision != context->precision) return nullptr;
  if (at >= held.groups * elements || at % elements != 0) return nullptr;
  return held.packed + at / elements * held.bytes;
}

/** Columns [begin,end) of a product in the context's precision. */
INLINE void productPart(Context* context, int part, const Product& given, Way way, long begin, long end) {
  Product g = given;
  if (context->heldCount > 0 && way == WAY_PACKED && !g.packed) g.packed = heldPacked(context, g);
  if (context->precision != PRECISION_F32) return lowPrecisionColumns(context, part, g, way, begin, end);
  productColumns(g, way, begin, end, packScratch(context, part));
}

/** A product on the calling thread. */
INLINE void productAlone(Context* context, int part, const Product& g) {
  if (hasNothingToSum(g)) return;
  productPart(context, part, g, wayOf(g), 0, g.n);
}

/** Multiplications that are worth a thread. */
constexpr double PARALLEL_PRODUCTS = 400000;

INLINE bool goesToBlas(const Context* context, const Product& g) {
  return context->sgemm && !g.bHalf && context->precision == PRECISION_F32 && (double)g.m * g.n * g.k >= context->blasFrom;
}

static void blasPart(const Context* context, const Product& g, long row, long rows, long column, long columns) {
  const int transA = g.aColumn == 1 ? 111 : 112, transB = g.bColumn == 1 ? 111 : 112;
  context->sgemm(101, transA, transB, (int)rows, (int)columns, (int)g.k, g.alpha, g.a + row * g.aRow,
                 (int)(transA == 111 ? most(g.k, g.aRow) : most(g.m, g.aColumn)), g.b + column * g.bColumn,
                 (int)(transB == 111 ? most(g.n, g.bRow) : most(g.k, g.bColumn)), g.beta, g.c + row * g.ldc + column,
                 (int)g.ldc);
}

/** A product on as many threads as it is worth: its columns are shared out, or its rows where they are more: every thread packs
 * all of what is not shared out, which in float32 is B alone. */
static void product(Context* context, const Product& g) {
  if (hasNothingToSum(g)) return;
  const bool blas = goesToBlas(context, g);
  if (blas && context->blasThreads) return blasPart(context, g, 0, g.m, 0, g.n);
  const long panels = (g.n + NR - 1) / NR;
  const Way way = wayOf(g);
  int parts = (int)least(context->threads, (long)((double)g.m * g.n * g.k / PARALLEL_PRODUCTS));
  const long wide = context->precision == PRECISION_F32 ? 2 * g.n : g.n;
  const bool byRows = g.m > wide && g.m >= 2 * MR * (long)parts;
  if (!byRows) parts = (int)least(parts, panels);
  parallel(context, (int)most(1, parts), [&](int part) {
    const int count = (int)most(1, parts);
    const Range rows = byRows ? rangeOf(g.m, MR, part, count) : Range{0, g.m};
    const Range columns = byRows ? Range{0, g.n} : rangeOf(g.n, NR, part, count);
    if (rows.begin >= rows.end || columns.begin >= columns.end) return;
    if (blas) return blasPart(context, g, rows.begin, rows.end - rows.begin, columns.begin, columns.end - columns.begin);
    Product mine = g;
    mine.m = rows.end - rows.begin;
    mine.a += rows.begin * g.aRow;
    mine.c += rows.begin * g.ldc;
    productPart(context, part, mine, way, columns.begin, columns.end);
  });
}

/**
 * Columns of one product for each of E groups: body(part, e, begin, end). All panels of all groups stand in one line, weighted
 * with their rows, and each thread takes an equal share of it: experts with few rows cost little, and none waits for another.
 */
template <class ProductOf, class Body>
static void groupedColumns(Context* context, long E, ProductOf productOf, Body body) {
  double total = 0;
  for (long e = 0; e < E; e++) {
    const Product g = productOf(e);
    total += (double)g.m * g.n * g.k;
  }
  const int parts = (int)most(1, least(context->threads, (long)(total / PARALLEL_PRODUCTS)));
  parallel(context, parts, [&](int part) {
    const double from = total * part / parts, to = total * (part + 1) / parts;
    double position = 0;
    for (long e = 0; e < E; e++) {
      const Product g = productOf(e);
      const double panels = (double)((g.n + NR - 1) / NR);
      if (g.m == 0 || g.n == 0 || g.k == 0) { // nothing to sum: the first thread sees to C
        if (part == 0) hasNothingToSum(g);
        continue;
      }
      // the panels whose middle lies in this thread's share
      const double panel = (double)g.m * g.n * g.k / panels;
      const long begin = (long)fmin(panels, fmax(0, ceil((from - position) / panel - 0.5)));
      const long end = part == parts - 1 ? (long)panels : (long)fmin(panels, fmax(0, ceil((to - position) / panel - 0.5)));
      position += panel * panels;
      if (begin < end) body(part, e, begin * NR, least(g.n, end * NR));
    }
  });
}

/** One product for each of E groups: `productOf(e)` gives it. */
template <class ProductOf>
static void groupedProduct(Context* context, long E, ProductOf productOf) {
  if (context->blasThreads) {
    for (long e = 0; e < E; e++) product(context, productOf(e));
    return;
  }
  groupedColumns(context, E, productOf, [&](int part, long e, long begin, long end) {
    const Product g = productOf(e);
    productPart(context, part, g, wayOf(g), begin, end);
  });
}

static void gemm(Context* context, const Product* g) { product(context, *g); }

static size_t packedBytes(const Context* context, long n, long k) {
  if (context->sgemm) return 0; // a BLAS packs for itself
  if (context->precision != PRECISION_F32) return lowPackedBytes(context, n, k);
  return sizeof(float) * (size_t)k * (size_t)roundUp(n, NR);
}

static int pack(const Context* context, const Product* g, void* packed) {
  if (context->precision != PRECISION_F32) return lowPack(context, *g, (uint32_t*)packed);
  for (long p = 0; p < g->k; p += KC) {
    const long count = least(KC, g->k - p);
    float* panels = (float*)packed + p * roundUp(g->n, NR);
    for (long j = 0; j < g->n; j += NR) packColumns(panels + j * count, *g, p, count, j, least(NR, g->n - j));
  }
  return 1;
}

/** Product of row-major matrices: y [m,n] = x [m,k] · w [n,k]ᵀ + beta·y. */
INLINE Product timesTransposed(float* y, const float* x, const float* w, long m, long n, long k, float beta) {
  return {m, n, k, x, k, 1, w, 1, k, y, n, 1, beta};
}

/** y [m,n] = x [m,k] · w [k,n] + beta·y. */
INLINE Product times(float* y, const float* x, const float* w, long m, long n, long k, float beta) {
  return {m, n, k, x, k, 1, w, n, 1, y, n, 1, beta};
}

/** y [m,n] += x [k,m]ᵀ · z [k,n]. */
INLINE Product transposedTimes(float* y, const float* x, const float* z, long m, long n, long k) {
  return {m, n, k, x, 1, m, z, n, 1, y, n, 1, 1};
}

static void addRows(float* out, const float* x, long N, long O);

/** A product to which b [O] is added in every row; `accumulate` keeps what is there. */
static void productWithBias(Context* context, Product g, const float* b, int accumulate) {
  float* y = g.c;
  const long N = g.m, O = g.n;
  g.beta = accumulate ? 1.0f : 0.0f;
  if (b) {
    for (long n = 0; n < N; n++) {
      forVectors(O, [&](long j, auto load, auto store) {
        store(y + n * O + j, accumulate ? load(y + n * O + j) + load(b + j) : load(b + j));
      });
    }
    g.beta = 1;
  }
  product(context, g);
}

static void linear(Context* context, float* y, const float* x, const float* w, const float* b, long N, long I, long O,
                   int accumulate) {
  productWithBias(context, timesTransposed(y, x, w, N, O, I, 0), b, accumulate);
}

/** y [m,n] = x [m,k] · w [n,k]ᵀ, w in bfloat16. */
INLINE Product timesHalf(float* y, const float* x, const uint16_t* w, long m, long n, long k) {
  return {m, n, k, x, k, 1, nullptr, 1, k, y, n, 1, 0, w};
}

static void linearBf16(Context* context, float* y, const float* x, const uint16_t* w, const float* b, long N, long I, long O,
                       int accumulate) {
  productWithBias(context, timesHalf(y, x, w, N, O, I), b, accumulate);
}

static void linearBackward(Context* context, float* dx, float* dw, float* db, const float* dy, const float* x, const float* w,
                           long N, long I, long O, int accumulateDx) {
  if (dx) product(context, times(dx, dy, w, N, I, O, accumulateDx ? 1.0f : 0.0f));
  if (dw) product(context, transposedTimes(dw, dy, x, O, I, N));
  if (db) addRows(db, dy, N, O);
}

/** db [O] += Σ rows of dy [N,O], in blocks so that long sums lose little. */
static void addRows(float* out, const float* x, long N, long O) {
  constexpr long BLOCK = 64;
  for (long first = 0; first < N; first += BLOCK) {
    const long last = least(N, first + BLOCK);
    forVectors(O, [&](long j, auto load, auto store) {
      vf total{};
      for (long n = first; n < last; n++) total += load(x + n * O + j);
      store(out + j, load(out + j) + total);
    });
  }
}

static void groupedLinear(Context* context, float* y, const float* x, const float* w, const int32_t* offsets, long E, long I,
                          long O) {
  groupedProduct(context, E, [=](long e) {
    const long row = offsets[e], rows = offsets[e + 1] - row;
    return timesTransposed(y + row * O, x + row * I, w + e * O * I, rows, O, I, 0);
  });
}

static void groupedLinearBackward(Context* context, float* dx, float* dw, const float* dy, const float* x, const float* w,
                                  const int32_t* offsets, long E, long I, long O) {
  groupedProduct(context, E, [=](long e) {
    const long row = offsets[e], rows = offsets[e + 1] - row;
    return times(dx + row * I, dy + row * O, w + e * O * I, rows, I, O, 0);
  });
  groupedProduct(context, E, [=](long e) {
    const long row = offsets[e], rows = offsets[e + 1] - row;
    return transposedTimes(dw + e * O * I, dy + row * O, x + row * I, O, I, rows);
  });
}

} // namespace LEVEL
