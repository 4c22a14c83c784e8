// The elementwise kernels of Muon and Lion (core/ops/muon.ts, lion.ts).
#pragma once
#include "optimizers.h"

namespace LEVEL {

static void lion(Context* context, float* p, float* g, float* m, long count, double learningRate, double beta1, double beta2,
                 double weightDecay, double gradientScale) {
  const float keep = (float)(1 - learningRate * weightDecay), rate = (float)learningRate, scale = (float)gradientScale;
  const float b1 = (float)beta1, c1 = (float)(1 - beta1), b2 = (float)beta2, c2 = (float)(1 - beta2);
  parallelSteps(context, count, [=](long i, auto load, auto store) {
    const vf gradient = load(g + i) * scale, moment = load(m + i);
    const vf mix = moment * b1 + gradient * c1;
    const vf sign = mix > vf{} ? splat(rate) : mix < vf{} ? splat(-rate) : mix * rate; // 0 stays 0, NaN stays NaN
    store(p + i, load(p + i) * keep - sign);
    store(m + i, moment * b2 + gradient * c2);
    store(g + i, vf{});
  });
}

static void muonMomentum(Context* context, float* g, float* m, long count, double momentum, int nesterov, double gradientScale) {
  const float mu = (float)momentum, rest = (float)(1 - momentum), scale = (float)gradientScale;
  parallelSteps(context, count, [=](long i, auto load, auto store) {
    const vf gradient = load(g + i) * scale, before = load(m + i);
    const vf moved = before + rest * (gradient - before);
    store(m + i, moved);
    store(g + i, nesterov ? gradient + mu * (moved - gradient) : moved);
  });
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
  parallelSteps(context, count, [=](long i, auto load, auto store) {
    const vf weight = load(p + i), direction = load(g + i);
    const vf kept = cautious ? (direction * weight < vf{} ? vf{} : splat(shrink)) : splat(shrink);
    store(p + i, weight - (kept * weight + step * direction));
    store(g + i, vf{});
  });
}

} // namespace LEVEL
