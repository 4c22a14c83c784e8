// Products and lookups whose weights are held as bfloat16 bits: widened a block at a time, so that never all are there in float32.

import type { Kernels } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** Floats that are widened at once, unless a single row has more. */
const BLOCK = 1 << 20;

/** linearBf16, embeddingBf16 and expertsBf16 over the finer kernels of `kernels`, native ones included. */
export function makeBf16Weights(
  kernels: Pick<Kernels, 'gemm' | 'fromBf16' | 'gather' | 'swiglu' | 'combine'>,
): Pick<Kernels, 'linearBf16' | 'embeddingBf16' | 'expertsBf16'> {
  let scratch: FloatArray = new Float32Array(0);

  function widened(like: FloatArray, bits: Uint16Array): FloatArray {
    if (scratch.length < bits.length || scratch.BYTES_PER_ELEMENT !== like.BYTES_PER_ELEMENT) {
      scratch = like instanceof Float32Array ? new Float32Array(bits.length) : new Float64Array(bits.length);
    }
    kernels.fromBf16(scratch.subarray(0, bits.length), bits);
    return scratch;
  }

  /** Rows [first, first + rows) of y [.,O] (+)= those of x [.,I] times w [O,I]ᵀ. */
  function product(
    y: FloatArray,
    x: FloatArray,
    w: Uint16Array,
    first: number,
    rows: number,
    I: number,
    O: number,
    beta: number,
  ): void {
    const step = Math.max(1, Math.floor(BLOCK / Math.max(1, I)));
    for (let o = 0; o < O; o += step) {
      const count = Math.min(step, O - o);
      const block = widened(x, w.subarray(o * I, (o + count) * I));
      kernels.gemm(false, true, rows, count, I, 1, x, first * I, I, block, 0, I, beta, y, first * O + o, O);
    }
  }

  return {
    linearBf16(y, x, w, b, N, I, O, accumulate) {
      product(y, x, w, 0, N, I, O, accumulate ? 1 : 0);
      if (b) for (let n = 0; n < N; n++) for (let o = 0; o < O; o++) y[n * O + o] += b[o];
    },

    embeddingBf16(y, table, ids, N, C) {
      for (let n = 0; n < N; n++) {
        kernels.fromBf16(y.subarray(n * C, (n + 1) * C), table.subarray(ids[n] * C, (ids[n] + 1) * C));
      }
    },

    expertsBf16(y, saved, x, wGateUp, wDown, routing, shape) {
      const { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F } = shape;
      const { gathered, gateUp, hidden, output } = saved;
      const { offsets } = routing;
      const each = (out: FloatArray, rows: FloatArray, weights: Uint16Array, I: number, O: number) => {
        for (let e = 0; e < E; e++) {
          const count = offsets[e + 1] - offsets[e];
          if (count > 0) product(out, rows, weights.subarray(e * O * I, (e + 1) * O * I), offsets[e], count, I, O, 0);
        }
      };
      kernels.gather(gathered, x, routing.rows, N * K, C);
      each(gateUp, gathered, wGateUp, C, 2 * F);
      kernels.swiglu(hidden, gateUp, N * K, F);
      each(output, hidden, wDown, F, C);
      kernels.combine(y, output, routing.weights, routing.slots, N, K, C);
    },
  };
}
