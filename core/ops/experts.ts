// A whole expert layer out of finer kernels: gather, gate and up in one product, SwiGLU, down, weighted sum.

import type { Kernels } from '../kernels.ts';

/** experts and expertsBackward over the finer kernels of `kernels`, native ones included. */
export function makeExperts(
  kernels: Pick<
    Kernels,
    | 'gather'
    | 'gatherBackward'
    | 'groupedLinear'
    | 'groupedLinearBackward'
    | 'swiglu'
    | 'swigluBackward'
    | 'combine'
    | 'combineBackward'
  >,
): Pick<Kernels, 'experts' | 'expertsBackward'> {
  return {
    experts(y, saved, x, wGateUp, wDown, routing, shape) {
      const { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F } = shape;
      const { gathered, gateUp, hidden, output } = saved;
      kernels.gather(gathered, x, routing.rows, N * K, C);
      kernels.groupedLinear(gateUp, gathered, wGateUp, routing.offsets, E, C, 2 * F);
      kernels.swiglu(hidden, gateUp, N * K, F);
      kernels.groupedLinear(output, hidden, wDown, routing.offsets, E, F, C);
      kernels.combine(y, output, routing.weights, routing.slots, N, K, C);
    },

    expertsBackward(dx, dWeights, dWGateUp, dWDown, scratch, dy, saved, wGateUp, wDown, routing, shape) {
      const { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F } = shape;
      const { gathered, gateUp, hidden, output } = scratch;
      const { offsets, slots, weights } = routing;
      kernels.combineBackward(output, dWeights, dy, saved.output, weights, slots, N, K, C);
      kernels.groupedLinearBackward(hidden, dWDown, output, saved.hidden, wDown, offsets, E, F, C);
      kernels.swigluBackward(gateUp, hidden, saved.gateUp, N * K, F);
      kernels.groupedLinearBackward(gathered, dWGateUp, gateUp, saved.gathered, wGateUp, offsets, E, C, 2 * F);
      kernels.gatherBackward(dx, gathered, slots, N, K, C);
    },
  };
}
