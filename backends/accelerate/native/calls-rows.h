// Calls of the kernels that go over rows or elements once: embedding, norms, rope, softmax, SwiGLU, cross-entropy, casts, random values.
#pragma once
#include "call.h"

namespace {

KERNEL(embedding) {
  Call call(env, info, "embedding");
  const long N = call.size(3, "N"), C = call.size(4, "C");
  float* y = call.floats(0, "y", double(N) * C);
  const float* table = call.floats(1, "table", 0);
  const double rows = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* ids = call.ints(2, "ids", N);
  call.within(ids, N, "ids", rows);
  if (call.ok()) call.table().embedding(call.context(), y, table, ids, N, C);
  return nullptr;
}

KERNEL(embeddingBf16) {
  Call call(env, info, "embeddingBf16");
  const long N = call.size(3, "N"), C = call.size(4, "C");
  float* y = call.floats(0, "y", double(N) * C);
  const std::uint16_t* table = call.halves(1, "table", 0);
  const double rows = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const std::int32_t* ids = call.ints(2, "ids", N);
  call.within(ids, N, "ids", rows);
  if (call.ok()) call.table().embeddingBf16(call.context(), y, table, ids, N, C);
  return nullptr;
}

KERNEL(embeddingBackward) {
  Call call(env, info, "embeddingBackward");
  const long N = call.size(3, "N"), C = call.size(4, "C");
  float* dTable = call.floats(0, "dTable", 0);
  const double rows = C > 0 ? std::floor(double(call.length()) / C) : 2147483647.0;
  const float* dy = call.floats(1, "dy", double(N) * C);
  const std::int32_t* ids = call.ints(2, "ids", N);
  call.within(ids, N, "ids", rows);
  if (call.ok()) call.table().embeddingBackward(call.context(), dTable, dy, ids, N, C);
  return nullptr;
}

KERNEL(add) {
  Call call(env, info, "add");
  const long count = call.offset(2, "count");
  float* y = call.floats(0, "y", double(count));
  const float* x = call.floats(1, "x", double(count));
  if (call.ok()) call.table().add(call.context(), y, x, count);
  return nullptr;
}

/** y [count] from x and one number. */
napi_value elementwiseOf(napi_env env, napi_callback_info info, const char* name, const char* number,
                         decltype(KernelTable::scale) KernelTable::* kernel) {
  Call call(env, info, name);
  const long count = call.offset(3, "count");
  float* y = call.floats(0, "y", double(count));
  const float* x = call.floats(1, "x", double(count));
  const float value = static_cast<float>(call.number(2, number));
  if (call.ok()) (call.table().*kernel)(call.context(), y, x, value, count);
  return nullptr;
}

KERNEL(scale) { return elementwiseOf(env, info, "scale", "factor", &KernelTable::scale); }
KERNEL(clamp) { return elementwiseOf(env, info, "clamp", "limit", &KernelTable::clamp); }

KERNEL(clampBackward) {
  Call call(env, info, "clampBackward");
  const long count = call.offset(4, "count");
  float* dx = call.floats(0, "dx", double(count));
  const float* dy = call.floats(1, "dy", double(count));
  const float* x = call.floats(2, "x", double(count));
  const float limit = static_cast<float>(call.number(3, "limit"));
  if (call.ok()) call.table().clampBackward(call.context(), dx, dy, x, limit, count);
  return nullptr;
}

KERNEL(rmsNorm) {
  Call call(env, info, "rmsNorm");
  const long N = call.size(4, "N"), C = call.size(5, "C");
  float* y = call.floats(0, "y", double(N) * C);
  float* rstd = call.floats(1, "rstd", N);
  const float* x = call.floats(2, "x", double(N) * C);
  const float* gamma = call.floats(3, "gamma", C);
  const float eps = static_cast<float>(call.number(6, "eps"));
  if (call.ok()) call.table().rmsNorm(call.context(), y, rstd, x, gamma, N, C, eps);
  return nullptr;
}

KERNEL(rmsNormBackward) {
  Call call(env, info, "rmsNormBackward");
  const long N = call.size(6, "N"), C = call.size(7, "C");
  float* dx = call.floats(0, "dx", double(N) * C);
  float* dGamma = call.floats(1, "dGamma", C);
  const float* dy = call.floats(2, "dy", double(N) * C);
  const float* x = call.floats(3, "x", double(N) * C);
  const float* gamma = call.floats(4, "gamma", C);
  const float* rstd = call.floats(5, "rstd", N);
  if (call.ok()) call.table().rmsNormBackward(call.context(), dx, dGamma, dy, x, gamma, rstd, N, C);
  return nullptr;
}

KERNEL(layerNorm) {
  Call call(env, info, "layerNorm");
  const long N = call.size(6, "N"), C = call.size(7, "C");
  float* y = call.floats(0, "y", double(N) * C);
  float* mean = call.floats(1, "mean", N);
  float* rstd = call.floats(2, "rstd", N);
  const float* x = call.floats(3, "x", double(N) * C);
  const float* gamma = call.floats(4, "gamma", C);
  const float* beta = call.floats(5, "beta", C);
  const float eps = static_cast<float>(call.number(8, "eps"));
  if (call.ok()) call.table().layerNorm(call.context(), y, mean, rstd, x, gamma, beta, N, C, eps);
  return nullptr;
}

KERNEL(layerNormBackward) {
  Call call(env, info, "layerNormBackward");
  const long N = call.size(8, "N"), C = call.size(9, "C");
  float* dx = call.floats(0, "dx", double(N) * C);
  float* dGamma = call.floats(1, "dGamma", C);
  float* dBeta = call.floats(2, "dBeta", C);
  const float* dy = call.floats(3, "dy", double(N) * C);
  const float* x = call.floats(4, "x", double(N) * C);
  const float* gamma = call.floats(5, "gamma", C);
  const float* mean = call.floats(6, "mean", N);
  const float* rstd = call.floats(7, "rstd", N);
  if (call.ok()) call.table().layerNormBackward(call.context(), dx, dGamma, dBeta, dy, x, gamma, mean, rstd, N, C);
  return nullptr;
}

/** Both ropes take the same arguments. */
napi_value ropeOf(napi_env env, napi_callback_info info, const char* name, decltype(KernelTable::rope) KernelTable::* kernel) {
  Call call(env, info, name);
  const long offset = call.offset(1, "offset"), stride = call.size(2, "stride");
  const long N = call.size(6, "N"), heads = call.size(7, "heads"), D = call.size(8, "D");
  const double width = double(heads) * D, half = std::floor(D / 2.0);
  float* x = call.floats(0, "x", N > 0 && width > 0 ? double(offset) + double(N - 1) * stride + width : 0);
  const float* cosines = call.floats(3, "cos", 0);
  const double rows = half > 0 ? std::floor(double(call.length()) / half) : 2147483647.0;
  const float* sines = call.floats(4, "sin", half > 0 ? rows * half : 0);
  const std::int32_t* positions = call.ints(5, "positions", N);
  call.within(positions, N, "positions", rows);
  const bool inverse = call.flag(9, "inverse");
  if (call.ok()) (call.table().*kernel)(call.context(), x + offset, stride, cosines, sines, positions, N, heads, D, inverse);
  return nullptr;
}

KERNEL(rope) { return ropeOf(env, info, "rope", &KernelTable::rope); }
KERNEL(ropeInterleaved) { return ropeOf(env, info, "ropeInterleaved", &KernelTable::ropeInterleaved); }

KERNEL(softmax) {
  Call call(env, info, "softmax");
  const long rows = call.size(2, "rows"), n = call.size(3, "n");
  float* y = call.floats(0, "y", double(rows) * n);
  const float* x = call.floats(1, "x", double(rows) * n);
  if (call.ok()) call.table().softmax(call.context(), y, x, rows, n);
  return nullptr;
}

KERNEL(swiglu) {
  Call call(env, info, "swiglu");
  const long M = call.size(2, "M"), F = call.size(3, "F");
  float* hidden = call.floats(0, "hidden", double(M) * F);
  const float* gateUp = call.floats(1, "gateUp", 2 * double(M) * F);
  if (call.ok()) call.table().swiglu(call.context(), hidden, gateUp, M, F);
  return nullptr;
}

KERNEL(swigluBackward) {
  Call call(env, info, "swigluBackward");
  const long M = call.size(3, "M"), F = call.size(4, "F");
  float* dGateUp = call.floats(0, "dGateUp", 2 * double(M) * F);
  const float* dHidden = call.floats(1, "dHidden", double(M) * F);
  const float* gateUp = call.floats(2, "gateUp", 2 * double(M) * F);
  if (call.ok()) call.table().swigluBackward(call.context(), dGateUp, dHidden, gateUp, M, F);
  return nullptr;
}

KERNEL(crossEntropy) {
  Call call(env, info, "crossEntropy");
  const long N = call.size(3, "N"), V = call.size(4, "V");
  float* gradient = call.floatsOrNull(0, "gradient", double(N) * V);
  const float* logits = call.floats(1, "logits", double(N) * V);
  const std::int32_t* targets = call.ints(2, "targets", N);
  const float scale = static_cast<float>(call.number(5, "scale"));
  for (long n = 0; call.ok() && n < N; n++) {
    if (targets[n] != IGNORE_INDEX) call.within(targets + n, 1, "targets", V);
  }
  return call.ok() ? call.value(call.table().crossEntropy(call.context(), gradient, logits, targets, N, V, scale)) : nullptr;
}

/** 16-bit forms of all of x. */
napi_value toHalves(napi_env env, napi_callback_info info, const char* name, decltype(KernelTable::toBf16) KernelTable::* kernel) {
  Call call(env, info, name);
  const float* x = call.floats(1, "x", 0);
  const std::size_t count = call.length();
  std::uint16_t* out = call.halves(0, "out", double(count));
  if (call.ok()) (call.table().*kernel)(call.context(), out, x, static_cast<long>(count));
  return nullptr;
}

KERNEL(toBf16) { return toHalves(env, info, "toBf16", &KernelTable::toBf16); }
KERNEL(toF16) { return toHalves(env, info, "toF16", &KernelTable::toF16); }

/** Values of all 16-bit forms in x. */
napi_value fromHalves(napi_env env, napi_callback_info info, const char* name, decltype(KernelTable::fromBf16) KernelTable::* kernel) {
  Call call(env, info, name);
  const std::uint16_t* x = call.halves(1, "x", 0);
  const std::size_t count = call.length();
  float* out = call.floats(0, "out", double(count));
  if (call.ok()) (call.table().*kernel)(call.context(), out, x, static_cast<long>(count));
  return nullptr;
}

KERNEL(fromBf16) { return fromHalves(env, info, "fromBf16", &KernelTable::fromBf16); }
KERNEL(fromF16) { return fromHalves(env, info, "fromF16", &KernelTable::fromF16); }

/** Values of x [count] as they are after a cast and back. */
napi_value roundedTo(napi_env env, napi_callback_info info, const char* name, decltype(KernelTable::roundToBf16) KernelTable::* kernel) {
  Call call(env, info, name);
  const long count = call.offset(2, "count");
  float* out = call.floats(0, "out", double(count));
  const float* x = call.floats(1, "x", double(count));
  if (call.ok()) (call.table().*kernel)(call.context(), out, x, count);
  return nullptr;
}

KERNEL(roundToBf16) { return roundedTo(env, info, "roundToBf16", &KernelTable::roundToBf16); }
KERNEL(roundToF16) { return roundedTo(env, info, "roundToF16", &KernelTable::roundToF16); }

KERNEL(fillNormal) {
  Call call(env, info, "fillNormal");
  float* out = call.floats(0, "out", 0);
  const long count = static_cast<long>(call.length());
  const double mean = call.number(1, "mean"), deviation = call.number(2, "deviation");
  const auto word = [&](int index, const char* name) { return static_cast<std::uint32_t>(call.offset(index, name)); };
  const NormalStream stream = {word(3, "keyLow"), word(4, "keyHigh"), word(5, "stream"), word(6, "step")};
  const long start = call.offset(7, "start");
  if (call.ok()) call.table().fillNormal(call.context(), out, count, mean, deviation, stream, static_cast<double>(start));
  return nullptr;
}

KERNEL(exponential) {
  Call call(env, info, "exponential");
  const float* x = call.floats(1, "x", 0);
  const std::size_t count = call.length();
  float* y = call.floats(0, "y", double(count));
  if (call.ok()) call.table().exponential(call.context(), y, x, static_cast<long>(count));
  return nullptr;
}

const Entry ROW_CALLS[] = {
    ENTRY(embedding), ENTRY(embeddingBf16), ENTRY(embeddingBackward), ENTRY(add), ENTRY(scale), ENTRY(clamp),
    ENTRY(clampBackward), ENTRY(rmsNorm), ENTRY(rmsNormBackward), ENTRY(layerNorm), ENTRY(layerNormBackward), ENTRY(rope),
    ENTRY(ropeInterleaved), ENTRY(softmax), ENTRY(swiglu), ENTRY(swigluBackward), ENTRY(crossEntropy), ENTRY(toBf16),
    ENTRY(fromBf16), ENTRY(toF16), ENTRY(fromF16), ENTRY(roundToBf16), ENTRY(roundToF16), ENTRY(fillNormal), ENTRY(exponential),
};

} // namespace
