// Adam: g += λθ; m = β₁m + (1-β₁)g; v = β₂v + (1-β₂)g²; θ -= η·m̂/(√v̂ + ε); AMSGrad takes the largest v so far.

import type { FloatArray } from '../tensor/dtype.ts';

/** One step on elements [offset, offset + count) of flat arrays; the gradient is left zero. */
export function adam(
  p: FloatArray,
  g: FloatArray,
  m: FloatArray,
  v: FloatArray,
  vMax: FloatArray | null,
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
  const rate = learningRate / (1 - beta1 ** step);
  const correction = 1 / Math.sqrt(1 - beta2 ** step);
  for (let i = offset; i < offset + count; i++) {
    const gradient = g[i] * gradientScale + weightDecay * p[i];
    const first = beta1 * m[i] + (1 - beta1) * gradient;
    let second = beta2 * v[i] + (1 - beta2) * gradient * gradient;
    m[i] = first;
    v[i] = second;
    g[i] = 0;
    if (vMax) {
      second = Math.max(vMax[i], second);
      vMax[i] = second;
    }
    p[i] -= (rate * first) / (Math.sqrt(second) * correction + eps);
  }
}
