// SGD with momentum and Nesterov's variant, as PyTorch defines them.

import type { FloatArray } from '../tensor/dtype.ts';

/** One step on elements [offset, offset + count) of flat arrays; the gradient is left zero. */
export function sgd(
  p: FloatArray,
  g: FloatArray,
  velocity: FloatArray | null,
  offset: number,
  count: number,
  learningRate: number,
  momentum: number,
  nesterov: boolean,
  weightDecay: number,
  step: number,
  gradientScale: number,
): void {
  for (let i = offset; i < offset + count; i++) {
    const gradient = g[i] * gradientScale + weightDecay * p[i];
    let update = gradient;
    if (velocity) {
      const moved = step === 1 ? gradient : momentum * velocity[i] + gradient;
      velocity[i] = moved;
      update = nesterov ? gradient + momentum * moved : moved;
    }
    g[i] = 0;
    p[i] -= learningRate * update;
  }
}
