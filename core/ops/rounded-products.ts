// Products on operands rounded to 16 bits, on any backend: what is rounded are float32 values, so that the arithmetic is that of
// 16-bit operands with products and sums in float32 (or whatever the backend accumulates in).

import type { Kernels, ProductKernels } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { makeExperts } from './experts.ts';

/** out [count] = x rounded; out may be x. */
export type Round = (out: FloatArray, x: FloatArray, count: number) => void;

/**
 * The products of `kernels` with rows and gradients rounded by `round`; weights are taken to be rounded already. Rows of a linear
 * layer are rounded into scratch, as others read them too; those of the experts in place, as only products do.
 */
export function roundedProducts(kernels: Kernels, round: Round): ProductKernels {
  const rows = scratch();
  const gradients = scratch();

  function rounded(make: (like: FloatArray, length: number) => FloatArray, x: FloatArray, count: number): FloatArray {
    const out = make(x, count);
    round(out, x, count);
    return out;
  }

  return {
    linear(y, x, w, b, N, I, O, accumulate) {
      kernels.linear(y, rounded(rows, x, N * I), w, b, N, I, O, accumulate);
    },
    linearBackward(dx, dw, db, dy, x, w, N, I, O, accumulateDx) {
      const dyRounded = rounded(gradients, dy, N * O);
      kernels.linearBackward(dx, dw, db, dyRounded, rounded(rows, x, N * I), w, N, I, O, accumulateDx);
    },
    ...makeExperts({
      ...kernels,
      gather(y, x, from, M, C) {
        kernels.gather(y, x, from, M, C);
        round(y, y, M * C);
      },
      swiglu(hidden, gateUp, M, F) {
        kernels.swiglu(hidden, gateUp, M, F);
        round(hidden, hidden, M * F);
      },
      combineBackward(dx, dWeights, dy, x, weights, slots, N, K, C) {
        kernels.combineBackward(dx, dWeights, dy, x, weights, slots, N, K, C);
        round(dx, dx, N * K * C);
      },
      swigluBackward(dGateUp, dHidden, gateUp, M, F) {
        kernels.swigluBackward(dGateUp, dHidden, gateUp, M, F);
        round(dGateUp, dGateUp, M * 2 * F);
      },
    }),
  };
}

/** An array that grows to the largest length asked for. */
function scratch(): (like: FloatArray, length: number) => FloatArray {
  let held: FloatArray = new Float32Array(0);
  return (like, length) => {
    if (held.length < length || held.BYTES_PER_ELEMENT !== like.BYTES_PER_ELEMENT) {
      held = like instanceof Float32Array ? new Float32Array(length) : new Float64Array(length);
    }
    return held;
  };
}
