// Router: p = softmax(z) over all experts, the K largest, w = p_chosen (/ Σ p_chosen).

import type { RouterOptions } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { exp } from './exp.ts';
import { softmax } from './softmax.ts';

/** probabilities [N,E], experts [N,K] in falling order (ties: lowest index first) and weights [N,K] of logits [N,E]. */
export function router(
  probabilities: FloatArray,
  weights: FloatArray,
  experts: Int32Array,
  logits: FloatArray,
  N: number,
  options: RouterOptions,
): void {
  softmax(probabilities, logits, N, options.numExperts);
  choose(weights, experts, probabilities, null, N, options);
}

/** The choice among given probabilities [N,E], by probability + bias [E]. */
export function chooseExperts(
  weights: FloatArray,
  experts: Int32Array,
  probabilities: FloatArray,
  bias: FloatArray,
  N: number,
  options: RouterOptions,
): void {
  choose(weights, experts, probabilities, bias, N, options);
}

function choose(
  weights: FloatArray,
  experts: Int32Array,
  probabilities: FloatArray,
  bias: FloatArray | null,
  N: number,
  { numExperts: E, topK: K, renormalise, smallestSum = 0 }: RouterOptions,
): void {
  for (let n = 0; n < N; n++) {
    const row = n * E;
    const first = n * K;
    let sum = 0;
    for (let k = 0; k < K; k++) {
      const e = largestUnchosen(probabilities, row, bias, E, experts, first, k);
      experts[first + k] = e;
      weights[first + k] = probabilities[row + e];
      sum += probabilities[row + e];
    }
    if (renormalise) for (let k = 0; k < K; k++) weights[first + k] /= Math.max(sum, smallestSum);
  }
}

/** Index of the largest p[row …] + bias that is not among the first k choices; the lowest unchosen one where all are NaN. */
function largestUnchosen(
  p: FloatArray,
  row: number,
  bias: FloatArray | null,
  E: number,
  experts: Int32Array,
  first: number,
  k: number,
): number {
  let best = -1;
  let bestScore = 0;
  for (let e = 0; e < E; e++) {
    let chosen = false;
    for (let j = 0; j < k; j++) if (experts[first + j] === e) chosen = true;
    if (chosen) continue;
    const score = bias ? p[row + e] + bias[e] : p[row + e];
    if (best >= 0 && !(score > bestScore)) continue;
    best = e;
    bestScore = score;
  }
  return best;
}

/** Σ_n logsumexp(logits[n])²; dLogits [N,E] += scale·2·logsumexp·softmax (Zoph et al. 2022, the router z-loss). */
export function zLoss(dLogits: FloatArray | null, logits: FloatArray, N: number, E: number, scale: number): number {
  let total = 0;
  for (let n = 0; n < N; n++) {
    const row = n * E;
    let max = -Infinity;
    for (let e = 0; e < E; e++) if (logits[row + e] > max) max = logits[row + e];
    let sum = 0;
    for (let e = 0; e < E; e++) sum += exp(logits[row + e] - max);
    const logSumExp = max + Math.log(sum);
    total += logSumExp * logSumExp;
    if (!dLogits) continue;
    const factor = (2 * scale * logSumExp) / sum;
    for (let e = 0; e < E; e++) dLogits[row + e] += factor * exp(logits[row + e] - max);
  }
  return total;
}

/**
 * dLogits [N,E] = through weights and probabilities. With s = Σ p_chosen and w = p/s:
 *   dp_chosen = (dw_k - Σ_j dw_j·w_j) / s when renormalised, dw_k when not; dp += dProbabilities;
 *   dz_e = p_e·(dp_e - Σ_j p_j·dp_j).
 */
export function routerBackward(
  dLogits: FloatArray,
  dWeights: FloatArray,
  dProbabilities: FloatArray | null,
  probabilities: FloatArray,
  weights: FloatArray,
  experts: Int32Array,
  N: number,
  options: RouterOptions,
): void {
  const { numExperts: E, topK: K, renormalise, smallestSum = 0 } = options;
  for (let n = 0; n < N; n++) {
    const row = n * E;
    const first = n * K;
    let sum = 1;
    let mean = 0;
    if (renormalise) {
      sum = 0;
      for (let k = 0; k < K; k++) {
        sum += probabilities[row + experts[first + k]];
        mean += dWeights[first + k] * weights[first + k];
      }
      if (sum < smallestSum) [sum, mean] = [smallestSum, 0]; // divided by a constant
    }
    // dLogits holds dp until the last loop
    for (let e = 0; e < E; e++) dLogits[row + e] = dProbabilities ? dProbabilities[e] : 0;
    for (let k = 0; k < K; k++) dLogits[row + experts[first + k]] += (dWeights[first + k] - mean) / sum;
    let dot = 0;
    for (let e = 0; e < E; e++) dot += probabilities[row + e] * dLogits[row + e];
    for (let e = 0; e < E; e++) dLogits[row + e] = probabilities[row + e] * (dLogits[row + e] - dot);
  }
}
