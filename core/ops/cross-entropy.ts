// Cross-entropy and its gradient in one pass over each row: -log softmax(z)[t], (softmax(z) - onehot(t))·scale.

import type { FloatArray } from '../tensor/dtype.ts';
import { exp } from './exp.ts';

/** Target id that takes no part in the loss, as in PyTorch. */
export const IGNORE_INDEX = -100;

/** Σ over rows with a target; writes the gradient where one is given (it may be `logits`). */
export function crossEntropy(
  gradient: FloatArray | null,
  logits: FloatArray,
  targets: Int32Array,
  N: number,
  V: number,
  scale: number,
): number {
  let total = 0;
  for (let n = 0; n < N; n++) {
    const row = n * V;
    const target = targets[n];
    if (target === IGNORE_INDEX) {
      gradient?.fill(0, row, row + V);
      continue;
    }
    let max = -Infinity;
    for (let v = 0; v < V; v++) if (logits[row + v] > max) max = logits[row + v];
    const chosen = logits[row + target] - max;
    let sum = 0;
    if (gradient) {
      for (let v = 0; v < V; v++) {
        const e = exp(logits[row + v] - max);
        gradient[row + v] = e;
        sum += e;
      }
      const factor = scale / sum;
      for (let v = 0; v < V; v++) gradient[row + v] *= factor;
      gradient[row + target] -= scale;
    } else {
      for (let v = 0; v < V; v++) sum += exp(logits[row + v] - max);
    }
    total += Math.log(sum) - chosen;
  }
  return total;
}
