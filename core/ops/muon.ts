// The elementwise parts of Muon (Jordan et al. 2024) and NorMuon (Li et al. 2025); newton-schulz.ts has the products.

import type { MatrixBatch } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** m += (1-μ)(g' - m), g' = g·gradientScale; g = m, or g' + μ(m - g') with Nesterov's look ahead. */
export function muonMomentum(
  g: FloatArray,
  m: FloatArray,
  offset: number,
  count: number,
  momentum: number,
  nesterov: boolean,
  gradientScale: number,
): void {
  for (let i = offset; i < offset + count; i++) {
    const gradient = g[i] * gradientScale;
    const moved = m[i] + (1 - momentum) * (gradient - m[i]);
    m[i] = moved;
    g[i] = nesterov ? gradient + momentum * (moved - gradient) : moved;
  }
}

const EPSILON = 1e-8;

/** v[r] = β₂v[r] + (1-β₂)·mean(x_r²); x_r /= √v[r] + ε; then every matrix gets its norm back. */
export function muonNormalise(
  x: FloatArray,
  { offsets, rows, columns }: MatrixBatch,
  v: FloatArray,
  beta2: number,
): void {
  for (let i = 0; i < offsets.length; i++) {
    let before = 0;
    let after = 0;
    for (let r = 0; r < rows; r++) {
      const first = offsets[i] + r * columns;
      let sum = 0;
      for (let j = first; j < first + columns; j++) sum += x[j] * x[j];
      const second = beta2 * v[i * rows + r] + ((1 - beta2) * sum) / columns;
      const factor = 1 / (Math.sqrt(second) + EPSILON);
      v[i * rows + r] = second;
      before += sum;
      after += sum * factor * factor;
      for (let j = first; j < first + columns; j++) x[j] *= factor;
    }
    const restore = after > 0 ? Math.sqrt(before / after) : 0;
    const end = offsets[i] + rows * columns;
    for (let j = offsets[i]; j < end; j++) x[j] *= restore;
  }
}

/** p -= decay·p + rate·g; g = 0. `cautious` decays only where step and weight point the same way. */
export function muonUpdate(
  p: FloatArray,
  g: FloatArray,
  offset: number,
  count: number,
  rate: number,
  decay: number,
  cautious: boolean,
): void {
  for (let i = offset; i < offset + count; i++) {
    const shrink = cautious && g[i] * p[i] < 0 ? 0 : decay;
    p[i] -= shrink * p[i] + rate * g[i];
    g[i] = 0;
  }
}
