// Muon's Newton–Schulz iteration (core/ops/newton-schulz.ts). Matrices of a batch are shared out over the threads, each one whole:
// they are many and small.
#pragma once
#include "gemm.h"

namespace LEVEL {

/** matrix = a·1 + matrix, for a square one. */
INLINE void addToDiagonal(float* matrix, long side, float a) {
  for (long i = 0; i < side; i++) matrix[i * (side + 1)] += a;
}

/** Copies what lies below the diagonal above it; blocks of NR columns are whole already. */
INLINE void mirror(float* matrix, long side) {
  for (long j = 0; j < side; j += NR) {
    long i = j + NR;
    for (; i + W <= side; i += W) transposeRows(matrix + j * side + i, side, matrix + i * side + j, side, NR);
    for (; i < side; i++) {
      for (long p = j; p < j + NR; p++) matrix[p * side + i] = matrix[i * side + p];
    }
  }
}

/** A product that is known to be symmetric: of each block of columns, the rows from its own on; the rest is their mirror image. */
INLINE void symmetricProduct(Context* context, int part, const Product& g) {
  for (long j = 0; j < g.n; j += NR) {
    Product block = g;
    block.m = g.m - j;
    block.n = least(NR, g.n - j);
    block.a += j * g.aRow;
    block.b += j * g.bColumn;
    block.c += j * g.ldc + j;
    productAlone(context, part, block);
  }
  mirror(g.c, g.n);
}

/** 1 / the root of a gram's trace, which is the norm of the matrix: dividing by it costs no pass over that. */
INLINE float overNorm(const float* gram, long side) {
  double trace = 0;
  for (long i = 0; i < side; i++) trace += (double)gram[i * (side + 1)];
  return (float)(1 / (sqrt(trace) + 1e-7));
}

/** X = aX + (bA + cA²)X for each triple of coefficients, A = X·Xᵀ (or from the right where that is smaller), X normed before. */
static void orthogonalise(Context* context, int part, float* x, long rows, long columns, const double* coefficients, long steps,
                          float* spare) {
  const long side = least(rows, columns), square = side * side;
  const bool wide = rows <= columns;
  float *gram = spare, *polynomial = spare + square, *other = spare + 2 * square;
  float *from = x, *to = other;
  for (long step = 0; step < steps; step++) {
    const float a = (float)coefficients[3 * step], b = (float)coefficients[3 * step + 1], c = (float)coefficients[3 * step + 2];
    if (wide) symmetricProduct(context, part, {side, side, columns, from, columns, 1, from, 1, columns, gram, side, 1, 0});
    else symmetricProduct(context, part, {side, side, rows, from, 1, columns, from, columns, 1, gram, side, 1, 0});
    const float scale = step == 0 ? overNorm(gram, side) : 1;
    const float squared = scale * scale;
    forVectors(square, [&](long i, auto load, auto store) {
      const vf scaled = load(gram + i) * squared;
      store(gram + i, scaled);
      store(polynomial + i, scaled);
    });
    symmetricProduct(context, part, {side, side, side, gram, side, 1, gram, side, 1, polynomial, side, c, b});
    addToDiagonal(polynomial, side, a);
    if (wide) productAlone(context, part, {rows, columns, side, polynomial, side, 1, from, columns, 1, to, columns, scale, 0});
    else productAlone(context, part, {rows, columns, side, from, columns, 1, polynomial, side, 1, to, columns, scale, 0});
    float* const last = from;
    from = to;
    to = last;
  }
  if (from != x) memcpy(x, from, sizeof(float) * rows * columns);
}

#ifdef GEMMOE_NATIVE_BF16

/** Longest side of a matrix that is held in bfloat16 as a whole. */
constexpr long MOST_ROUNDED = 1024;

/** Rows rounded to bfloat16, two to a word: words [roundUp(rows, NR)][k / 2 rounded up], what is beyond being zero. */
struct RoundedRows {
  uint32_t* words;
  long perRow;
  static long room(long rows, long columns) { return roundUp(rows, NR) * roundUp(columns, 32) / 2; }
  void fill(const float* x, long rows, long columns) {
    perRow = roundUp(columns, 32) / 2;
    for (long i = 0; i < rows; i++) splitRow(words + i * perRow, 0, x + i * columns, columns, 2 * perRow, 1);
    memset(words + rows * perRow, 0, sizeof(uint32_t) * (roundUp(rows, NR) - rows) * perRow);
  }
  /** Panels of the transpose. */
  void transposed(uint32_t* panels, long rows) const {
    for (long j = 0; j < rows; j += W) {
      uint32_t* panel = panels + j / NR * NR * perRow + j % NR;
      transposeRows((float*)panel, NR, (const float*)(words + j * perRow), perRow, perRow);
    }
    if (roundUp(rows, W) % NR) {
      uint32_t* panel = panels + rows / NR * NR * perRow + W;
      for (long w = 0; w < perRow; w++) memset(panel + w * NR, 0, sizeof(uint32_t) * W);
    }
  }
};

/** C = alpha·A·B + beta·C; of a symmetric one the lower blocks are computed and mirrored. */
static void roundedProduct(const RoundedRows& a, const uint32_t* panels, float* c, long m, long n, float alpha, float beta,
                           bool symmetric) {
  const PartProducts& one = partProducts(PRECISION_BF16);
  for (long j = 0; j < n; j += NR) {
    const long first = symmetric ? j : 0, blocks = (m - first + BLOCK_ROWS - 1) / BLOCK_ROWS;
    for (long i = 0; i < blocks; i++) {
#ifdef GEMMOE_TILES
      const long row = first + i * BLOCK_ROWS, rows = least(BLOCK_ROWS, m - row);
#else
      const long row = first + (m - first) * i / blocks, rows = first + (m - first) * (i + 1) / blocks - row;
#endif
      wordTile({a.words + row * a.perRow, 0, panels + j * a.perRow, 0, a.perRow, c + row * n + j, n, rows, least(NR, n - j), alpha,
                beta},
               one);
    }
  }
  if (symmetric) mirror(c, m);
}

INLINE long roundedRoom(long rows, long columns) {
  const long square = rows * rows, r = roundUp(rows, NR), n = roundUp(columns, NR);
  return 2 * square + rows * columns + 2 * r * r + 2 * r * n + r * r + KC_LOW * NR;
}

/** `orthogonalise` for a matrix of at most as many rows as columns, held in bfloat16 between its products. */
static void orthogonaliseRounded(float* x, long rows, long columns, const double* coefficients, long steps, float* spare) {
  const long square = rows * rows, side = roundUp(rows, NR);
  float *gram = spare, *polynomial = gram + square;
  RoundedRows matrix = {(uint32_t*)(polynomial + square), 0};
  RoundedRows small = {matrix.words + RoundedRows::room(rows, columns), 0};
  uint32_t* panels = small.words + RoundedRows::room(rows, rows);
  for (long step = 0; step < steps; step++) {
    const float a = (float)coefficients[3 * step], b = (float)coefficients[3 * step + 1], c = (float)coefficients[3 * step + 2];
    matrix.fill(x, rows, columns);
    matrix.transposed(panels, rows);
    roundedProduct(matrix, panels, gram, rows, rows, 1, 0, true);
    const float scale = step == 0 ? overNorm(gram, rows) : 1, squared = scale * scale;
    forVectors(square, [&](long i, auto load, auto store) {
      const vf scaled = load(gram + i) * squared;
      store(gram + i, scaled);
      store(polynomial + i, scaled);
    });
    small.fill(gram, rows, rows);
    small.transposed(panels, rows);
    roundedProduct(small, panels, polynomial, rows, rows, c, b, true);
    addToDiagonal(polynomial, rows, a);
    small.fill(polynomial, rows, rows);
    const Product across = {rows, columns, rows, nullptr, 0, 0, x, columns, 1, nullptr, 0, 1, 0};
    const long words = small.perRow;
    for (long j = 0; j < columns; j += NR) {
      packWords(panels + j * words, nullptr, across, 0, rows, words, j, least(NR, columns - j), 1);
    }
    roundedProduct(small, panels, x, rows, columns, scale, 0, false);
  }
}

/** out [columns][rows] = x [rows][columns] transposed. */
INLINE void transposeMatrix(float* out, const float* x, long rows, long columns) {
  long i = 0;
  for (; i + W <= rows; i += W) transposeRows(out + i, rows, x + i * columns, columns, columns);
  for (; i < rows; i++) {
    for (long j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j];
  }
}

/** Whether the rounded way is for matrices of this shape. */
INLINE bool isRounded(int precision, long rows, long columns) {
  return precision == PRECISION_BF16 && most(rows, columns) <= MOST_ROUNDED;
}

#endif

static void newtonSchulz(Context* context, float* x, const double* offsets, long count, long rows, long columns,
                         const double* coefficients, long steps, int precision) {
  if (rows == 0 || columns == 0 || count == 0) return;
  const long side = least(rows, columns);
  long room = 2 * side * side + rows * columns;
#ifdef GEMMOE_NATIVE_BF16
  const bool rounded = isRounded(precision, rows, columns);
  if (rounded) room = roundedRoom(side, most(rows, columns));
#endif
  const double work = (double)count * steps * ((double)side * side * (side + 2.0 * most(rows, columns)));
  const int parts = (int)most(1, least(least(context->threads, count), (long)(work / PARALLEL_PRODUCTS)));
  const int usual = context->precision;
  context->precision = precision;
  parallel(context, parts, [=](int part) {
    float* spare = scratch<float>(context, part, SLOT_SCORES, room);
    const Range mine = rangeOf(count, 1, part, parts);
#ifdef GEMMOE_TILES
    if (rounded) tileConfigure();
#endif
    for (long i = mine.begin; i < mine.end; i++) {
      float* matrix = x + (long)offsets[i];
#ifdef GEMMOE_NATIVE_BF16
      if (rounded && rows <= columns) {
        orthogonaliseRounded(matrix, rows, columns, coefficients, steps, spare);
        continue;
      }
      if (rounded) {
        float* turned = spare + room - rows * columns;
        transposeMatrix(turned, matrix, rows, columns);
        orthogonaliseRounded(turned, columns, rows, coefficients, steps, spare);
        transposeMatrix(matrix, turned, columns, rows);
        continue;
      }
#endif
      orthogonalise(context, part, matrix, rows, columns, coefficients, steps, spare);
    }
#ifdef GEMMOE_TILES
    if (rounded) tileRelease();
#endif
  });
  context->precision = usual;
}

} // namespace LEVEL
