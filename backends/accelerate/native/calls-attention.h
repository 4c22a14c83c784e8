// Calls of attention.
#pragma once
#include "call.h"

namespace {

/** The ten numbers of an AttentionShape and its first keys or null, from argument `index` on. */
AttentionShape attentionShape(Call& call, int index) {
  AttentionShape s = {};
  s.batch = call.size(index, "batch");
  s.queries = call.size(index + 1, "queries");
  s.heads = call.size(index + 2, "heads");
  s.kvHeads = call.size(index + 3, "kvHeads", 1);
  s.headDim = call.size(index + 4, "headDim");
  s.scale = static_cast<float>(call.number(index + 5, "scale"));
  s.window = call.size(index + 6, "window");
  s.queryStride = call.size(index + 7, "queryStride");
  s.keyStride = call.size(index + 8, "keyStride");
  s.keyBatchStride = call.offset(index + 9, "keyBatchStride");
  call.check(s.kvHeads == 0 || s.heads % s.kvHeads == 0, "kvHeads must divide heads");
  s.firstKeys = call.intsOrNull(index + 10, "firstKeys", double(s.batch) * s.queries);
  for (long i = 0; s.firstKeys && call.ok() && i < s.batch * s.queries; i++) {
    const long t = i % s.queries, least = t == 0 ? 0 : s.firstKeys[i - 1];
    call.check(s.firstKeys[i] >= least && s.firstKeys[i] <= t, "firstKeys must rise, each at most its query's place");
  }
  return s;
}

bool isEmpty(const AttentionShape& s) { return s.batch == 0 || s.queries == 0 || s.heads == 0 || s.headDim == 0; }

double queryEnd(const AttentionShape& s, long offset) {
  return isEmpty(s) ? 0 : double(offset) + (double(s.batch) * s.queries - 1) * s.queryStride + double(s.heads) * s.headDim;
}

/** Elements up to the last key that a query sees; `starts` is null where all are 0. */
double keyEnd(const AttentionShape& s, const std::int32_t* starts, long offset) {
  double end = 0;
  for (long b = 0; !isEmpty(s) && b < s.batch; b++) {
    const double keys = double(starts ? starts[b] : 0) + s.queries;
    end = std::fmax(end, double(offset) + double(b) * s.keyBatchStride + (keys - 1) * s.keyStride + double(s.kvHeads) * s.headDim);
  }
  return end;
}

KERNEL(attention) {
  Call call(env, info, "attention");
  const AttentionShape s = attentionShape(call, 9);
  const long qOffset = call.offset(3, "qOffset"), kOffset = call.offset(5, "kOffset"), vOffset = call.offset(7, "vOffset");
  const double rows = double(s.batch) * s.queries;
  const std::int32_t* starts = call.ints(8, "starts", s.batch);
  call.within(starts, s.batch, "starts", 1073741824.0);
  for (long b = 0; s.firstKeys && call.ok() && b < s.batch; b++) call.check(starts[b] == 0, "firstKeys need starts of 0");
  if (!call.ok()) return nullptr;
  float* out = call.floats(0, "out", rows * s.heads * s.headDim);
  float* logSumExp = call.floatsOrNull(1, "logSumExp", rows * s.heads);
  const float* q = call.floats(2, "q", queryEnd(s, qOffset));
  const float* k = call.floats(4, "k", keyEnd(s, starts, kOffset));
  const float* v = call.floats(6, "v", keyEnd(s, starts, vOffset));
  if (!call.ok() || isEmpty(s)) return nullptr;
  call.table().attention(call.context(), out, logSumExp, q + qOffset, k + kOffset, v + vOffset, starts, &s);
  return nullptr;
}

KERNEL(attentionBackward) {
  Call call(env, info, "attentionBackward");
  const AttentionShape s = attentionShape(call, 12);
  const long qOffset = call.offset(7, "qOffset"), kOffset = call.offset(9, "kOffset"), vOffset = call.offset(11, "vOffset");
  const double rows = double(s.batch) * s.queries;
  const double qEnd = queryEnd(s, qOffset), kEnd = keyEnd(s, nullptr, kOffset), vEnd = keyEnd(s, nullptr, vOffset);
  float* dq = call.floats(0, "dq", qEnd);
  float* dk = call.floats(1, "dk", kEnd);
  float* dv = call.floats(2, "dv", vEnd);
  const float* dOut = call.floats(3, "dOut", rows * s.heads * s.headDim);
  const float* out = call.floats(4, "out", rows * s.heads * s.headDim);
  const float* logSumExp = call.floats(5, "logSumExp", rows * s.heads);
  const float* q = call.floats(6, "q", qEnd);
  const float* k = call.floats(8, "k", kEnd);
  const float* v = call.floats(10, "v", vEnd);
  if (!call.ok() || isEmpty(s)) return nullptr;
  call.table().attentionBackward(call.context(), dq + qOffset, dk + kOffset, dv + vOffset, dOut, out, logSumExp, q + qOffset,
                                 k + kOffset, v + vOffset, &s);
  return nullptr;
}

const Entry ATTENTION_CALLS[] = {
    ENTRY(attention), ENTRY(attentionBackward),
};

} // namespace
