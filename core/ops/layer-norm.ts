// LayerNorm: y = x̂·γ + β with x̂ = (x - mean)·r, r = 1/sqrt(variance + eps).

import type { FloatArray } from '../tensor/dtype.ts';

/** y [N,C] =, mean and rstd [N] = those of each row. */
export function layerNorm(
  y: FloatArray,
  mean: FloatArray,
  rstd: FloatArray,
  x: FloatArray,
  gamma: FloatArray,
  beta: FloatArray,
  N: number,
  C: number,
  eps: number,
): void {
  for (let n = 0; n < N; n++) {
    const row = n * C;
    let sum = 0;
    for (let c = 0; c < C; c++) sum += x[row + c];
    const middle = sum / C;
    let squares = 0;
    for (let c = 0; c < C; c++) squares += (x[row + c] - middle) ** 2;
    const r = 1 / Math.sqrt(squares / C + eps);
    mean[n] = middle;
    rstd[n] = r;
    for (let c = 0; c < C; c++) y[row + c] = (x[row + c] - middle) * r * gamma[c] + beta[c];
  }
}

/** dx [N,C] += r·(g - mean(g) - x̂·mean(g·x̂)) with g = dy·γ; dγ [C] += Σ_n dy·x̂; dβ [C] += Σ_n dy. */
export function layerNormBackward(
  dx: FloatArray,
  dGamma: FloatArray,
  dBeta: FloatArray,
  dy: FloatArray,
  x: FloatArray,
  gamma: FloatArray,
  mean: FloatArray,
  rstd: FloatArray,
  N: number,
  C: number,
): void {
  for (let n = 0; n < N; n++) {
    const row = n * C;
    const r = rstd[n];
    let sum = 0;
    let dot = 0;
    for (let c = 0; c < C; c++) {
      const g = dy[row + c] * gamma[c];
      sum += g;
      dot += g * (x[row + c] - mean[n]) * r;
    }
    for (let c = 0; c < C; c++) {
      const i = row + c;
      const centred = (x[i] - mean[n]) * r;
      dGamma[c] += dy[i] * centred;
      dBeta[c] += dy[i];
      dx[i] += r * (dy[i] * gamma[c] - (sum + centred * dot) / C);
    }
  }
}
