// One pass over weights, gradients and state for each step; sums over all of them.
#pragma once
#include "simd.h"

namespace LEVEL {

/** Elements that are summed in float32 before they are added to a double. */
constexpr long SUM_BLOCK = 8192;

static double preciseSquares(const float* x, long count) {
  double total = 0;
  for (long i = 0; i < count; i++) total += (double)x[i] * (double)x[i];
  return total;
}

/** Blocks are the same for any number of threads, so the sum is. */
static double sumOfSquares(Context* context, const float* x, long count) {
  const long blocks = (count + SUM_BLOCK - 1) / SUM_BLOCK;
  double* sums = scratch<double>(context, 0, SLOT_SUMS, blocks);
  parallelRows(context, blocks, count / 2, [=](long begin, long end, int) {
    for (long block = begin; block < end; block++) {
      const float* from = x + block * SUM_BLOCK;
      const long length = least(SUM_BLOCK, count - block * SUM_BLOCK);
      vf totals[4] = {};
      long i = 0;
      for (; i + 4 * W <= length; i += 4 * W) {
        for (int j = 0; j < 4; j++) {
          const vf v = load(from + i + j * W);
          totals[j] += v * v;
        }
      }
      for (; i < length; i += W) {
        const vf v = length - i >= W ? load(from + i) : loadPartial(from + i, length - i);
        totals[0] += v * v;
      }
      const double total = sumDouble((totals[0] + totals[1]) + (totals[2] + totals[3]));
      // squares that leave float32's range, above or below
      sums[block] = total > 1e-24 && total < 1e37 ? total : preciseSquares(from, length);
    }
  });
  double total = 0;
  for (long block = 0; block < blocks; block++) total += sums[block];
  return total;
}

/** Elements that are worth a thread where each is read and written in several arrays. */
constexpr long PARALLEL_STEPS = 16384;

/** body(i, load, store) over the elements of a step. */
template <class Body>
static void parallelSteps(Context* context, long count, Body body) {
  parallelVectors(context, count, body, PARALLEL_STEPS, 64);
}

static void adamw(Context* context, float* p, float* g, float* m, float* v, long count, double learningRate, double beta1,
                  double beta2, double eps, double weightDecay, double step, double gradientScale) {
  const float keep = (float)(1 - learningRate * weightDecay), rate = (float)(learningRate / (1 - pow(beta1, step)));
  const float correction = (float)(1 / sqrt(1 - pow(beta2, step))), epsilon = (float)eps, scale = (float)gradientScale;
  const float b1 = (float)beta1, b2 = (float)beta2, c1 = (float)(1 - beta1), c2 = (float)(1 - beta2);
  parallelSteps(context, count, [=](long i, auto load, auto store) {
    const vf gradient = load(g + i) * scale;
    const vf first = load(m + i) * b1 + gradient * c1;
    const vf second = load(v + i) * b2 + gradient * gradient * c2;
    store(m + i, first);
    store(v + i, second);
    store(g + i, vf{});
    store(p + i, load(p + i) * keep - rate * first / (squareRoot(second) * correction + epsilon));
  });
}

static void adam(Context* context, float* p, float* g, float* m, float* v, float* vMax, long count, double learningRate,
                 double beta1, double beta2, double eps, double weightDecay, double step, double gradientScale) {
  const float decay = (float)weightDecay, rate = (float)(learningRate / (1 - pow(beta1, step)));
  const float correction = (float)(1 / sqrt(1 - pow(beta2, step))), epsilon = (float)eps, scale = (float)gradientScale;
  const float b1 = (float)beta1, b2 = (float)beta2, c1 = (float)(1 - beta1), c2 = (float)(1 - beta2);
  parallelSteps(context, count, [=](long i, auto load, auto store) {
    const vf gradient = load(g + i) * scale + load(p + i) * decay;
    const vf first = load(m + i) * b1 + gradient * c1;
    vf second = load(v + i) * b2 + gradient * gradient * c2;
    store(m + i, first);
    store(v + i, second);
    store(g + i, vf{});
    if (vMax) {
      second = maximum(load(vMax + i), second);
      store(vMax + i, second);
    }
    store(p + i, load(p + i) - rate * first / (squareRoot(second) * correction + epsilon));
  });
}

static void sgd(Context* context, float* p, float* g, float* velocity, long count, double learningRate, double momentum,
                int nesterov, double weightDecay, double step, double gradientScale) {
  const float rate = (float)learningRate, mu = (float)momentum, decay = (float)weightDecay, scale = (float)gradientScale;
  parallelSteps(context, count, [=](long i, auto load, auto store) {
    const vf gradient = load(g + i) * scale + load(p + i) * decay;
    vf update = gradient;
    if (velocity) {
      const vf speed = step == 1 ? gradient : load(velocity + i) * mu + gradient;
      store(velocity + i, speed);
      update = nesterov ? gradient + speed * mu : speed;
    }
    store(p + i, load(p + i) - rate * update);
    store(g + i, vf{});
  });
}

} // namespace LEVEL
