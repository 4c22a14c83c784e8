// What kernels do to the arrays they are given: "=" overwrites without reading, "+=" adds, nothing else is touched, and zero
// rows are legal. One case a kernel; the arrays it writes come from `Outputs`, which puts guard values around each.

import { describe, expect, test } from 'vitest';
import type { AttentionShape, Kernels, Routing } from '../core/kernels.ts';
import { portableKernels } from '../core/ops/portable.ts';
import { dot, normal } from './support/differences.ts';
import { referenceKernels } from './support/kernels.ts';

const kernels = referenceKernels();

const GUARD = 77;
const GUARDS = 5;

/** Makes output arrays as views between guard values, all elements being `before`. */
class Outputs {
  readonly overwritten: Float64Array[] = [];
  readonly added: Float64Array[] = [];
  private readonly buffers: Float64Array[] = [];
  private readonly before: number;

  constructor(before: number) {
    this.before = before;
  }

  /** An output that the kernel documents as "=". */
  set(length: number): Float64Array {
    return this.view(length, this.overwritten);
  }

  /** An output that the kernel documents as "+=". */
  add(length: number): Float64Array {
    return this.view(length, this.added);
  }

  private view(length: number, list: Float64Array[]): Float64Array {
    const buffer = new Float64Array(length + 2 * GUARDS).fill(GUARD);
    const view = buffer.subarray(GUARDS, GUARDS + length).fill(this.before);
    this.buffers.push(buffer);
    list.push(view);
    return view;
  }

  expectGuards(): void {
    for (const buffer of this.buffers) {
      const around = [...buffer.subarray(0, GUARDS), ...buffer.subarray(buffer.length - GUARDS)];
      expect(around, 'guard values').toEqual(around.map(() => GUARD));
    }
  }
}

const [C, E, K, F, V] = [3, 4, 2, 5, 7];

// Inputs of up to 17 rows, drawn once: both runs of a case must see the same. Unused elements follow the used ones.
const [a, b, c, d] = [normal(999), normal(999), normal(999), normal(999)];
const positive = normal(999).map((value) => 1 + Math.abs(value));

const routerOptions = { numExperts: E, topK: K, renormalise: true };
const mixerOptions = { numExperts: E, jitter: 0.3 };
const zeros = (length: number) => new Float64Array(length);
const ids = (N: number) => Int32Array.from({ length: N }, (_, i) => (i * 3) % V);
/** Experts 0, 1 and 3 share N rows; expert 2 has none. */
const offsets = (N: number) => Int32Array.of(0, N >> 1, N - (N >> 2), N - (N >> 2), N);

/** The routing of the first N rows of a. */
function route(N: number): { probabilities: Float64Array; routing: Routing } {
  const probabilities = zeros(N * E);
  const routing: Routing = {
    experts: new Int32Array(N * K),
    weights: zeros(N * K),
    offsets: new Int32Array(E + 1).fill(99),
    rows: new Int32Array(N * K),
    slots: new Int32Array(N * K),
  };
  kernels.router(probabilities, routing.weights, routing.experts, a, N, routerOptions);
  kernels.dispatch(routing, N, routerOptions);
  return { probabilities, routing };
}

/** What `experts` saves, or the scratch of its backward pass. */
function expertBuffers(make: (length: number) => Float64Array, N: number) {
  const M = N * K;
  return { gathered: make(M * C), gateUp: make(M * 2 * F), hidden: make(M * F), output: make(M * C) };
}

const expertsShape = (N: number) => ({ tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F });

/** N rows of 2 heads of 2 on one kv head, q, k and v being apart. */
const attentionShape = (N: number): AttentionShape => ({
  ...{ batch: 1, queries: N, heads: 2, kvHeads: 1, headDim: 2, scale: 0.7, window: 0 },
  ...{ queryStride: 4, keyStride: 2, keyBatchStride: N * 2 },
});

type Case = (N: number, out: Outputs) => void;

/** Every kernel with outputs to overwrite or add to; optimizers, casts and rope work in place and are tested elsewhere. */
const CASES: Partial<Record<keyof Kernels, Case>> = {
  linear: (N, out) => {
    kernels.linear(out.set(N * F), a, b, c, N, C, F, false);
    kernels.linear(out.add(N * F), a, b, c, N, C, F, true);
  },
  linearBackward: (N, out) => {
    kernels.linearBackward(out.set(N * C), out.add(F * C), out.add(F), a, b, c, N, C, F, false);
    kernels.linearBackward(out.add(N * C), null, null, a, b, c, N, C, F, true);
    kernels.linearBackward(null, out.add(F * C), null, a, b, c, N, C, F, false);
  },
  groupedLinear: (N, out) => kernels.groupedLinear(out.set(N * F), a, b, offsets(N), E, C, F),
  groupedLinearBackward: (N, out) =>
    kernels.groupedLinearBackward(out.set(N * C), out.add(E * F * C), a, b, c, offsets(N), E, C, F),
  embedding: (N, out) => kernels.embedding(out.set(N * C), a, ids(N), N, C),
  embeddingBackward: (N, out) => kernels.embeddingBackward(out.add(V * C), a, ids(N), N, C),
  add: (N, out) => kernels.add(out.add(N), a, N),
  scale: (N, out) => kernels.scale(out.set(N), a, 0.3, N),
  clamp: (N, out) => kernels.clamp(out.set(N), a, 0.5, N),
  clampBackward: (N, out) => kernels.clampBackward(out.set(N), a, b, 0.5, N),
  layerNorm: (N, out) => kernels.layerNorm(out.set(N * C), out.set(N), out.set(N), a, b, c, N, C, 0.1),
  layerNormBackward: (N, out) =>
    kernels.layerNormBackward(out.add(N * C), out.add(C), out.add(C), a, b, c, d, positive, N, C),
  rmsNorm: (N, out) => kernels.rmsNorm(out.set(N * C), out.set(N), a, b, N, C, 0.1),
  rmsNormBackward: (N, out) => kernels.rmsNormBackward(out.add(N * C), out.add(C), a, b, c, positive, N, C),
  softmax: (N, out) => kernels.softmax(out.set(N * V), a, N, V),
  swiglu: (N, out) => kernels.swiglu(out.set(N * F), a, N, F),
  swigluBackward: (N, out) => kernels.swigluBackward(out.set(N * 2 * F), a, b, N, F),
  attention: (N, out) =>
    kernels.attention(out.set(N * 4), out.set(2 * N), a, 0, b, 0, c, 0, Int32Array.of(0), attentionShape(N)),
  attentionBackward: (N, out) => {
    const [output, logSumExp, shape] = [zeros(N * 4), zeros(2 * N), attentionShape(N)];
    kernels.attention(output, logSumExp, a, 0, b, 0, c, 0, Int32Array.of(0), shape);
    const [dq, dk, dv] = [out.set(N * 4), out.set(N * 2), out.set(N * 2)];
    kernels.attentionBackward(dq, dk, dv, d, output, logSumExp, a, 0, b, 0, c, 0, shape);
  },
  router: (N, out) =>
    kernels.router(out.set(N * E), out.set(N * K), new Int32Array(N * K).fill(99), a, N, routerOptions),
  chooseExperts: (N, out) =>
    kernels.chooseExperts(out.set(N * K), new Int32Array(N * K).fill(99), positive, b, N, routerOptions),
  zLoss: (N, out) => void kernels.zLoss(out.add(N * E), a, N, E, 0.5),
  routerBackward: (N, out) => {
    const { probabilities, routing } = route(N);
    const { weights, experts } = routing;
    kernels.routerBackward(out.set(N * E), b, c, probabilities, weights, experts, N, routerOptions);
  },
  sparseMixer: (N, out) =>
    kernels.sparseMixer(out.set(N * E), out.set(N * 2), new Int32Array(N * 2).fill(99), a, N, mixerOptions),
  sparseMixerBackward: (N, out) => {
    const [probabilities, experts] = [zeros(N * E), new Int32Array(N * 2)];
    kernels.sparseMixer(probabilities, zeros(N * 2), experts, a, N, mixerOptions);
    kernels.sparseMixerBackward(out.set(N * E), b, c, probabilities, a, experts, N, mixerOptions);
  },
  gather: (N, out) => kernels.gather(out.set(N * K * C), a, route(N).routing.rows, N * K, C),
  gatherBackward: (N, out) => kernels.gatherBackward(out.set(N * C), a, route(N).routing.slots, N, K, C),
  combine: (N, out) => kernels.combine(out.add(N * C), a, b, route(N).routing.slots, N, K, C),
  combineBackward: (N, out) =>
    kernels.combineBackward(out.set(N * K * C), out.set(N * K), a, b, c, route(N).routing.slots, N, K, C),
  experts: (N, out) => {
    const saved = expertBuffers((length) => out.set(length), N);
    kernels.experts(out.add(N * C), saved, a, b, c, route(N).routing, expertsShape(N));
  },
  expertsBackward: (N, out) => {
    const [{ routing }, shape, saved] = [route(N), expertsShape(N), expertBuffers(zeros, N)];
    kernels.experts(zeros(N * C), saved, a, b, c, routing, shape);
    const scratch = expertBuffers((length) => out.set(length), N);
    const [dx, dWeights] = [out.set(N * C), out.set(N * K)];
    const [dWGateUp, dWDown] = [out.add(E * 2 * F * C), out.add(E * C * F)];
    kernels.expertsBackward(dx, dWeights, dWGateUp, dWDown, scratch, d, saved, b, c, routing, shape);
  },
  crossEntropy: (N, out) => void kernels.crossEntropy(out.set(N * V), a, ids(N), N, V, 0.5),
};

describe.each(Object.entries(CASES))('%s', (_, run) => {
  test.each([1, 3, 17])('writes its outputs as documented and nothing around them: %i rows', (N) => {
    const [fromZero, fromOne, fromNaN] = [new Outputs(0), new Outputs(1), new Outputs(Number.NaN)];
    for (const outputs of [fromZero, fromOne, fromNaN]) {
      run(N, outputs);
      outputs.expectGuards();
    }
    for (const [i, array] of fromZero.overwritten.entries()) {
      expect(array.some(Number.isNaN), `output ${i} is complete`).toBe(false);
      expect(fromNaN.overwritten[i], `output ${i} does not depend on what it held`).toEqual(array);
    }
    for (const [i, array] of fromZero.added.entries()) {
      for (const [j, value] of array.entries()) expect(fromOne.added[i][j]).toBeCloseTo(1 + value, 12);
    }
  });

  test('does nothing for zero rows', () => {
    const outputs = new Outputs(1);
    run(0, outputs);
    outputs.expectGuards();
    for (const array of outputs.added) expect(array).toEqual(array.map(() => 1));
  });
});

test('add stops at count', () => {
  const y = Float64Array.of(1, 2, 3);
  kernels.add(y, Float64Array.of(10, 20, 30), 2);
  expect([...y]).toEqual([11, 22, 3]);
});

test.each([Float32Array, Float64Array])(
  'an expert layer is Σ weight · down(SiLU(gate x) ⊙ up x), in a %o',
  (Floats) => {
    const N = 9;
    const { routing } = route(N);
    const make = (length: number) => new Floats(length);
    const M = N * K;
    const saved = { gathered: make(M * C), gateUp: make(M * 2 * F), hidden: make(M * F), output: make(M * C) };
    const [x, wGateUp, wDown, weights] = [a, b, c, routing.weights].map((values) => Floats.from(values));
    const y = make(N * C);
    kernels.experts(y, saved, x, wGateUp, wDown, { ...routing, weights }, expertsShape(N));
    for (let n = 0; n < N; n++) {
      const wanted = zeros(C);
      for (let k = 0; k < K; k++) {
        const e = routing.experts[n * K + k];
        const row = (f: number) => dot(b.subarray((e * 2 * F + f) * C), a.subarray(n * C, (n + 1) * C));
        const hidden = Array.from({ length: F }, (_, f) => (row(f) / (1 + Math.exp(-row(f)))) * row(F + f));
        for (let i = 0; i < C; i++) wanted[i] += routing.weights[n * K + k] * dot(c.subarray((e * C + i) * F), hidden);
      }
      for (let i = 0; i < C; i++) expect(y[n * C + i]).toBeCloseTo(wanted[i], Floats === Float32Array ? 4 : 12);
    }
  },
);

describe('rows far below zero neither underflow nor overflow', () => {
  test('softmax', () => {
    const y = zeros(2);
    kernels.softmax(y, Float64Array.of(-2000, -2000), 1, 2);
    expect([...y]).toEqual([0.5, 0.5]);
  });

  test('cross-entropy', () => {
    expect(kernels.crossEntropy(null, Float64Array.of(-2000, -2000), Int32Array.of(1), 1, 2, 1)).toBe(Math.log(2));
  });

  test('attention', () => {
    const [out, logSumExp] = [zeros(2), zeros(2)];
    const shape: AttentionShape = {
      ...{ batch: 1, queries: 2, heads: 1, kvHeads: 1, headDim: 1, scale: 1, window: 0 },
      ...{ queryStride: 1, keyStride: 1, keyBatchStride: 2 },
    };
    const keys = Float64Array.of(-50, -50);
    kernels.attention(
      out,
      logSumExp,
      keys.map(Math.abs),
      0,
      keys,
      0,
      Float64Array.of(2, 4),
      0,
      new Int32Array(1),
      shape,
    );
    expect([...out]).toEqual([2, 3]);
    expect(logSumExp[1]).toBeCloseTo(-2500 + Math.log(2), 10);
  });
});

test('logSumExp is log Σ exp(q·k·scale), ordered by sequence, head, row', () => {
  const [batch, T, heads] = [2, 3, 2];
  const logSumExp = zeros(batch * heads * T);
  const shape: AttentionShape = {
    ...{ batch, queries: T, heads, kvHeads: 1, headDim: 2, scale: 0.7, window: 0 },
    ...{ queryStride: 4, keyStride: 2, keyBatchStride: T * 2 },
  };
  kernels.attention(zeros(batch * T * 4), logSumExp, a, 0, b, 0, c, 0, new Int32Array(batch), shape);
  for (let s = 0; s < batch; s++) {
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < T; t++) {
        const query = a.subarray((s * T + t) * 4 + h * 2);
        let sum = 0;
        for (let j = 0; j <= t; j++) {
          const key = (s * T + j) * 2;
          sum += Math.exp(0.7 * dot(query, b.subarray(key, key + 2)));
        }
        expect(logSumExp[(s * heads + h) * T + t]).toBeCloseTo(Math.log(sum), 12);
      }
    }
  }
});

test('the router without an auxiliary loss has the gradient of one that is zero', () => {
  const N = 5;
  const { probabilities, routing } = route(N);
  const [without, withZero] = [zeros(N * E), zeros(N * E)];
  const { weights, experts } = routing;
  kernels.routerBackward(without, b, null, probabilities, weights, experts, N, routerOptions);
  kernels.routerBackward(withZero, b, zeros(E), probabilities, weights, experts, N, routerOptions);
  expect(without).toEqual(withZero);
});

test('the first step of SGD does not read the velocity', () => {
  const [p, velocity] = [Float64Array.of(1), Float64Array.of(Number.NaN)];
  kernels.sgd(p, Float64Array.of(2), velocity, 0, 1, 0.1, 0.9, false, 0, 1, 1);
  expect(p[0]).toBeCloseTo(0.8, 14);
  expect(velocity[0]).toBe(2);
});

test('NaN stays NaN in 16 bits, whatever its payload and sign', () => {
  const nan = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff).buffer);
  const [bits, back] = [new Uint16Array(4), new Float32Array(4)];
  kernels.toBf16(bits, nan);
  kernels.fromBf16(back, bits);
  expect([...back].every(Number.isNaN)).toBe(true);
  kernels.toF16(bits, nan);
  kernels.fromF16(back, bits);
  expect([...back].every(Number.isNaN)).toBe(true);
});

test('an expert layer that a backend brings itself replaces ours', () => {
  const experts: Kernels['experts'] = () => undefined;
  expect(portableKernels(kernels.gemm, { experts }).experts).toBe(experts);
});
