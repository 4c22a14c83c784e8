// Schedule-free AdamW (Defazio et al. 2024): the gradient is taken at y, z steps, x averages:
// v = β₂v + (1-β₂)g²; z -= η(g/(√v̂ + ε) + λy); x += c(z - x); y = z + β₁(x - z).

import type { FloatArray } from '../tensor/dtype.ts';

/** One step on elements [offset, offset + count) of flat arrays; p holds y, the gradient is left zero. */
export function scheduleFree(
  p: FloatArray,
  g: FloatArray,
  z: FloatArray,
  x: FloatArray,
  v: FloatArray,
  offset: number,
  count: number,
  learningRate: number,
  beta1: number,
  beta2: number,
  eps: number,
  weightDecay: number,
  averaging: number,
  step: number,
  gradientScale: number,
): void {
  const correction = 1 / Math.sqrt(1 - beta2 ** step);
  for (let i = offset; i < offset + count; i++) {
    const gradient = g[i] * gradientScale;
    const second = beta2 * v[i] + (1 - beta2) * gradient * gradient;
    v[i] = second;
    g[i] = 0;
    const base = z[i] - learningRate * (gradient / (Math.sqrt(second) * correction + eps) + weightDecay * p[i]);
    z[i] = base;
    x[i] += averaging * (z[i] - x[i]);
    // from z and x as they are stored: a restored run makes the same bits of them
    p[i] = z[i] + beta1 * (x[i] - z[i]);
  }
}
