// RMSNorm: y = x · r · γ with r = 1/sqrt(mean(x²) + eps).

import type { FloatArray } from '../tensor/dtype.ts';

/** y [N,C] =, rstd [N] = r of each row. */
export function rmsNorm(
  y: FloatArray,
  rstd: FloatArray,
  x: FloatArray,
  gamma: FloatArray,
  N: number,
  C: number,
  eps: number,
): void {
  for (let n = 0; n < N; n++) {
    const row = n * C;
    let squares = 0;
    for (let c = 0; c < C; c++) squares += x[row + c] * x[row + c];
    const r = 1 / Math.sqrt(squares / C + eps);
    rstd[n] = r;
    for (let c = 0; c < C; c++) y[row + c] = x[row + c] * r * gamma[c];
  }
}

/**
 * dx [N,C] += r·(dy·γ - x·r²·mean(dy·γ·x)); dγ [C] += Σ_n dy·x·r.
 */
export function rmsNormBackward(
  dx: FloatArray,
  dGamma: FloatArray,
  dy: FloatArray,
  x: FloatArray,
  gamma: FloatArray,
  rstd: FloatArray,
  N: number,
  C: number,
): void {
  for (let n = 0; n < N; n++) {
    const row = n * C;
    const r = rstd[n];
    let dot = 0;
    for (let c = 0; c < C; c++) dot += dy[row + c] * gamma[c] * x[row + c];
    const pull = (dot / C) * r * r;
    for (let c = 0; c < C; c++) {
      const i = row + c;
      dGamma[c] += dy[i] * x[i] * r;
      dx[i] += r * (dy[i] * gamma[c] - x[i] * pull);
    }
  }
}
