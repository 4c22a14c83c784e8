// The router of PhiMoE, as it decides when it is not training (Liu et al. 2023): the best expert, then the best of the others, each
// with its share among the experts whose logits come near its own. The two weights are not made to sum to 1.

import type { SparseMixerOptions } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { exp } from './exp.ts';
import { softmax } from './softmax.ts';

/** Choices of each token. */
const K = 2;

/** probabilities [N,E] = softmax(logits); experts [N,2] and weights [N,2] of logits [N,E]. */
export function sparseMixer(
  probabilities: FloatArray,
  weights: FloatArray,
  experts: Int32Array,
  logits: FloatArray,
  N: number,
  { numExperts: E, jitter }: SparseMixerOptions,
): void {
  softmax(probabilities, logits, N, E);
  for (let n = 0; n < N; n++) {
    const row = n * E;
    for (let k = 0; k < K; k++) {
      const taken = k === 0 ? -1 : experts[n * K];
      const best = largest(logits, row, E, taken);
      experts[n * K + k] = best;
      weights[n * K + k] = 1 / nearSum(logits, row, E, taken, best, jitter);
    }
  }
}

/**
 * dLogits [N,E] = through weights and probabilities. With S the experts near the chosen one e, w_e = exp(z_e) / Σ_S exp(z):
 *   dz_j = dw·w_e·([j = e] - exp(z_j) / Σ_S exp(z)) for j in S; and through p as in a softmax.
 */
export function sparseMixerBackward(
  dLogits: FloatArray,
  dWeights: FloatArray,
  dProbabilities: FloatArray | null,
  probabilities: FloatArray,
  logits: FloatArray,
  experts: Int32Array,
  N: number,
  { numExperts: E, jitter }: SparseMixerOptions,
): void {
  for (let n = 0; n < N; n++) {
    const row = n * E;
    let dot = 0;
    if (dProbabilities) for (let e = 0; e < E; e++) dot += probabilities[row + e] * dProbabilities[e];
    for (let e = 0; e < E; e++) {
      dLogits[row + e] = dProbabilities ? probabilities[row + e] * (dProbabilities[e] - dot) : 0;
    }
    for (let k = 0; k < K; k++) {
      const taken = k === 0 ? -1 : experts[n * K];
      const best = experts[n * K + k];
      const top = logits[row + best];
      const sum = nearSum(logits, row, E, taken, best, jitter);
      const scale = dWeights[n * K + k] / sum;
      for (let e = 0; e < E; e++) {
        if (e === taken || !isNear(logits[row + e], top, jitter)) continue;
        dLogits[row + e] += scale * ((e === best ? 1 : 0) - exp(logits[row + e] - top) / sum);
      }
    }
  }
}

/** Index of the largest logit but that of `taken`; ties: the lowest index. */
function largest(logits: FloatArray, row: number, E: number, taken: number): number {
  let best = -1;
  for (let e = 0; e < E; e++) {
    if (e !== taken && (best < 0 || logits[row + e] > logits[row + best])) best = e;
  }
  return best;
}

/** Σ exp(z - top) over the experts near the best one. */
function nearSum(logits: FloatArray, row: number, E: number, taken: number, best: number, jitter: number): number {
  const top = logits[row + best];
  let sum = 0;
  for (let e = 0; e < E; e++) {
    if (e !== taken && isNear(logits[row + e], top, jitter)) sum += exp(logits[row + e] - top);
  }
  return sum;
}

/** Not beyond, so that 0 / 0 counts as near. */
function isNear(logit: number, top: number, jitter: number): boolean {
  return !((top - logit) / Math.max(Math.abs(logit), top) > 2 * jitter);
}
