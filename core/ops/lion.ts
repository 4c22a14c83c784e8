// Lion: θ *= 1 - ηλ; θ -= η·sign(β₁m + (1-β₁)g); m = β₂m + (1-β₂)g.

import type { FloatArray } from '../tensor/dtype.ts';

/** One step on elements [offset, offset + count) of flat arrays; the gradient is left zero. */
export function lion(
  p: FloatArray,
  g: FloatArray,
  m: FloatArray,
  offset: number,
  count: number,
  learningRate: number,
  beta1: number,
  beta2: number,
  weightDecay: number,
  gradientScale: number,
): void {
  const keep = 1 - learningRate * weightDecay;
  for (let i = offset; i < offset + count; i++) {
    const gradient = g[i] * gradientScale;
    const before = m[i];
    const direction = Math.sign(beta1 * before + (1 - beta1) * gradient);
    m[i] = beta2 * before + (1 - beta2) * gradient;
    g[i] = 0;
    p[i] = p[i] * keep - learningRate * direction;
  }
}
