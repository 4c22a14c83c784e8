// Causal grouped-query attention in tiles, forward and backward, over the tiles of gemm.h.
//
// Query head h reads kv head floor(h / (H/KV)): keys and values of a kv head are packed once and serve all its query heads.
// Scores of a block of queries are held against a block of keys; the forward pass rescales what it has when a later block holds
// a larger score (Milakov & Gimelshein 2018; Dao et al. 2022). The backward pass makes the probabilities again from logSumExp:
//   P = exp(S - logSumExp), D = Σ dOut⊙out, dS = P⊙(dOut·vᵀ - D), dq = scale·dS·k, dk = scale·dSᵀ·q, dv = Pᵀ·dOut.
#pragma once
#include "gemm.h"
#include "rows.h"

namespace LEVEL {

/** Query rows of a block. */
constexpr long QUERY_BLOCK = 2 * MR > 28 ? 28 : 4 * MR > 24 ? 24 : 4 * MR;
/** Keys of a block: their scores stay in the first caches. A multiple of NR. */
constexpr long KEY_BLOCK = 512;
/** Query rows of a kv head below which its keys are read in place: packing would cost more than the products. */
constexpr long PACK_QUERIES = 8;

/** The shape with the first keys of sequence b alone. */
INLINE AttentionShape ofSequence(AttentionShape s, long b) {
  if (s.firstKeys) s.firstKeys += b * s.queries;
  return s;
}

/** Keys that some query of [first,last) sees, those before being outside every window. */
INLINE Range keysOf(const AttentionShape& s, long start, long first, long last) {
  const long begin = s.window > 0 ? most(0, start + first - s.window + 1) : 0;
  return {s.firstKeys ? most(begin, s.firstKeys[first]) : begin, start + last};
}

/** Panels of op(B) for [keys] of one kv head; see packPanel. */
struct Panels {
  float* data;
  /** Floats between panels. */
  long stride;
};

/** Keys as columns: panels of NR keys, [D][NR]. */
INLINE void packKeys(Panels panels, const float* k, long stride, long D, long begin, long end) {
  for (long j = begin; j < end; j += NR) {
    packPanel(panels.data + j / NR * panels.stride, k + j * stride, 1, stride, D, least(NR, end - j));
  }
}

/** Values as rows: panels of NR columns of the head, [keys][NR]. */
INLINE void packRows(Panels panels, const float* v, long stride, long D, long begin, long end) {
  for (long c = 0; c < D; c += NR) {
    packPanel(panels.data + c / NR * panels.stride + begin * NR, v + begin * stride + c, stride, 1, end - begin, least(NR, D - c));
  }
}

/** C [rows, end-begin] = a [rows,D] · keysᵀ for keys [begin,end); begin is a multiple of NR; panels hold the keys. */
INLINE void timesKeys(float* c, long ldc, const float* a, long aRow, long rows, long D, Panels panels, long begin, long end) {
  const Product g = {rows, end - begin, D, a, aRow, 1, nullptr, 0, 0, c, ldc, 1, 0};
  tiles(g, {0, D, 0}, 0, end - begin, nullptr, [&](long j, long&) { return panels.data + (begin + j) / NR * panels.stride; });
}

/** C [rows,D] = a [rows, end-begin] · rows [begin,end) of the packed matrix + beta·C. */
INLINE void timesRows(float* c, long ldc, const float* a, long aRow, long rows, long D, Panels panels, long begin, long end,
                      float alpha, float beta) {
  const Product g = {rows, D, end - begin, a, aRow, 1, nullptr, 0, 0, c, ldc, alpha, beta};
  tiles(g, {0, end - begin, beta}, 0, D, nullptr, [&](long j, long&) { return panels.data + j / NR * panels.stride + begin * NR; });
}

/** Rows of a block that stand at `position` see keys [from,to) of the block of keys that starts at `begin`. */
INLINE Range seen(const AttentionShape& s, long position, long begin, long end) {
  long from = s.window > 0 ? most(begin, position - s.window + 1) : begin;
  if (s.firstKeys) from = most(from, s.firstKeys[position]);
  return {least(most(from, begin), end), most(begin, least(end, position + 1))};
}

/** Numbers 0, 1, 2, … in the lanes. */
INLINE vi laneNumbers() {
  vi lanes{};
  for (int i = 0; i < W; i++) lanes[i] = i;
  return lanes;
}

/** x where its place i + lane lies in [from,to), `other` elsewhere. */
INLINE vf inside(vf x, long i, Range range, vf other) {
  const vi place = laneNumbers() + (int32_t)i;
  const vi out = (place < splatInt((int32_t)range.begin)) | (place >= splatInt((int32_t)range.end));
  return out ? other : x;
}

/** Largest of the scores of a row that are seen; `width` is a multiple of W, what lies beyond the range is any number. */
INLINE float seenMaximum(const float* row, long width, Range range) {
  vf most = splat(-INFINITY);
  for (long i = 0; i < width; i += W) {
    const vf x = load(row + i);
    most = maximum(i >= range.begin && i + W <= range.end ? x : inside(x, i, range, most), most);
  }
  return largest(most);
}

/** row = e^(row·scale - shift) where it is seen, 0 elsewhere; the sum. */
INLINE float seenExponentials(float* row, long width, Range range, float scale, float shift) {
  vf total{};
  for (long i = 0; i < width; i += W) {
    const vf x = load(row + i) * scale - shift;
    vf y;
    if (i >= range.begin && i + W <= range.end) y = exponential(x);
    else if (i >= range.end || i + W <= range.begin) y = vf{};
    else y = inside(exponential(inside(x, i, range, vf{})), i, range, vf{}); // what is not seen has no exponential to overflow
    store(row + i, y);
    total += y;
  }
  return sum(total);
}

/** Forward pass of queries [first,last) of one head. */
static void attendBlock(float* out, float* logSumExp, const float* q, const AttentionShape& s, long start, long first, long last,
                        Panels keys, Panels values, float* scores) {
  const long rows = last - first, D = s.headDim, outStride = s.heads * D;
  float maxima[QUERY_BLOCK], sums[QUERY_BLOCK];
  for (long i = 0; i < rows; i++) maxima[i] = -INFINITY, sums[i] = 0;
  const Range visible = keysOf(s, start, first, last);
  bool isFirst = true;
  for (long begin = visible.begin / NR * NR; begin < visible.end; begin += KEY_BLOCK) {
    const long end = least(begin + KEY_BLOCK, visible.end), width = roundUp(end - begin, W);
    timesKeys(scores, KEY_BLOCK, q + first * s.queryStride, s.queryStride, rows, D, keys, begin, begin + width);
    for (long i = 0; i < rows; i++) {
      float* row = scores + i * KEY_BLOCK;
      const Range mine = seen(s, start + first + i, begin, end);
      const Range range = {mine.begin - begin, mine.end - begin};
      const float highest = seenMaximum(row, width, range) * s.scale;
      if (highest > maxima[i]) {
        if (!isFirst && maxima[i] != -INFINITY) {
          const float shrink = expf(maxima[i] - highest);
          sums[i] *= shrink;
          scaleRow(out + (first + i) * outStride, D, shrink);
        }
        maxima[i] = highest;
      }
      sums[i] += seenExponentials(row, width, range, s.scale, maxima[i]);
    }
    timesRows(out + first * outStride, outStride, scores, KEY_BLOCK, rows, D, values, begin, end, 1, isFirst ? 0.0f : 1.0f);
    isFirst = false;
  }
  for (long i = 0; i < rows; i++) {
    scaleRow(out + (first + i) * outStride, D, 1.0f / sums[i]);
    if (logSumExp) logSumExp[first + i] = maxima[i] + logf(sums[i]);
  }
}

/** Forward pass of one query row of one head, keys and values read in place. */
static void attendRow(float* out, float* logSumExp, const float* q, const float* k, const float* v, const AttentionShape& s,
                      long position, float* scores, float* pack) {
  const long D = s.headDim;
  const Range visible = seen(s, position, 0, position + 1);
  const long count = visible.end - visible.begin;
  const Product dots = {1, count, D, q, D, 1, k + visible.begin * s.keyStride, 1, s.keyStride, scores, count, s.scale, 0};
  productColumns(dots, WAY_DOT, 0, count, pack);
  const float maximum = rowMaximum(scores, count);
  const float total = exponentials(scores, scores, count, 1.0f, maximum);
  const Product mix = {1, D, count, scores, count, 1, v + visible.begin * s.keyStride, s.keyStride, 1, out, D, 1.0f / total, 0};
  productColumns(mix, WAY_DIRECT, 0, D, pack);
  if (logSumExp) *logSumExp = maximum + logf(total);
}

static void attention(Context* context, float* out, float* logSumExp, const float* q, const float* k, const float* v,
                      const int32_t* starts, const AttentionShape* shape) {
  const AttentionShape& s = *shape;
  const long group = s.heads / s.kvHeads, T = s.queries, D = s.headDim;
  if (s.batch == 0 || T == 0 || s.heads == 0 || D == 0) return;
  long longest = 0;
  for (long b = 0; b < s.batch; b++) longest = most(longest, starts[b] + T);
  const bool inPlace = group * T < PACK_QUERIES;
  const int parts = (int)most(1, least(partsFor(context, s.batch * s.heads * T * longest * D, 400000), s.batch * s.kvHeads));
  parallel(context, parts, [&](int part) {
    const long keyPanels = (longest + NR - 1) / NR, valuePanels = (D + NR - 1) / NR, padded = keyPanels * NR;
    float* scores = scratch<float>(context, part, SLOT_SCORES, inPlace ? padded : QUERY_BLOCK * KEY_BLOCK);
    const Panels keys = {inPlace ? nullptr : scratch<float>(context, part, SLOT_KEYS, keyPanels * D * NR), D * NR};
    const Panels values = {inPlace ? nullptr : scratch<float>(context, part, SLOT_VALUES, valuePanels * padded * NR), padded * NR};
    float* pack = inPlace ? packScratch(context, part) : nullptr;
    const Range mine = rangeOf(s.batch * s.kvHeads, 1, part, parts);
    for (long unit = mine.begin; unit < mine.end; unit++) {
      const long b = unit / s.kvHeads, kv = unit % s.kvHeads, start = starts[b];
      const AttentionShape own = ofSequence(s, b);
      const float *key = k + b * s.keyBatchStride + kv * D, *value = v + b * s.keyBatchStride + kv * D;
      if (!inPlace) {
        const long from = keysOf(own, start, 0, 1).begin / NR * NR;
        packKeys(keys, key, s.keyStride, D, from, start + T);
        packRows(values, value, s.keyStride, D, from, start + T);
      }
      for (long h = kv * group; h < (kv + 1) * group; h++) {
        const float* query = q + b * T * s.queryStride + h * D;
        float* to = out + b * T * s.heads * D + h * D;
        float* lse = logSumExp ? logSumExp + (b * s.heads + h) * T : nullptr;
        for (long first = 0; !inPlace && first < T; first += QUERY_BLOCK) {
          attendBlock(to, lse, query, own, start, first, least(T, first + QUERY_BLOCK), keys, values, scores);
        }
        for (long t = 0; inPlace && t < T; t++) {
          attendRow(to + t * s.heads * D, lse ? lse + t : nullptr, query + t * s.queryStride, key, value, own, start + t, scores, pack);
        }
      }
    }
  });
}

/** Buffers of the backward pass of one kv head. */
struct BackwardBuffers {
  Panels keys, keyRows, values;
  float *scores, *gradients, *pack;
};

/** dq of queries [first,last) of one head; adds their share to dk and dv. */
static void attendBlockBackward(float* dq, float* dk, float* dv, const float* dOut, const float* out, const float* logSumExp,
                                const float* q, const AttentionShape& s, long first, long last, const BackwardBuffers& buffers) {
  const long rows = last - first, D = s.headDim, outStride = s.heads * D;
  const float* dRows = dOut + first * outStride;
  const float* qRows = q + first * s.queryStride;
  float* dqRows = dq + first * s.queryStride;
  float deltas[QUERY_BLOCK];
  for (long i = 0; i < rows; i++) {
    vf dot{};
    const float *d = dRows + i * outStride, *o = out + (first + i) * outStride;
    forVectors(D, [&](long c, auto load, auto) { dot += load(d + c) * load(o + c); });
    deltas[i] = sum(dot);
  }
  const Range visible = keysOf(s, 0, first, last);
  float beta = 0;
  for (long begin = visible.begin / NR * NR; begin < visible.end; begin += KEY_BLOCK) {
    const long end = least(begin + KEY_BLOCK, visible.end), width = end - begin, padded = roundUp(width, W);
    timesKeys(buffers.scores, KEY_BLOCK, qRows, s.queryStride, rows, D, buffers.keys, begin, begin + padded);
    timesKeys(buffers.gradients, KEY_BLOCK, dRows, outStride, rows, D, buffers.values, begin, begin + padded);
    for (long i = 0; i < rows; i++) {
      float *p = buffers.scores + i * KEY_BLOCK, *d = buffers.gradients + i * KEY_BLOCK;
      const Range mine = seen(s, first + i, begin, end);
      const Range range = {mine.begin - begin, mine.end - begin};
      const float shift = logSumExp[first + i], delta = deltas[i];
      seenExponentials(p, padded, range, s.scale, shift);
      for (long j = 0; j < padded; j += W) {
        const vf gradient = load(p + j) * (load(d + j) - delta) * s.scale;
        const bool whole = j >= range.begin && j + W <= range.end;
        store(d + j, whole ? gradient : inside(gradient, j, range, vf{}));
      }
    }
    timesRows(dqRows, s.queryStride, buffers.gradients, KEY_BLOCK, rows, D, buffers.keyRows, begin, end, 1, beta);
    beta = 1;
    const Product forKeys = {width, D, rows, buffers.gradients, 1, KEY_BLOCK, qRows, s.queryStride, 1,
                             dk + begin * s.keyStride, s.keyStride, 1, 1};
    productColumns(forKeys, WAY_PACKED, 0, D, buffers.pack);
    const Product forValues = {width, D, rows, buffers.scores, 1, KEY_BLOCK, dRows, outStride, 1,
                               dv + begin * s.keyStride, s.keyStride, 1, 1};
    productColumns(forValues, WAY_PACKED, 0, D, buffers.pack);
  }
}

static void attentionBackward(Context* context, float* dq, float* dk, float* dv, const float* dOut, const float* out,
                              const float* logSumExp, const float* q, const float* k, const float* v,
                              const AttentionShape* shape) {
  const AttentionShape& s = *shape;
  const long group = s.heads / s.kvHeads, T = s.queries, D = s.headDim;
  if (s.batch == 0 || T == 0 || s.heads == 0 || D == 0) return;
  const int parts = (int)most(1, least(partsFor(context, 3 * s.batch * s.heads * T * T * D, 400000), s.batch * s.kvHeads));
  parallel(context, parts, [&](int part) {
    const long keyPanels = (T + NR - 1) / NR, rowPanels = (D + NR - 1) / NR, padded = keyPanels * NR;
    float* packed = scratch<float>(context, part, SLOT_KEYS, 2 * keyPanels * D * NR);
    const BackwardBuffers buffers = {
        {packed, D * NR},
        {scratch<float>(context, part, SLOT_VALUES, rowPanels * padded * NR), padded * NR},
        {packed + keyPanels * D * NR, D * NR},
        scratch<float>(context, part, SLOT_SCORES, QUERY_BLOCK * KEY_BLOCK),
        scratch<float>(context, part, SLOT_GRADIENT, QUERY_BLOCK * KEY_BLOCK),
        packScratch(context, part),
    };
    const Range mine = rangeOf(s.batch * s.kvHeads, 1, part, parts);
    for (long unit = mine.begin; unit < mine.end; unit++) {
      const long b = unit / s.kvHeads, kv = unit % s.kvHeads, head = b * s.keyBatchStride + kv * D;
      const AttentionShape own = ofSequence(s, b);
      packKeys(buffers.keys, k + head, s.keyStride, D, 0, T);
      packKeys(buffers.values, v + head, s.keyStride, D, 0, T);
      packRows(buffers.keyRows, k + head, s.keyStride, D, 0, T);
      for (long t = 0; t < T; t++) {
        memset(dk + head + t * s.keyStride, 0, sizeof(float) * D);
        memset(dv + head + t * s.keyStride, 0, sizeof(float) * D);
      }
      for (long h = kv * group; h < (kv + 1) * group; h++) {
        const long at = b * T * s.queryStride + h * D, outAt = b * T * s.heads * D + h * D;
        for (long first = 0; first < T; first += QUERY_BLOCK) {
          attendBlockBackward(dq + at, dk + head, dv + head, dOut + outAt, out + outAt, logSumExp + (b * s.heads + h) * T, q + at,
                              own, first, least(T, first + QUERY_BLOCK), buffers);
        }
      }
    }
  });
}

} // namespace LEVEL
