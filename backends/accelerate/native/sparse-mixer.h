// The router of PhiMoE; see core/ops/sparse-mixer.ts. Rows are as short as there are experts: plain loops.
#pragma once
#include "rows.h"

namespace LEVEL {

/** Whether a logit comes near the best one. Not beyond, so that 0 / 0 counts as near. */
INLINE bool isNear(float logit, float top, float jitter) {
  const float size = fabsf(logit) > top ? fabsf(logit) : top;
  return !((top - logit) / size > 2 * jitter);
}

/** Index of the largest logit but that of `taken`; ties: the lowest index. */
INLINE long largestBut(const float* logits, long E, long taken) {
  long best = -1;
  for (long e = 0; e < E; e++) {
    if (e != taken && (best < 0 || logits[e] > logits[best])) best = e;
  }
  return best;
}

/** Σ exp(z - top) over the experts near the best one. */
INLINE float nearSum(const float* logits, long E, long taken, long best, float jitter) {
  float total = 0;
  for (long e = 0; e < E; e++) {
    if (e != taken && isNear(logits[e], logits[best], jitter)) total += expf(logits[e] - logits[best]);
  }
  return total;
}

static void sparseMixer(Context* context, float* probabilities, float* weights, int32_t* experts, const float* logits, long N, long E,
                        float jitter) {
  parallelRows(context, N, N * E * 8, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float* z = logits + n * E;
      softmaxRow(probabilities + n * E, z, E);
      for (long k = 0, taken = -1; k < 2; k++) {
        const long best = largestBut(z, E, taken);
        experts[2 * n + k] = (int32_t)best;
        weights[2 * n + k] = 1 / nearSum(z, E, taken, best, jitter);
        taken = best;
      }
    }
  });
}

static void sparseMixerBackward(Context* context, float* dLogits, const float* dWeights, const float* dProbabilities,
                                const float* probabilities, const float* logits, const int32_t* experts, long N, long E, float jitter) {
  parallelRows(context, N, N * E * 8, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float *p = probabilities + n * E, *z = logits + n * E;
      float* d = dLogits + n * E;
      float dot = 0;
      if (dProbabilities) for (long e = 0; e < E; e++) dot += p[e] * dProbabilities[e];
      for (long e = 0; e < E; e++) d[e] = dProbabilities ? p[e] * (dProbabilities[e] - dot) : 0;
      for (long k = 0, taken = -1; k < 2; k++) {
        const long best = experts[2 * n + k];
        const float total = nearSum(z, E, taken, best, jitter), scale = dWeights[2 * n + k] / total;
        for (long e = 0; e < E; e++) {
          if (e == taken || !isNear(z[e], z[best], jitter)) continue;
          d[e] += scale * ((e == best ? 1.0f : 0.0f) - expf(z[e] - z[best]) / total);
        }
        taken = best;
      }
    }
  });
}

} // namespace LEVEL
