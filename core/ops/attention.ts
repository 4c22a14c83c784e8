// Causal grouped-query attention in tiles of query rows: softmax(q·kᵀ·scale)·v, forward and backward over the backend's gemm.
//
// A tile is R query rows of one head against the keys they may see; only tiles are ever held, never a T×T matrix. The forward
// pass keeps log Σ exp of every row, from which the backward pass makes the probabilities again (Dao et al. 2022):
//   P = exp(S - logSumExp), D = Σ dOut⊙out, dS = P⊙(dOut·vᵀ - D), dq = scale·dS·k, dk = scale·dSᵀ·q, dv = Pᵀ·dOut.

import type { AttentionShape, Kernels } from '../kernels.ts';
import { type FloatArray, newFloats } from '../tensor/dtype.ts';
import { exp } from './exp.ts';

/** Query rows of a tile. */
const TILE_ROWS = 64;

/** attention and attentionBackward; their scratch grows to the longest sequence seen and stays. */
export function makeAttention(gemm: Kernels['gemm']): Pick<Kernels, 'attention' | 'attentionBackward'> {
  const scoreScratch = new Scratch();
  const gradientScratch = new Scratch();
  return {
    attention(out, logSumExp, q, qOffset, k, kOffset, v, vOffset, starts, shape) {
      const { batch, queries: T, heads: H, kvHeads, headDim: D, scale } = shape;
      const { queryStride, keyStride, keyBatchStride } = shape;
      const group = H / kvHeads;
      // with one query a sequence, the heads that share keys are the rows of one product
      const stacked = T === 1 ? group : 1;
      const rowStride = T === 1 ? D : queryStride;
      const outStride = T === 1 ? D : H * D;
      for (let b = 0; b < batch; b++) {
        for (let h = 0; h < H; h += stacked) {
          const keyHead = b * keyBatchStride + Math.floor(h / group) * D;
          for (let first = 0; first < T; first += TILE_ROWS) {
            const rows = T === 1 ? stacked : Math.min(TILE_ROWS, T - first);
            const position = starts[b] + first;
            const keys = T === 1 ? position + 1 : position + rows;
            const low = lowestKey(b, position, shape);
            const width = keys - low;
            const scores = scoreScratch.take(out, rows * width);
            const query = qOffset + (b * T + first) * queryStride + h * D;
            const key = keyHead + low * keyStride;
            gemm(
              false,
              true,
              rows,
              width,
              D,
              scale,
              q,
              query,
              rowStride,
              k,
              kOffset + key,
              keyStride,
              0,
              scores,
              0,
              width,
            );
            for (let r = 0; r < rows; r++) {
              const at = T === 1 ? position : position + r;
              const from = lowestKey(b, at, shape) - low;
              const sum = softmaxRow(scores, r * width, from, at + 1 - low, width);
              if (logSumExp) logSumExp[T === 1 ? b * H + h + r : (b * H + h) * T + first + r] = sum;
            }
            const target = (b * T + first) * H * D + h * D;
            gemm(
              false,
              false,
              rows,
              D,
              width,
              1,
              scores,
              0,
              width,
              v,
              vOffset + key,
              keyStride,
              0,
              out,
              target,
              outStride,
            );
          }
        }
      }
    },

    attentionBackward(dq, dk, dv, dOut, out, logSumExp, q, qOffset, k, kOffset, v, vOffset, shape) {
      const { batch, queries: T, heads: H, kvHeads, headDim: D, scale } = shape;
      const { queryStride, keyStride, keyBatchStride } = shape;
      const group = H / kvHeads;
      for (let b = 0; b < batch; b++) {
        for (let h = 0; h < H; h++) {
          const keyHead = b * keyBatchStride + Math.floor(h / group) * D;
          if (h % group === 0) {
            clearRows(dk, kOffset + keyHead, keyStride, T, D);
            clearRows(dv, vOffset + keyHead, keyStride, T, D);
          }
          for (let first = 0; first < T; first += TILE_ROWS) {
            const rows = Math.min(TILE_ROWS, T - first);
            const low = lowestKey(b, first, shape);
            const width = first + rows - low;
            const p = scoreScratch.take(out, rows * width);
            const dp = gradientScratch.take(out, rows * width);
            const query = qOffset + (b * T + first) * queryStride + h * D;
            const key = kOffset + keyHead + low * keyStride;
            const value = vOffset + keyHead + low * keyStride;
            const target = (b * T + first) * H * D + h * D;
            gemm(false, true, rows, width, D, scale, q, query, queryStride, k, key, keyStride, 0, p, 0, width);
            gemm(false, true, rows, width, D, 1, dOut, target, H * D, v, value, keyStride, 0, dp, 0, width);
            for (let r = 0; r < rows; r++) {
              const row = target + r * H * D;
              let dot = 0;
              for (let i = 0; i < D; i++) dot += dOut[row + i] * out[row + i];
              const from = lowestKey(b, first + r, shape) - low;
              const sum = logSumExp[(b * H + h) * T + first + r];
              probabilityRow(p, dp, r * width, from, first + r + 1 - low, width, sum, dot);
            }
            gemm(true, false, width, D, rows, 1, p, 0, width, dOut, target, H * D, 1, dv, value, keyStride);
            gemm(false, false, rows, D, width, scale, dp, 0, width, k, key, keyStride, 0, dq, query, queryStride);
            gemm(true, false, width, D, rows, scale, dp, 0, width, q, query, queryStride, 1, dk, key, keyStride);
          }
        }
      }
    },
  };
}

/** A buffer that only grows, of the element type of the array it serves. */
class Scratch {
  private single: FloatArray = new Float32Array(0);
  private double: FloatArray = new Float64Array(0);

  take(like: FloatArray, length: number): FloatArray {
    if (like instanceof Float32Array) {
      if (this.single.length < length) this.single = newFloats('f32', length);
      return this.single;
    }
    if (this.double.length < length) this.double = newFloats('f64', length);
    return this.double;
  }
}

/** First key that a query at `position` of sequence b sees. */
function lowestKey(b: number, position: number, { window, queries, firstKeys }: AttentionShape): number {
  const inWindow = window > 0 ? Math.max(0, position - window + 1) : 0;
  return firstKeys ? Math.max(inWindow, firstKeys[b * queries + position]) : inWindow;
}

/** Softmax over [from, to) of a row of scores, zero elsewhere; returns log Σ exp. */
function softmaxRow(scores: FloatArray, row: number, from: number, to: number, width: number): number {
  let max = -Infinity;
  for (let j = row + from; j < row + to; j++) if (scores[j] > max) max = scores[j];
  let sum = 0;
  for (let j = row + from; j < row + to; j++) {
    const e = exp(scores[j] - max);
    scores[j] = e;
    sum += e;
  }
  const scale = 1 / sum;
  for (let j = row + from; j < row + to; j++) scores[j] *= scale;
  scores.fill(0, row, row + from);
  scores.fill(0, row + to, row + width);
  return max + Math.log(sum);
}

/** Turns a row of scores into P and of dOut·vᵀ into dS, both zero outside [from, to). */
function probabilityRow(
  p: FloatArray,
  dp: FloatArray,
  row: number,
  from: number,
  to: number,
  width: number,
  logSumExp: number,
  dot: number,
): void {
  for (let j = row + from; j < row + to; j++) {
    const probability = exp(p[j] - logSumExp);
    p[j] = probability;
    dp[j] = probability * (dp[j] - dot);
  }
  p.fill(0, row, row + from);
  p.fill(0, row + to, row + width);
  dp.fill(0, row, row + from);
  dp.fill(0, row + to, row + width);
}

function clearRows(x: FloatArray, offset: number, stride: number, rows: number, length: number): void {
  for (let r = 0; r < rows; r++) x.fill(0, offset + r * stride, offset + r * stride + length);
}
