// Linear layers over the backend's gemm: y = x·Wᵀ + b, and the same per expert.

import type { Kernels } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';

type Gemm = Kernels['gemm'];

/** linear and linearBackward. */
export function makeLinear(gemm: Gemm): Pick<Kernels, 'linear' | 'linearBackward'> {
  return {
    // y [N,O] (+)= x [N,I] · w [O,I]ᵀ + b [O]
    linear(y, x, w, b, N, I, O, accumulate) {
      gemm(false, true, N, O, I, 1, x, 0, I, w, 0, I, accumulate ? 1 : 0, y, 0, O);
      if (b) addToRows(y, b, N, O);
    },

    // dx = dy·w, dw += dyᵀ·x, db += Σ rows of dy
    linearBackward(dx, dw, db, dy, x, w, N, I, O, accumulateDx) {
      if (dx) gemm(false, false, N, I, O, 1, dy, 0, O, w, 0, I, accumulateDx ? 1 : 0, dx, 0, I);
      if (dw) gemm(true, false, O, I, N, 1, dy, 0, O, x, 0, I, 1, dw, 0, I);
      if (db) addRows(db, dy, N, O);
    },
  };
}

/** groupedLinear and groupedLinearBackward: one gemm for every expert that has rows. */
export function makeGroupedLinear(gemm: Gemm): Pick<Kernels, 'groupedLinear' | 'groupedLinearBackward'> {
  return {
    groupedLinear(y, x, w, offsets, E, I, O) {
      for (let e = 0; e < E; e++) {
        const first = offsets[e];
        const rows = offsets[e + 1] - first;
        if (rows > 0) gemm(false, true, rows, O, I, 1, x, first * I, I, w, e * O * I, I, 0, y, first * O, O);
      }
    },

    groupedLinearBackward(dx, dw, dy, x, w, offsets, E, I, O) {
      for (let e = 0; e < E; e++) {
        const first = offsets[e];
        const rows = offsets[e + 1] - first;
        if (rows === 0) continue;
        gemm(false, false, rows, I, O, 1, dy, first * O, O, w, e * O * I, I, 0, dx, first * I, I);
        gemm(true, false, O, I, rows, 1, dy, first * O, O, x, first * I, I, 1, dw, e * O * I, I);
      }
    },
  };
}

/** y [N,O] += b [O] in every row. */
function addToRows(y: FloatArray, b: FloatArray, N: number, O: number): void {
  for (let n = 0; n < N; n++) for (let o = 0; o < O; o++) y[n * O + o] += b[o];
}

/** sum [O] += Σ rows of x [N,O], each column in float64. */
function addRows(sum: FloatArray, x: FloatArray, N: number, O: number): void {
  for (let o = 0; o < O; o++) {
    let total = sum[o];
    for (let n = 0; n < N; n++) total += x[n * O + o];
    sum[o] = total;
  }
}
