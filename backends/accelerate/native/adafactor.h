// Adafactor (core/ops/adafactor.ts). Sums over a row, a column or the whole matrix are made in the same order by any number of threads.
#pragma once
#include "optimizers.h"

namespace LEVEL {

/** Rows that are summed in float32 before they are added to a double. */
constexpr long COLUMN_BLOCK = 64;

static void averageColumns(Context* context, float* column, const float* g, long rows, long columns, double fresh, float scale) {
  const int parts = partsFor(context, rows * columns);
  parallel(context, parts, [=](int part) {
    const Range range = rangeOf(columns, W, part, parts);
    forVectors(range.end - range.begin, [&](long offset, auto load, auto) {
      const long j = range.begin + offset, count = least(W, range.end - j);
      double totals[W] = {};
      for (long first = 0; first < rows; first += COLUMN_BLOCK) {
        vf block{};
        for (long r = first; r < least(rows, first + COLUMN_BLOCK); r++) {
          const vf value = load(g + r * columns + j) * scale;
          block += value * value;
        }
        for (long i = 0; i < count; i++) totals[i] += (double)block[i];
      }
      for (long i = 0; i < count; i++) {
        const double before = (double)column[j + i];
        column[j + i] = (float)(before + fresh * (totals[i] / (double)rows - before));
      }
    });
  });
}

/** g becomes the update; returns the sum of its squares. The second moment of an element is row·column/norm, or `row` alone. */
static double adafactorUpdate(Context* context, float* g, const float* row, const float* column, long rows, long columns, double norm,
                              float floor_, float scale) {
  double* sums = scratch<double>(context, 0, SLOT_SUMS, rows);
  parallelRows(context, rows, rows * columns * 4, [=](long begin, long end, int) {
    for (long r = begin; r < end; r++) {
      const float share = column ? (float)((double)row[r] / norm) : row[r];
      float* to = g + r * columns;
      vf squares{};
      forVectors(columns, [&](long j, auto load, auto store) {
        const vf second = column ? share * load(column + j) : splat(share);
        const vf update = load(to + j) * scale / squareRoot(maximum(second, splat(floor_)));
        store(to + j, update);
        squares += update * update;
      });
      sums[r] = sumDouble(squares);
    }
  });
  double total = 0;
  for (long r = 0; r < rows; r++) total += sums[r];
  return total;
}

static void adafactor(Context* context, float* p, float* g, float* row, float* column, long rows, long columns,
                      const AdafactorValues* values) {
  const AdafactorValues& o = *values;
  const long size = rows * columns;
  if (size == 0) return;
  const double fresh = pow(o.step, -o.decayRate);
  const float scale = (float)o.gradientScale;
  parallelRows(context, rows, size, [=](long begin, long end, int) {
    for (long r = begin; r < end; r++) {
      vf squares{};
      forVectors(columns, [&](long j, auto load, auto) {
        const vf value = load(g + r * columns + j) * scale;
        squares += value * value;
      });
      const double before = (double)row[r];
      row[r] = (float)(before + fresh * (sumDouble(squares) / (double)columns - before));
    }
  });
  if (column) averageColumns(context, column, g, rows, columns, fresh, scale);
  double mean = 0;
  for (long r = 0; r < rows; r++) mean += (double)row[r] / (double)rows;
  const double squares =
      adafactorUpdate(context, g, row, column, rows, columns, fmax(mean, o.eps1), (float)(o.eps1 * o.eps1), scale);
  const double bounded = o.relative ? fmin(o.learningRate, 1 / sqrt(o.step)) : o.learningRate;
  const double stepSize = o.relative ? fmax(o.eps2, sqrt(sumOfSquares(context, p, size) / (double)size)) : 1;
  const float rate = (float)(bounded * stepSize / fmax(1, sqrt(squares / (double)size) / o.clip));
  const float keep = (float)(1 - o.learningRate * o.weightDecay);
  parallelSteps(context, size, [=](long i, auto load, auto store) {
    store(p + i, load(p + i) * keep - rate * load(g + i));
    store(g + i, vf{});
  });
}

} // namespace LEVEL
