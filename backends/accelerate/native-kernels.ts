// The addon's kernels in the shape of the contract: records become their fields, as each property read from native code costs
// as much as a small kernel. Fields are written out: a list of them that is spread is garbage of every call.

import type { Kernels, ProductKernels } from '../../core/kernels.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import type { NativeBackend, SameKernels } from './addon.ts';
import { PRECISIONS } from './options.ts';

const SAME: readonly (keyof SameKernels)[] = [
  'linear',
  'linearBackward',
  'groupedLinear',
  'groupedLinearBackward',
  'embedding',
  'embeddingBackward',
  'add',
  'rmsNorm',
  'rmsNormBackward',
  'rope',
  'softmax',
  'swiglu',
  'swigluBackward',
  'gather',
  'gatherBackward',
  'combine',
  'combineBackward',
  'crossEntropy',
  'sumOfSquares',
  'adamw',
  'sgd',
  'lion',
  'adam',
  'scheduleFree',
  'roundToBf16',
  'roundToF16',
  'zLoss',
  'linearBf16',
  'scale',
  'clamp',
  'clampBackward',
  'layerNorm',
  'layerNormBackward',
  'ropeInterleaved',
  'embeddingBf16',
  'muonMomentum',
  'muonUpdate',
  'toBf16',
  'fromBf16',
  'toF16',
  'fromF16',
];

const BF16 = PRECISIONS.indexOf('bf16');

/** Whether there are instructions for products of bfloat16. */
function multipliesBf16(native: NativeBackend): boolean {
  return ((native.nativePrecisions >> BF16) & 1) === 1;
}

/** The products of `kernels`, which are of `precision`, in bfloat16; none where that would only be slower than float32. */
export function bf16ProductsOf(
  native: NativeBackend,
  kernels: ProductKernels,
  precision: number,
): ProductKernels | undefined {
  if (!multipliesBf16(native)) return undefined;
  const rounded = <Arguments extends unknown[]>(kernel: (...values: Arguments) => void) => {
    return (...values: Arguments): void => {
      native.setPrecision(BF16);
      try {
        kernel(...values);
      } finally {
        native.setPrecision(precision);
      }
    };
  };
  const { linear, linearBackward, experts, expertsBackward } = kernels;
  return {
    linear: rounded(linear),
    linearBackward: rounded(linearBackward),
    experts: rounded(experts),
    expertsBackward: rounded(expertsBackward),
  };
}

/** Every kernel that the addon brings. */
export function nativeKernelsOf(native: NativeBackend): Partial<Kernels> & ProductKernels {
  const same = Object.fromEntries(SAME.map((name) => [name, native[name]])) as unknown as SameKernels;
  const hasBf16 = multipliesBf16(native);
  // the copies are found by address: while one is kept, so is the array, and nothing else comes to stand there
  const held = new Map<number, FloatArray>();
  return {
    ...same,
    holdWeights(w, groups, O, I) {
      const id = native.hold(w, groups, O, I);
      if (id === 0) return () => {};
      held.set(id, w);
      return () => {
        if (held.delete(id)) native.letGo(id);
      };
    },
    attention(out, logSumExp, q, qOffset, k, kOffset, v, vOffset, starts, s) {
      native.attention(
        out,
        logSumExp,
        q,
        qOffset,
        k,
        kOffset,
        v,
        vOffset,
        starts,
        s.batch,
        s.queries,
        s.heads,
        s.kvHeads,
        s.headDim,
        s.scale,
        s.window,
        s.queryStride,
        s.keyStride,
        s.keyBatchStride,
        s.firstKeys ?? null,
      );
    },
    attentionBackward(dq, dk, dv, dOut, out, logSumExp, q, qOffset, k, kOffset, v, vOffset, s) {
      native.attentionBackward(
        dq,
        dk,
        dv,
        dOut,
        out,
        logSumExp,
        q,
        qOffset,
        k,
        kOffset,
        v,
        vOffset,
        s.batch,
        s.queries,
        s.heads,
        s.kvHeads,
        s.headDim,
        s.scale,
        s.window,
        s.queryStride,
        s.keyStride,
        s.keyBatchStride,
        s.firstKeys ?? null,
      );
    },
    router(probabilities, weights, experts, logits, N, { numExperts: E, topK: K, renormalise, smallestSum = 0 }) {
      native.router(probabilities, weights, experts, logits, N, E, K, renormalise, smallestSum);
    },
    routerBackward(dLogits, dWeights, dProbabilities, probabilities, weights, experts, N, options) {
      const { numExperts: E, topK: K, renormalise, smallestSum = 0 } = options;
      native.routerBackward(
        dLogits,
        dWeights,
        dProbabilities,
        probabilities,
        weights,
        experts,
        N,
        E,
        K,
        renormalise,
        smallestSum,
      );
    },
    chooseExperts(weights, experts, probabilities, bias, N, { numExperts: E, topK: K, renormalise, smallestSum = 0 }) {
      native.chooseExperts(weights, experts, probabilities, bias, N, E, K, renormalise, smallestSum);
    },
    sparseMixer(probabilities, weights, experts, logits, N, { numExperts, jitter }) {
      native.sparseMixer(probabilities, weights, experts, logits, N, numExperts, jitter);
    },
    sparseMixerBackward(dLogits, dWeights, dProbabilities, probabilities, logits, experts, N, { numExperts, jitter }) {
      native.sparseMixerBackward(
        dLogits,
        dWeights,
        dProbabilities,
        probabilities,
        logits,
        experts,
        N,
        numExperts,
        jitter,
      );
    },
    adafactor(p, g, row, rowOffset, column, columnOffset, offset, rows, columns, o) {
      const rates = [o.learningRate, o.step, o.decayRate, o.eps1, o.eps2, o.clip];
      const rest = [o.relative, o.weightDecay, o.gradientScale];
      native.adafactor(p, g, row, rowOffset, column, columnOffset, offset, rows, columns, ...rates, ...rest);
    },
    dispatch({ experts, offsets, rows, slots }, N, { numExperts, topK }) {
      native.dispatch(experts, offsets, rows, slots, N, numExperts, topK);
    },
    newtonSchulz(x, { offsets, rows, columns }, coefficients, _scratch, rounded = false) {
      native.newtonSchulz(x, offsets, rows, columns, coefficients, rounded && hasBf16);
    },
    muonNormalise(x, { offsets, rows, columns }, v, beta2) {
      native.muonNormalise(x, offsets, rows, columns, v, beta2);
    },
    fillNormal(out, { keyLow, keyHigh, streamNumber }, mean, deviation, step, start) {
      native.fillNormal(out, mean, deviation, keyLow, keyHigh, streamNumber, step, start);
    },
    experts(y, saved, x, wGateUp, wDown, routing, shape) {
      const { gathered, gateUp, hidden, output } = saved;
      const { weights, offsets, rows, slots } = routing;
      const { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F } = shape;
      native.experts(
        y,
        gathered,
        gateUp,
        hidden,
        output,
        x,
        wGateUp,
        wDown,
        weights,
        offsets,
        rows,
        slots,
        N,
        C,
        E,
        K,
        F,
      );
    },
    expertsBf16(y, saved, x, wGateUp, wDown, routing, shape) {
      const { gathered, gateUp, hidden, output } = saved;
      const { weights, offsets, rows, slots } = routing;
      const { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F } = shape;
      native.expertsBf16(
        y,
        gathered,
        gateUp,
        hidden,
        output,
        x,
        wGateUp,
        wDown,
        weights,
        offsets,
        rows,
        slots,
        N,
        C,
        E,
        K,
        F,
      );
    },
    expertsBackward(dx, dWeights, dWGateUp, dWDown, scratch, dy, saved, wGateUp, wDown, routing, shape) {
      const { weights, offsets, slots } = routing;
      const { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F } = shape;
      native.expertsBackward(
        dx,
        dWeights,
        dWGateUp,
        dWDown,
        scratch.gathered,
        scratch.gateUp,
        scratch.hidden,
        scratch.output,
        dy,
        saved.gathered,
        saved.gateUp,
        saved.hidden,
        saved.output,
        wGateUp,
        wDown,
        weights,
        offsets,
        slots,
        N,
        C,
        E,
        K,
        F,
      );
    },
  };
}
