// The kernels of Muon and Lion (core/ops/muon.ts, newton-schulz.ts, lion.ts). Matrices of a batch are shared out over the threads,
// each one whole: they are many and small.
#pragma once
#include "gemm.h"
#include "optimizers.h"

namespace LEVEL {

static void lion(Context* context, float* p, float* g, float* m, long count, double learningRate, double beta1, double beta2,
                 double weightDecay, double gradientScale) {
  const float keep = (float)(1 - learningRate * weightDecay), rate = (float)learningRate, scale = (float)gradientScale;
  const float b1 = (float)beta1, c1 = (float)(1 - beta1), b2 = (float)beta2, c2 = (float)(1 - beta2);
  const int parts = partsFor(context, count, PARALLEL_STEPS);
  parallel(context, parts, [=](int part) {
    const Range range = rangeOf(count, 64, part, parts);
    forVectors(range.end - range.begin, [&](long offset, auto load, auto store) {
      const long i = range.begin + offset;
      const vf gradient = load(g + i) * scale, moment = load(m + i);
      const vf mix = moment * b1 + gradient * c1;
      const vf sign = mix > vf{} ? splat(rate) : mix < vf{} ? splat(-rate) : mix * rate; // 0 stays 0, NaN stays NaN
      store(p + i, load(p + i) * keep - sign);
      store(m + i, moment * b2 + gradient * c2);
      store(g + i, vf{});
    });
  });
}

static void muonMomentum(Context* context, float* g, float* m, long count, double momentum, int nesterov, double gradientScale) {
  const float mu = (float)momentum, rest = (float)(1 - momentum), scale = (float)gradientScale;
  const int parts = partsFor(context, count, PARALLEL_STEPS);
  parallel(context, parts, [=](int part) {
    const Range range = rangeOf(count, 64, part, parts);
    forVectors(range.end - range.begin, [&](long offset, auto load, auto store) {
      const long i = range.begin + offset;
      const vf gradient = load(g + i) * scale, before = load(m + i);
      const vf moved = before + rest * (gradient - before);
      store(m + i, moved);
      store(g + i, nesterov ? gradient + mu * (moved - gradient) : moved);
    });
  });
}

/** matrix = a·1 + matrix, for a square one. */
INLINE void addToDiagonal(float* matrix, long side, float a) {
  for (long i = 0; i < side; i++) matrix[i * (side + 1)] += a;
}

/** Copies what lies below the diagonal above it; blocks of NR columns are whole already. */
INLINE void mirror(float* matrix, long side) {
  for (long i = NR; i < side; i++) {
    for (long j = 0; j < i / NR * NR; j++) matrix[j * side + i] = matrix[i * side + j];
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
    // the trace of the first gram is the squared norm, so dividing by it costs no pass over the matrix
    float scale = 1;
    if (step == 0) {
      double trace = 0;
      for (long i = 0; i < side; i++) trace += (double)gram[i * (side + 1)];
      scale = (float)(1 / (sqrt(trace) + 1e-7));
    }
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

static void newtonSchulz(Context* context, float* x, const double* offsets, long count, long rows, long columns,
                         const double* coefficients, long steps, int precision) {
  if (rows == 0 || columns == 0 || count == 0) return;
  const long side = least(rows, columns), room = 2 * side * side + rows * columns;
  const double work = (double)count * steps * ((double)side * side * (side + 2.0 * most(rows, columns)));
  const int parts = (int)most(1, least(least(context->threads, count), (long)(work / PARALLEL_PRODUCTS)));
  const int usual = context->precision;
  context->precision = precision;
  parallel(context, parts, [=](int part) {
    float* spare = scratch<float>(context, part, SLOT_SCORES, room);
    const Range mine = rangeOf(count, 1, part, parts);
    for (long i = mine.begin; i < mine.end; i++) {
      orthogonalise(context, part, x + (long)offsets[i], rows, columns, coefficients, steps, spare);
    }
  });
  context->precision = usual;
}

static void muonNormalise(Context* context, float* x, const double* offsets, long count, long rows, long columns, float* v,
                          double beta2) {
  const float keep = (float)beta2, share = (float)((1 - beta2) / (double)most(1, columns));
  parallelRows(context, count, 2 * count * rows * columns, [=](long begin, long end, int) {
    for (long i = begin; i < end; i++) {
      float* matrix = x + (long)offsets[i];
      double before = 0, after = 0;
      for (long r = 0; r < rows; r++) {
        float* row = matrix + r * columns;
        vf squares{};
        forVectors(columns, [&](long j, auto load, auto) { squares += load(row + j) * load(row + j); });
        const float total = sum(squares);
        const float second = keep * v[i * rows + r] + share * total;
        const float factor = 1.0f / (sqrtf(second) + 1e-8f);
        v[i * rows + r] = second;
        before += (double)total;
        after += (double)total * (double)factor * (double)factor;
        scaleRow(row, columns, factor);
      }
      const float restore = after > 0 ? (float)sqrt(before / after) : 0;
      scaleRow(matrix, rows * columns, restore);
    }
  });
}

static void muonUpdate(Context* context, float* p, float* g, long count, double rate, double decay, int cautious) {
  const float step = (float)rate, shrink = (float)decay;
  const int parts = partsFor(context, count, PARALLEL_STEPS);
  parallel(context, parts, [=](int part) {
    const Range range = rangeOf(count, 64, part, parts);
    forVectors(range.end - range.begin, [&](long offset, auto load, auto store) {
      const long i = range.begin + offset;
      const vf weight = load(p + i), direction = load(g + i);
      const vf kept = cautious ? (direction * weight < vf{} ? vf{} : splat(shrink)) : splat(shrink);
      store(p + i, weight - (kept * weight + step * direction));
      store(g + i, vf{});
    });
  });
}

} // namespace LEVEL
