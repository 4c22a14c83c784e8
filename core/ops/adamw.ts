// AdamW: θ *= 1 - ηλ; m = β₁m + (1-β₁)g; v = β₂v + (1-β₂)g²; θ -= η·m̂/(√v̂ + ε), m̂ = m/(1-β₁ᵗ), v̂ = v/(1-β₂ᵗ).

import type { FloatArray } from '../tensor/dtype.ts';

/** One step on elements [offset, offset + count) of flat arrays; the gradient is left zero. */
export function adamw(
  p: FloatArray,
  g: FloatArray,
  m: FloatArray,
  v: FloatArray,
  offset: number,
  count: number,
  learningRate: number,
  beta1: number,
  beta2: number,
  eps: number,
  weightDecay: number,
  step: number,
  gradientScale: number,
): void {
  const keep = 1 - learningRate * weightDecay;
  const rate = learningRate / (1 - beta1 ** step);
  const correction = 1 / Math.sqrt(1 - beta2 ** step);
  for (let i = offset; i < offset + count; i++) {
    const gradient = g[i] * gradientScale;
    const first = beta1 * m[i] + (1 - beta1) * gradient;
    const second = beta2 * v[i] + (1 - beta2) * gradient * gradient;
    m[i] = first;
    v[i] = second;
    g[i] = 0;
    p[i] = p[i] * keep - (rate * first) / (Math.sqrt(second) * correction + eps);
  }
}
