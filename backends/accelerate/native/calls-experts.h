// Calls of routers and experts.
#pragma once
#include "call.h"

namespace {

KERNEL(router) {
  Call call(env, info, "router");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts"), K = call.size(6, "topK");
  float* probabilities = call.floats(0, "probabilities", double(N) * E);
  float* weights = call.floats(1, "weights", double(N) * K);
  std::int32_t* experts = call.ints(2, "experts", double(N) * K);
  const float* logits = call.floats(3, "logits", double(N) * E);
  const bool renormalise = call.flag(7, "renormalise");
  const float smallestSum = static_cast<float>(call.number(8, "smallestSum"));
  call.check(K <= E, "topK is larger than numExperts");
  if (call.ok()) call.table().router(call.context(), probabilities, weights, experts, logits, N, E, K, renormalise, smallestSum);
  return nullptr;
}

KERNEL(routerBackward) {
  Call call(env, info, "routerBackward");
  const long N = call.size(6, "N"), E = call.size(7, "numExperts"), K = call.size(8, "topK");
  float* dLogits = call.floats(0, "dLogits", double(N) * E);
  const float* dWeights = call.floats(1, "dWeights", double(N) * K);
  const float* dProbabilities = call.floatsOrNull(2, "dProbabilities", E);
  const float* probabilities = call.floats(3, "probabilities", double(N) * E);
  const float* weights = call.floats(4, "weights", double(N) * K);
  const std::int32_t* experts = call.ints(5, "experts", double(N) * K);
  call.within(experts, double(N) * K, "experts", E);
  const bool renormalise = call.flag(9, "renormalise");
  const float smallestSum = static_cast<float>(call.number(10, "smallestSum"));
  if (call.ok()) {
    call.table().routerBackward(call.context(), dLogits, dWeights, dProbabilities, probabilities, weights, experts, N, E, K,
                                renormalise, smallestSum);
  }
  return nullptr;
}

KERNEL(chooseExperts) {
  Call call(env, info, "chooseExperts");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts"), K = call.size(6, "topK");
  float* weights = call.floats(0, "weights", double(N) * K);
  std::int32_t* experts = call.ints(1, "experts", double(N) * K);
  const float* probabilities = call.floats(2, "probabilities", double(N) * E);
  const float* bias = call.floats(3, "bias", E);
  const bool renormalise = call.flag(7, "renormalise");
  const float smallestSum = static_cast<float>(call.number(8, "smallestSum"));
  call.check(K <= E, "topK is larger than numExperts");
  if (call.ok()) {
    call.table().chooseExperts(call.context(), weights, experts, probabilities, bias, N, E, K, renormalise, smallestSum);
  }
  return nullptr;
}

KERNEL(zLoss) {
  Call call(env, info, "zLoss");
  const long N = call.size(2, "N"), E = call.size(3, "E");
  float* dLogits = call.floatsOrNull(0, "dLogits", double(N) * E);
  const float* logits = call.floats(1, "logits", double(N) * E);
  const float scale = static_cast<float>(call.number(4, "scale"));
  return call.ok() ? call.value(call.table().zLoss(call.context(), dLogits, logits, N, E, scale)) : nullptr;
}

KERNEL(sparseMixer) {
  Call call(env, info, "sparseMixer");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts", 2);
  float* probabilities = call.floats(0, "probabilities", double(N) * E);
  float* weights = call.floats(1, "weights", 2.0 * N);
  std::int32_t* experts = call.ints(2, "experts", 2.0 * N);
  const float* logits = call.floats(3, "logits", double(N) * E);
  const float jitter = static_cast<float>(call.number(6, "jitter"));
  if (call.ok()) call.table().sparseMixer(call.context(), probabilities, weights, experts, logits, N, E, jitter);
  return nullptr;
}

KERNEL(sparseMixerBackward) {
  Call call(env, info, "sparseMixerBackward");
  const long N = call.size(6, "N"), E = call.size(7, "numExperts", 2);
  float* dLogits = call.floats(0, "dLogits", double(N) * E);
  const float* dWeights = call.floats(1, "dWeights", 2.0 * N);
  const float* dProbabilities = call.floatsOrNull(2, "dProbabilities", E);
  const float* probabilities = call.floats(3, "probabilities", double(N) * E);
  const float* logits = call.floats(4, "logits", double(N) * E);
  const std::int32_t* experts = call.ints(5, "experts", 2.0 * N);
  call.within(experts, 2.0 * N, "experts", E);
  const float jitter = static_cast<float>(call.number(8, "jitter"));
  if (call.ok()) {
    call.table().sparseMixerBackward(call.context(), dLogits, dWeights, dProbabilities, probabilities, logits, experts, N, E, jitter);
  }
  return nullptr;
}

/** A stable counting sort of (token, choice) by expert: too little work to be worth a vector. */
KERNEL(dispatch) {
  Call call(env, info, "dispatch");
  const long N = call.size(4, "N"), E = call.size(5, "numExperts"), K = call.size(6, "topK");
  const double M = double(N) * K;
  const std::int32_t* experts = call.ints(0, "experts", M);
  std::int32_t* offsets = call.ints(1, "offsets", double(E) + 1);
  std::int32_t* rows = call.ints(2, "rows", M);
  std::int32_t* slots = call.ints(3, "slots", M);
  call.check(M <= 2147483647.0, "N·topK must be below 2^31");
  call.within(experts, M, "experts", E);
  if (!call.ok()) return nullptr;
  const long routed = N * K;
  for (long e = 0; e <= E; e++) offsets[e] = 0;
  for (long i = 0; i < routed; i++) offsets[experts[i] + 1]++;
  for (long e = 0; e < E; e++) offsets[e + 1] += offsets[e];
  // offsets[e] runs up to the start of expert e + 1 while rows are placed, and is moved back afterwards
  for (long n = 0, i = 0; n < N; n++) {
    for (long k = 0; k < K; k++, i++) {
      const std::int32_t slot = offsets[experts[i]]++;
      slots[i] = slot;
      rows[slot] = static_cast<std::int32_t>(n);
    }
  }
  for (long e = E; e > 0; e--) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
  return nullptr;
}

KERNEL(gather) {
  Call call(env, info, "gather");
  const long M = call.size(3, "M"), C = call.size(4, "C");
  float* y = call.floats(0, "y", double(M) * C);
  const float* x = call.floats(1, "x", 0);
  const double end = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* rows = call.ints(2, "rows", M);
  call.within(rows, M, "rows", end);
  if (call.ok()) call.table().gather(call.context(), y, x, rows, M, C);
  return nullptr;
}

KERNEL(gatherBackward) {
  Call call(env, info, "gatherBackward");
  const long N = call.size(3, "N"), K = call.size(4, "K", 1), C = call.size(5, "C");
  float* dx = call.floats(0, "dx", double(N) * C);
  const float* dy = call.floats(1, "dy", 0);
  const double end = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* slots = call.ints(2, "slots", double(N) * K);
  call.within(slots, double(N) * K, "slots", end);
  if (call.ok()) call.table().gatherBackward(call.context(), dx, dy, slots, N, K, C);
  return nullptr;
}

KERNEL(combine) {
  Call call(env, info, "combine");
  const long N = call.size(4, "N"), K = call.size(5, "K"), C = call.size(6, "C");
  float* y = call.floats(0, "y", double(N) * C);
  const float* x = call.floats(1, "x", 0);
  const double end = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const float* weights = call.floats(2, "weights", double(N) * K);
  const std::int32_t* slots = call.ints(3, "slots", double(N) * K);
  call.within(slots, double(N) * K, "slots", end);
  if (call.ok()) call.table().combine(call.context(), y, x, weights, slots, N, K, C);
  return nullptr;
}

KERNEL(combineBackward) {
  Call call(env, info, "combineBackward");
  const long N = call.size(6, "N"), K = call.size(7, "K"), C = call.size(8, "C");
  float* dx = call.floats(0, "dx", 0);
  double end = double(call.length());
  float* dWeights = call.floats(1, "dWeights", double(N) * K);
  const float* dy = call.floats(2, "dy", double(N) * C);
  const float* x = call.floats(3, "x", 0);
  end = C > 0 ? std::floor(std::fmin(end, double(call.length())) / C) : 2147483647.0;
  const float* weights = call.floats(4, "weights", double(N) * K);
  const std::int32_t* slots = call.ints(5, "slots", double(N) * K);
  call.within(slots, double(N) * K, "slots", end);
  if (call.ok()) call.table().combineBackward(call.context(), dx, dWeights, dy, x, weights, slots, N, K, C);
  return nullptr;
}

/** gathered, gateUp, hidden and output, from argument `index` on. */
ExpertsBuffers expertsBuffers(Call& call, int index, const ExpertsShape& s) {
  const double M = double(s.N) * s.K;
  return {call.floats(index, "gathered", M * s.C), call.floats(index + 1, "gateUp", 2 * M * s.F),
          call.floats(index + 2, "hidden", M * s.F), call.floats(index + 3, "output", M * s.C)};
}

/** N, C, E, K and F, from argument `index` on. */
ExpertsShape expertsShape(Call& call, int index) {
  return {call.size(index, "tokens"), call.size(index + 1, "hiddenSize"), call.size(index + 2, "numExperts"),
          call.size(index + 3, "topK"), call.size(index + 4, "expertWidth")};
}

/** offsets of a routing whose rows are all owned by some expert. */
const std::int32_t* routingOffsets(Call& call, int index, const ExpertsShape& s) {
  const double M = double(s.N) * s.K;
  const std::int32_t* offsets = call.ints(index, "offsets", double(s.E) + 1);
  call.rising(offsets, s.E + 1, "offsets", M);
  call.check(M <= 2147483647.0, "tokens·topK must be below 2^31");
  return offsets;
}

/** The experts with weights that `read` takes from JavaScript. */
template <class Weights, class Kernel>
napi_value expertsOf(napi_env env, napi_callback_info info, const char* name,
                     Weights* (Call::*read)(int index, const char* name, double needed), Kernel KernelTable::* kernel) {
  Call call(env, info, name);
  const ExpertsShape s = expertsShape(call, 12);
  const double M = double(s.N) * s.K;
  float* y = call.floats(0, "y", double(s.N) * s.C);
  const ExpertsBuffers saved = expertsBuffers(call, 1, s);
  const float* x = call.floats(5, "x", double(s.N) * s.C);
  const Weights* wGateUp = (call.*read)(6, "wGateUp", 2.0 * s.E * s.F * s.C);
  const Weights* wDown = (call.*read)(7, "wDown", double(s.E) * s.C * s.F);
  const float* weights = call.floats(8, "weights", M);
  const std::int32_t* offsets = routingOffsets(call, 9, s);
  const std::int32_t* rows = call.ints(10, "rows", M);
  const std::int32_t* slots = call.ints(11, "slots", M);
  call.within(rows, M, "rows", s.N);
  call.within(slots, M, "slots", M);
  if (call.ok()) (call.table().*kernel)(call.context(), y, &saved, x, wGateUp, wDown, weights, offsets, rows, slots, &s);
  return nullptr;
}

KERNEL(experts) { return expertsOf(env, info, "experts", &Call::floats, &KernelTable::experts); }
KERNEL(expertsBf16) { return expertsOf(env, info, "expertsBf16", &Call::halves, &KernelTable::expertsBf16); }

KERNEL(expertsBackward) {
  Call call(env, info, "expertsBackward");
  const ExpertsShape s = expertsShape(call, 18);
  const double M = double(s.N) * s.K;
  float* dx = call.floats(0, "dx", double(s.N) * s.C);
  float* dWeights = call.floats(1, "dWeights", M);
  float* dWGateUp = call.floats(2, "dWGateUp", 2.0 * s.E * s.F * s.C);
  float* dWDown = call.floats(3, "dWDown", double(s.E) * s.C * s.F);
  const ExpertsBuffers scratch = expertsBuffers(call, 4, s);
  const float* dy = call.floats(8, "dy", double(s.N) * s.C);
  const ExpertsBuffers saved = expertsBuffers(call, 9, s);
  const float* wGateUp = call.floats(13, "wGateUp", 2.0 * s.E * s.F * s.C);
  const float* wDown = call.floats(14, "wDown", double(s.E) * s.C * s.F);
  const float* weights = call.floats(15, "weights", M);
  const std::int32_t* offsets = routingOffsets(call, 16, s);
  const std::int32_t* slots = call.ints(17, "slots", M);
  call.within(slots, M, "slots", M);
  call.check(s.K >= 1 || s.N == 0, "topK must be at least 1");
  if (call.ok()) {
    call.table().expertsBackward(call.context(), dx, dWeights, dWGateUp, dWDown, &scratch, dy, &saved, wGateUp, wDown, weights,
                                 offsets, slots, &s);
  }
  return nullptr;
}

const Entry EXPERT_CALLS[] = {
    ENTRY(router), ENTRY(routerBackward), ENTRY(chooseExperts), ENTRY(zLoss), ENTRY(sparseMixer), ENTRY(sparseMixerBackward),
    ENTRY(dispatch), ENTRY(gather), ENTRY(gatherBackward), ENTRY(combine), ENTRY(combineBackward), ENTRY(experts),
    ENTRY(expertsBf16), ENTRY(expertsBackward),
};

} // namespace
