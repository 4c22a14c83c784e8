// Mixture of experts: the router, moving rows between token order and expert order, and whole expert layers.
#pragma once
#include "gemm.h"
#include "rows.h"

namespace LEVEL {

/** The K largest of p [E] in falling order; ties go to the lowest index, and NaN is never larger. */
template <class Score>
INLINE void chooseLargest(int32_t* chosen, const Score* p, long E, long K) {
  for (long k = 0; k < K; k++) {
    long best = -1;
    for (long e = 0; e < E; e++) {
      bool taken = false;
      for (long j = 0; j < k; j++) taken |= chosen[j] == e;
      if (!taken && (best < 0 || p[e] > p[best])) best = e;
    }
    chosen[k] = (int32_t)best;
  }
}

/** weights [K] of the chosen ones. */
INLINE void weigh(float* w, const int32_t* chosen, const float* p, long K, int renormalise, float smallestSum) {
  float total = 0;
  for (long k = 0; k < K; k++) total += p[chosen[k]];
  if (total < smallestSum) total = smallestSum;
  for (long k = 0; k < K; k++) w[k] = renormalise ? p[chosen[k]] / total : p[chosen[k]];
}

static void router(Context* context, float* probabilities, float* weights, int32_t* experts, const float* logits, long N, long E,
                   long K, int renormalise, float smallestSum) {
  parallelRows(context, N, N * E * (4 + K), [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      float* p = probabilities + n * E;
      int32_t* chosen = experts + n * K;
      softmaxRow(p, logits + n * E, E);
      chooseLargest(chosen, p, E, K);
      weigh(weights + n * K, chosen, p, K, renormalise, smallestSum);
    }
  });
}

static void chooseExperts(Context* context, float* weights, int32_t* experts, const float* probabilities, const float* bias, long N,
                          long E, long K, int renormalise, float smallestSum) {
  parallelRows(context, N, N * E * (2 + K), [=](long begin, long end, int part) {
    double* scores = scratch<double>(context, part, SLOT_SCORES, E); // in float32, sums that differ would tie
    for (long n = begin; n < end; n++) {
      const float* p = probabilities + n * E;
      for (long e = 0; e < E; e++) scores[e] = (double)p[e] + (double)bias[e];
      chooseLargest(experts + n * K, scores, E, K);
      weigh(weights + n * K, experts + n * K, p, K, renormalise, smallestSum);
    }
  });
}

static double zLoss(Context* context, float* dLogits, const float* logits, long N, long E, float scale) {
  double* squares = scratch<double>(context, 0, SLOT_SUMS, N);
  parallelRows(context, N, N * E * 4, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float *row = logits + n * E, shift = rowMaximum(row, E);
      const auto power = [&](long e, auto load) { return exponential(load(row + e, -INFINITY) - shift); };
      vf totals{};
      forVectors(E, [&](long e, auto load, auto) { totals += power(e, load); });
      const double total = sumDouble(totals), logSumExp = (double)shift + log(total);
      squares[n] = logSumExp * logSumExp;
      if (!dLogits) continue;
      const float factor = (float)(2 * (double)scale * logSumExp / total);
      float* d = dLogits + n * E;
      forVectors(E, [&](long e, auto load, auto store) { store(d + e, load(d + e) + factor * power(e, load)); });
    }
  });
  double total = 0;
  for (long n = 0; n < N; n++) total += squares[n];
  return total;
}

static void routerBackward(Context* context, float* dLogits, const float* dWeights, const float* dProbabilities,
                           const float* probabilities, const float* weights, const int32_t* experts, long N, long E, long K,
                           int renormalise, float smallestSum) {
  parallelRows(context, N, N * (3 * E + 3 * K), [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const float *p = probabilities + n * E, *w = weights + n * K, *dw = dWeights + n * K;
      const int32_t* chosen = experts + n * K;
      float total = 1, mean = 0;
      if (renormalise) {
        total = 0;
        for (long k = 0; k < K; k++) {
          total += p[chosen[k]];
          mean += dw[k] * w[k];
        }
        if (total < smallestSum) total = smallestSum, mean = 0; // divided by a constant
      }
      float* d = dLogits + n * E; // holds dp until the last loop
      for (long e = 0; e < E; e++) d[e] = dProbabilities ? dProbabilities[e] : 0;
      for (long k = 0; k < K; k++) d[chosen[k]] += (dw[k] - mean) / total;
      float dot = 0;
      for (long e = 0; e < E; e++) dot += p[e] * d[e];
      for (long e = 0; e < E; e++) d[e] = p[e] * (d[e] - dot);
    }
  });
}

static void gather(Context* context, float* y, const float* x, const int32_t* rows, long M, long C) {
  parallelRows(context, M, M * C, [=](long begin, long end, int) {
    for (long m = begin; m < end; m++) memcpy(y + m * C, x + (long)rows[m] * C, sizeof(float) * C);
  });
}

static void gatherBackward(Context* context, float* dx, const float* dy, const int32_t* slots, long N, long K, long C) {
  parallelRows(context, N, N * K * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const int32_t* slot = slots + n * K;
      forVectors(C, [&](long i, auto load, auto store) {
        vf total = load(dy + (long)slot[0] * C + i);
        for (long k = 1; k < K; k++) total += load(dy + (long)slot[k] * C + i);
        store(dx + n * C + i, total);
      });
    }
  });
}

static void combine(Context* context, float* y, const float* x, const float* weights, const int32_t* slots, long N, long K, long C) {
  parallelRows(context, N, N * K * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      const int32_t* slot = slots + n * K;
      const float* weight = weights + n * K;
      forVectors(C, [&](long i, auto load, auto store) {
        vf total = load(y + n * C + i);
        for (long k = 0; k < K; k++) total += weight[k] * load(x + (long)slot[k] * C + i);
        store(y + n * C + i, total);
      });
    }
  });
}

static void combineBackward(Context* context, float* dx, float* dWeights, const float* dy, const float* x, const float* weights,
                            const int32_t* slots, long N, long K, long C) {
  parallelRows(context, N, 2 * N * K * C, [=](long begin, long end, int) {
    for (long n = begin; n < end; n++) {
      for (long k = 0; k < K; k++) {
        const long slot = slots[n * K + k];
        const float weight = weights[n * K + k];
        vf dot{};
        forVectors(C, [&](long i, auto load, auto store) {
          const vf d = load(dy + n * C + i);
          dot += d * load(x + slot * C + i);
          store(dx + slot * C + i, weight * d);
        });
        dWeights[n * K + k] = sum(dot);
      }
    }
  });
}

/** Gate and up of all experts, each thread finishing its columns of `hidden` while it has them at hand. */
static void gateUpAndActivate(Context* context, const ExpertsBuffers& saved, const float* wGateUp, const int32_t* offsets,
                              const ExpertsShape& s) {
  const auto half = [&](long e, long column) {
    const long row = offsets[e], rows = offsets[e + 1] - row;
    return Product{rows, s.F, s.C, saved.gathered + row * s.C, s.C, 1, wGateUp + (e * 2 * s.F + column) * s.C, 1, s.C,
                   saved.gateUp + row * 2 * s.F + column, 2 * s.F, 1, 0};
  };
  groupedColumns(context, s.E, [&](long e) { return half(e, 0); }, [&](int part, long e, long begin, long end) {
    const Product gate = half(e, 0), up = half(e, s.F);
    productPart(context, part, gate, wayOf(gate), begin, end);
    productPart(context, part, up, wayOf(up), begin, end);
    swigluBlock(saved.hidden + (long)offsets[e] * s.F, gate.c, gate.m, s.F, begin, end);
  });
}

static void experts(Context* context, float* y, const ExpertsBuffers* saved, const float* x, const float* wGateUp,
                    const float* wDown, const float* weights, const int32_t* offsets, const int32_t* rows, const int32_t* slots,
                    const ExpertsShape* shape) {
  const ExpertsShape& s = *shape;
  gather(context, saved->gathered, x, rows, s.N * s.K, s.C);
  if (context->blasThreads || s.C == 0) {
    groupedLinear(context, saved->gateUp, saved->gathered, wGateUp, offsets, s.E, s.C, 2 * s.F);
    swiglu(context, saved->hidden, saved->gateUp, s.N * s.K, s.F);
  } else {
    gateUpAndActivate(context, *saved, wGateUp, offsets, s);
  }
  groupedLinear(context, saved->output, saved->hidden, wDown, offsets, s.E, s.F, s.C);
  combine(context, y, saved->output, weights, slots, s.N, s.K, s.C);
}

static void groupedHalf(Context* context, float* y, const float* x, const uint16_t* w, const int32_t* offsets, long E, long I, long O) {
  groupedProduct(context, E, [=](long e) {
    const long row = offsets[e];
    return timesHalf(y + row * O, x + row * I, w + e * O * I, offsets[e + 1] - row, O, I);
  });
}

static void expertsBf16(Context* context, float* y, const ExpertsBuffers* saved, const float* x, const uint16_t* wGateUp,
                        const uint16_t* wDown, const float* weights, const int32_t* offsets, const int32_t* rows,
                        const int32_t* slots, const ExpertsShape* shape) {
  const ExpertsShape& s = *shape;
  gather(context, saved->gathered, x, rows, s.N * s.K, s.C);
  groupedHalf(context, saved->gateUp, saved->gathered, wGateUp, offsets, s.E, s.C, 2 * s.F);
  swiglu(context, saved->hidden, saved->gateUp, s.N * s.K, s.F);
  groupedHalf(context, saved->output, saved->hidden, wDown, offsets, s.E, s.F, s.C);
  combine(context, y, saved->output, weights, slots, s.N, s.K, s.C);
}

static void expertsBackward(Context* context, float* dx, float* dWeights, float* dWGateUp, float* dWDown,
                            const ExpertsBuffers* scratch, const float* dy, const ExpertsBuffers* saved, const float* wGateUp,
                            const float* wDown, const float* weights, const int32_t* offsets, const int32_t* slots,
                            const ExpertsShape* shape) {
  const ExpertsShape& s = *shape;
  combineBackward(context, scratch->output, dWeights, dy, saved->output, weights, slots, s.N, s.K, s.C);
  groupedLinearBackward(context, scratch->hidden, dWDown, scratch->output, saved->hidden, wDown, offsets, s.E, s.F, s.C);
  swigluBackward(context, scratch->gateUp, scratch->hidden, saved->gateUp, s.N * s.K, s.F);
  groupedLinearBackward(context, scratch->gathered, dWGateUp, scratch->gateUp, saved->gathered, wGateUp, offsets, s.E, s.C,
                        2 * s.F);
  gatherBackward(context, dx, scratch->gathered, slots, s.N, s.K, s.C);
}

} // namespace LEVEL
