// Calls of the optimizers' steps, and of the sum that clipping needs.
#pragma once
#include "call.h"

namespace {

KERNEL(sumOfSquares) {
  Call call(env, info, "sumOfSquares");
  const float* x = call.floats(0, "x", 0);
  return call.ok() ? call.value(call.table().sumOfSquares(call.context(), x, static_cast<long>(call.length()))) : nullptr;
}

KERNEL(adamw) {
  Call call(env, info, "adamw");
  const long offset = call.offset(4, "offset"), count = call.offset(5, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* m = call.floats(2, "m", end);
  float* v = call.floats(3, "v", end);
  double values[7];
  static const char* const names[] = {"learningRate", "beta1", "beta2", "eps", "weightDecay", "step", "gradientScale"};
  for (int i = 0; i < 7; i++) values[i] = call.number(6 + i, names[i]);
  if (call.ok()) {
    call.table().adamw(call.context(), p + offset, g + offset, m + offset, v + offset, count, values[0], values[1], values[2],
                       values[3], values[4], values[5], values[6]);
  }
  return nullptr;
}

KERNEL(adam) {
  Call call(env, info, "adam");
  const long offset = call.offset(5, "offset"), count = call.offset(6, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* m = call.floats(2, "m", end);
  float* v = call.floats(3, "v", end);
  float* vMax = call.floatsOrNull(4, "vMax", end);
  double values[7];
  static const char* const names[] = {"learningRate", "beta1", "beta2", "eps", "weightDecay", "step", "gradientScale"};
  for (int i = 0; i < 7; i++) values[i] = call.number(7 + i, names[i]);
  if (call.ok()) {
    call.table().adam(call.context(), p + offset, g + offset, m + offset, v + offset, vMax ? vMax + offset : nullptr, count, values[0],
                      values[1], values[2], values[3], values[4], values[5], values[6]);
  }
  return nullptr;
}

KERNEL(sgd) {
  Call call(env, info, "sgd");
  const long offset = call.offset(3, "offset"), count = call.offset(4, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* velocity = call.floatsOrNull(2, "velocity", end);
  const double learningRate = call.number(5, "learningRate"), momentum = call.number(6, "momentum");
  const bool nesterov = call.flag(7, "nesterov");
  const double weightDecay = call.number(8, "weightDecay"), step = call.number(9, "step");
  const double gradientScale = call.number(10, "gradientScale");
  if (call.ok()) {
    call.table().sgd(call.context(), p + offset, g + offset, velocity ? velocity + offset : nullptr, count, learningRate, momentum,
                     nesterov, weightDecay, step, gradientScale);
  }
  return nullptr;
}

KERNEL(lion) {
  Call call(env, info, "lion");
  const long offset = call.offset(3, "offset"), count = call.offset(4, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* m = call.floats(2, "m", end);
  const double learningRate = call.number(5, "learningRate"), beta1 = call.number(6, "beta1"), beta2 = call.number(7, "beta2");
  const double weightDecay = call.number(8, "weightDecay"), gradientScale = call.number(9, "gradientScale");
  if (call.ok()) {
    call.table().lion(call.context(), p + offset, g + offset, m + offset, count, learningRate, beta1, beta2, weightDecay,
                      gradientScale);
  }
  return nullptr;
}

KERNEL(adafactor) {
  Call call(env, info, "adafactor");
  const long rowOffset = call.offset(3, "rowOffset"), columnOffset = call.offset(5, "columnOffset");
  const long offset = call.offset(6, "offset"), rows = call.size(7, "rows"), columns = call.size(8, "columns");
  const double end = double(offset) + double(rows) * double(columns);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  float* row = call.floats(2, "row", double(rowOffset) + double(rows));
  float* column = call.floatsOrNull(4, "column", double(columnOffset) + double(columns));
  AdafactorValues o;
  o.learningRate = call.number(9, "learningRate");
  o.step = call.number(10, "step");
  o.decayRate = call.number(11, "decayRate");
  o.eps1 = call.number(12, "eps1");
  o.eps2 = call.number(13, "eps2");
  o.clip = call.number(14, "clip");
  o.relative = call.flag(15, "relative");
  o.weightDecay = call.number(16, "weightDecay");
  o.gradientScale = call.number(17, "gradientScale");
  if (call.ok()) {
    call.table().adafactor(call.context(), p + offset, g + offset, row + rowOffset, column ? column + columnOffset : nullptr, rows,
                           columns, &o);
  }
  return nullptr;
}

KERNEL(scheduleFree) {
  Call call(env, info, "scheduleFree");
  const long offset = call.offset(5, "offset"), count = call.offset(6, "count");
  const double end = double(offset) + double(count);
  static const char* const arrays[] = {"p", "g", "z", "x", "v"};
  float* a[5];
  for (int i = 0; i < 5; i++) a[i] = call.floats(i, arrays[i], end);
  static const char* const names[] = {"learningRate", "beta1", "beta2", "eps", "weightDecay", "averaging", "step", "gradientScale"};
  double values[8];
  for (int i = 0; i < 8; i++) values[i] = call.number(7 + i, names[i]);
  const ScheduleFreeValues o = {values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7]};
  if (call.ok()) {
    call.table().scheduleFree(call.context(), a[0] + offset, a[1] + offset, a[2] + offset, a[3] + offset, a[4] + offset, count, &o);
  }
  return nullptr;
}

KERNEL(muonMomentum) {
  Call call(env, info, "muonMomentum");
  const long offset = call.offset(2, "offset"), count = call.offset(3, "count");
  const double end = double(offset) + double(count);
  float* g = call.floats(0, "g", end);
  float* m = call.floats(1, "m", end);
  const double momentum = call.number(4, "momentum");
  const bool nesterov = call.flag(5, "nesterov");
  const double gradientScale = call.number(6, "gradientScale");
  if (call.ok()) call.table().muonMomentum(call.context(), g + offset, m + offset, count, momentum, nesterov, gradientScale);
  return nullptr;
}

/** Matrices of a batch: their offsets, and how many. Refuses those that leave x. */
const double* matrices(Call& call, int index, double xLength, long rows, long columns, long& count) {
  const double* offsets = call.doubles(index, "offsets", 0);
  count = static_cast<long>(call.length());
  const double size = double(rows) * columns;
  for (long i = 0; call.ok() && i < count; i++) {
    const bool holds = offsets[i] >= 0 && offsets[i] == std::floor(offsets[i]) && offsets[i] + size <= xLength;
    call.check(holds, "matrix " + std::to_string(i) + " does not lie within x");
  }
  return offsets;
}

KERNEL(newtonSchulz) {
  Call call(env, info, "newtonSchulz");
  const long rows = call.size(2, "rows"), columns = call.size(3, "columns");
  float* x = call.floats(0, "x", 0);
  const double length = double(call.length());
  long count = 0;
  const double* offsets = matrices(call, 1, length, rows, columns, count);
  const double* coefficients = call.doubles(4, "coefficients", 0);
  const long steps = static_cast<long>(call.length() / 3);
  const bool rounded = call.flag(5, "rounded");
  const int precision = rounded ? PRECISION_BF16 : call.context()->precision;
  if (call.ok()) call.table().newtonSchulz(call.context(), x, offsets, count, rows, columns, coefficients, steps, precision);
  return nullptr;
}

KERNEL(muonNormalise) {
  Call call(env, info, "muonNormalise");
  const long rows = call.size(2, "rows"), columns = call.size(3, "columns");
  float* x = call.floats(0, "x", 0);
  const double length = double(call.length());
  long count = 0;
  const double* offsets = matrices(call, 1, length, rows, columns, count);
  float* v = call.floats(4, "v", double(count) * rows);
  const double beta2 = call.number(5, "beta2");
  if (call.ok()) call.table().muonNormalise(call.context(), x, offsets, count, rows, columns, v, beta2);
  return nullptr;
}

KERNEL(muonUpdate) {
  Call call(env, info, "muonUpdate");
  const long offset = call.offset(2, "offset"), count = call.offset(3, "count");
  const double end = double(offset) + double(count);
  float* p = call.floats(0, "p", end);
  float* g = call.floats(1, "g", end);
  const double rate = call.number(4, "rate"), decay = call.number(5, "decay");
  const bool cautious = call.flag(6, "cautious");
  if (call.ok()) call.table().muonUpdate(call.context(), p + offset, g + offset, count, rate, decay, cautious);
  return nullptr;
}

const Entry OPTIMIZER_CALLS[] = {
    ENTRY(sumOfSquares), ENTRY(adamw), ENTRY(adam), ENTRY(sgd), ENTRY(lion), ENTRY(adafactor), ENTRY(scheduleFree),
    ENTRY(muonMomentum), ENTRY(newtonSchulz), ENTRY(muonNormalise), ENTRY(muonUpdate),
};

} // namespace
