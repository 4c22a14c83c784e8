// Moving rows between token order and expert order.

import type { RouterOptions, Routing } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** Stable counting sort of (token, choice) by expert: fills offsets [E+1], rows [M] and slots [N,K]. */
export function dispatch(routing: Routing, N: number, options: RouterOptions): void {
  const { experts, offsets, rows, slots } = routing;
  const { numExperts: E, topK: K } = options;
  offsets.fill(0, 0, E + 1);
  for (let i = 0; i < N * K; i++) offsets[experts[i] + 1]++;
  for (let e = 0; e < E; e++) offsets[e + 1] += offsets[e];
  // offsets[e] runs up to the start of expert e + 1 while rows are placed, and is moved back afterwards
  for (let i = 0; i < N * K; i++) {
    const slot = offsets[experts[i]]++;
    slots[i] = slot;
    rows[slot] = Math.floor(i / K);
  }
  for (let e = E; e > 0; e--) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
}

/** y [M,C] = x [N,C] at rows [M]. */
export function gather(y: FloatArray, x: FloatArray, rows: Int32Array, M: number, C: number): void {
  for (let m = 0; m < M; m++) {
    const from = rows[m] * C;
    const to = m * C;
    for (let c = 0; c < C; c++) y[to + c] = x[from + c];
  }
}

/** dx [N,C] = Σ_k dy[slots[n,k]]. */
export function gatherBackward(
  dx: FloatArray,
  dy: FloatArray,
  slots: Int32Array,
  N: number,
  K: number,
  C: number,
): void {
  for (let n = 0; n < N; n++) {
    const to = n * C;
    const first = slots[n * K] * C;
    for (let c = 0; c < C; c++) dx[to + c] = dy[first + c];
    for (let k = 1; k < K; k++) {
      const from = slots[n * K + k] * C;
      for (let c = 0; c < C; c++) dx[to + c] += dy[from + c];
    }
  }
}

/** y [N,C] += Σ_k weights[n,k] · x[slots[n,k]]. */
export function combine(
  y: FloatArray,
  x: FloatArray,
  weights: FloatArray,
  slots: Int32Array,
  N: number,
  K: number,
  C: number,
): void {
  for (let n = 0; n < N; n++) {
    const to = n * C;
    for (let k = 0; k < K; k++) {
      const from = slots[n * K + k] * C;
      const weight = weights[n * K + k];
      for (let c = 0; c < C; c++) y[to + c] += weight * x[from + c];
    }
  }
}

/** dx [M,C] = weights·dy; dWeights [N,K] = dy·x. */
export function combineBackward(
  dx: FloatArray,
  dWeights: FloatArray,
  dy: FloatArray,
  x: FloatArray,
  weights: FloatArray,
  slots: Int32Array,
  N: number,
  K: number,
  C: number,
): void {
  for (let n = 0; n < N; n++) {
    const from = n * C;
    for (let k = 0; k < K; k++) {
      const to = slots[n * K + k] * C;
      const weight = weights[n * K + k];
      let dot = 0;
      for (let c = 0; c < C; c++) {
        const d = dy[from + c];
        dot += d * x[to + c];
        dx[to + c] = weight * d;
      }
      dWeights[n * K + k] = dot;
    }
  }
}
