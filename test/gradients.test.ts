// Every backward kernel against finite differences in float64. The loss of a test is the sum of the op's output times fixed
// random weights, so the gradient that goes in is those weights.

import { describe, expect, test } from 'vitest';
import { type AttentionShape, type ExpertsSaved, IGNORE_INDEX, type Routing } from '../core/kernels.ts';
import { dot, expectGradient, normal } from './support/differences.ts';
import { referenceKernels } from './support/kernels.ts';

const kernels = referenceKernels();
const zeros = (length: number) => new Float64Array(length);
const garbage = (length: number) => new Float64Array(length).fill(Number.NaN);

describe.each([
  [1, 1, 1],
  [3, 5, 2],
  [17, 4, 9],
])('linear of %i rows, %i to %i', (N, I, O) => {
  const [x, w, b, dy] = [normal(N * I), normal(O * I), normal(O), normal(N * O)];
  const y = garbage(N * O);
  const loss = () => {
    kernels.linear(y, x, w, b, N, I, O, false);
    return dot(y, dy);
  };

  test('dx, dw, db', () => {
    const [dx, dw, db] = [garbage(N * I), zeros(O * I), zeros(O)];
    kernels.linearBackward(dx, dw, db, dy, x, w, N, I, O, false);
    expectGradient('x', x, dx, loss);
    expectGradient('w', w, dw, loss);
    expectGradient('b', b, db, loss);
  });

  test('dx is added to where asked, dw and db always', () => {
    const [dx, dw, db] = [zeros(N * I).fill(1), zeros(O * I).fill(1), zeros(O).fill(1)];
    const [plainX, plainW, plainB] = [garbage(N * I), zeros(O * I), zeros(O)];
    kernels.linearBackward(plainX, plainW, plainB, dy, x, w, N, I, O, false);
    kernels.linearBackward(dx, dw, db, dy, x, w, N, I, O, true);
    for (const [sum, plain] of [
      [dx, plainX],
      [dw, plainW],
      [db, plainB],
    ] as const) {
      for (let i = 0; i < sum.length; i++) expect(sum[i]).toBeCloseTo(plain[i] + 1, 10);
    }
  });
});

test('grouped linear, with an expert that has no rows', () => {
  const [E, I, O] = [4, 3, 5];
  const offsets = Int32Array.of(0, 2, 2, 3, 7);
  const M = 7;
  const [x, w, dy] = [normal(M * I), normal(E * O * I), normal(M * O)];
  const y = garbage(M * O);
  const loss = () => {
    kernels.groupedLinear(y, x, w, offsets, E, I, O);
    return dot(y, dy);
  };
  const [dx, dw] = [garbage(M * I), zeros(E * O * I)];
  kernels.groupedLinearBackward(dx, dw, dy, x, w, offsets, E, I, O);
  expectGradient('x', x, dx, loss);
  expectGradient('w', w, dw, loss);
});

test.each([
  [1, 1],
  [3, 7],
  [5, 16],
])('RMSNorm of %i rows of %i', (N, C) => {
  const [x, gamma, dy] = [normal(N * C), normal(C), normal(N * C)];
  const [y, rstd] = [garbage(N * C), garbage(N)];
  const loss = () => {
    kernels.rmsNorm(y, rstd, x, gamma, N, C, 0.1);
    return dot(y, dy);
  };
  loss();
  const [dx, dGamma] = [zeros(N * C), zeros(C)];
  kernels.rmsNormBackward(dx, dGamma, dy, x, gamma, rstd, N, C);
  expectGradient('x', x, dx, loss);
  expectGradient('gamma', gamma, dGamma, loss);
});

test.each([
  [1, 2],
  [3, 7],
  [5, 16],
])('LayerNorm of %i rows of %i', (N, C) => {
  const [x, gamma, beta, dy] = [normal(N * C), normal(C), normal(C), normal(N * C)];
  const [y, mean, rstd] = [garbage(N * C), garbage(N), garbage(N)];
  const loss = () => {
    kernels.layerNorm(y, mean, rstd, x, gamma, beta, N, C, 0.1);
    return dot(y, dy);
  };
  loss();
  const [dx, dGamma, dBeta] = [zeros(N * C), zeros(C), zeros(C)];
  kernels.layerNormBackward(dx, dGamma, dBeta, dy, x, gamma, mean, rstd, N, C);
  expectGradient('x', x, dx, loss);
  expectGradient('gamma', gamma, dGamma, loss);
  expectGradient('beta', beta, dBeta, loss);
});

test('clamp, also in place', () => {
  const [x, dy] = [normal(40), normal(40)];
  const y = garbage(40);
  const d = garbage(40);
  kernels.clampBackward(d, dy, x, 0.6, 40);
  expectGradient('x', x, d, () => {
    kernels.clamp(y, x, 0.6, 40);
    return dot(y, dy);
  });
  const inPlace = dy.slice();
  kernels.clampBackward(inPlace, inPlace, x, 0.6, 40);
  expect(inPlace).toEqual(d);
});

test.each(['rope', 'ropeInterleaved'] as const)('%s: the inverse rotation is the gradient', (name) => {
  const [N, heads, D, stride, offset] = [3, 2, 4, 11, 2];
  const [cos, sin] = [normal(8 * 2).map(Math.cos), zeros(16)];
  for (let i = 0; i < 16; i++) sin[i] = Math.sqrt(1 - cos[i] ** 2);
  const positions = Int32Array.of(0, 5, 7);
  const [x, dy] = [normal(N * stride + offset), normal(N * stride + offset)];
  const loss = () => {
    const y = x.slice();
    kernels[name](y, offset, stride, cos, sin, positions, N, heads, D, false);
    return dot(y, dy);
  };
  const dx = dy.slice();
  kernels[name](dx, offset, stride, cos, sin, positions, N, heads, D, true);
  expectGradient('x', x, dx, loss);
});

test.each([
  [1, 1],
  [4, 5],
])('SwiGLU of %i rows of %i, also in place', (M, F) => {
  const [gateUp, dh] = [normal(M * 2 * F), normal(M * F)];
  const h = garbage(M * F);
  const loss = () => {
    kernels.swiglu(h, gateUp, M, F);
    return dot(h, dh);
  };
  const dGateUp = garbage(M * 2 * F);
  kernels.swigluBackward(dGateUp, dh, gateUp, M, F);
  expectGradient('gateUp', gateUp, dGateUp, loss);
  const inPlace = gateUp.slice();
  kernels.swigluBackward(inPlace, dh, inPlace, M, F);
  expect(inPlace).toEqual(dGateUp);
});

test('embedding, with an id that stands twice', () => {
  const [V, C] = [5, 3];
  const ids = Int32Array.of(2, 0, 2, 4);
  const [table, dy] = [normal(V * C), normal(4 * C)];
  const y = garbage(4 * C);
  const loss = () => {
    kernels.embedding(y, table, ids, 4, C);
    return dot(y, dy);
  };
  const dTable = zeros(V * C);
  kernels.embeddingBackward(dTable, dy, ids, 4, C);
  expectGradient('table', table, dTable, loss);
});

test('cross-entropy, with a row that has no target', () => {
  const [N, V, scale] = [4, 7, 0.3];
  const targets = Int32Array.of(6, IGNORE_INDEX, 0, 3);
  const logits = normal(N * V, 3);
  const gradient = garbage(N * V);
  kernels.crossEntropy(gradient, logits, targets, N, V, scale);
  expectGradient('logits', logits, gradient, () => scale * kernels.crossEntropy(null, logits, targets, N, V, 0));
  expect([...gradient.subarray(V, 2 * V)]).toEqual(Array.from({ length: V }, () => 0));
  const inPlace = logits.slice();
  kernels.crossEntropy(inPlace, inPlace, targets, N, V, scale);
  expect(inPlace).toEqual(gradient);
});

describe('attention', () => {
  test.each<[string, number, number, number, number, number, number, number?]>([
    ['one row', 1, 1, 1, 1, 2, 0],
    ['multi-head', 2, 5, 3, 3, 4, 0],
    ['grouped heads', 2, 6, 4, 2, 4, 0],
    ['multi-query', 1, 7, 4, 1, 2, 0],
    ['a window', 1, 9, 2, 1, 4, 3],
    ['more rows than a tile', 1, 70, 1, 1, 2, 0],
    ['a window across tiles', 1, 70, 2, 1, 2, 10],
    ['documents that do not see each other', 2, 9, 4, 2, 2, 0, 4],
    ['documents across tiles', 1, 70, 1, 1, 2, 0, 33],
    ['documents and a window', 1, 12, 2, 1, 2, 3, 5],
  ])('%s', (_, batch, T, heads, kvHeads, D, window, documents) => {
    const width = (heads + 2 * kvHeads) * D;
    const shape: AttentionShape = {
      ...{ batch, queries: T, heads, kvHeads, headDim: D, scale: 0.7, window },
      ...{ queryStride: width, keyStride: width, keyBatchStride: T * width },
      firstKeys: documents
        ? Int32Array.from({ length: batch * T }, (_, i) => (i % T) - ((i % T) % documents))
        : undefined,
    };
    const [kOffset, vOffset] = [heads * D, (heads + kvHeads) * D];
    const starts = new Int32Array(batch);
    const [qkv, dOut] = [normal(batch * T * width), normal(batch * T * heads * D)];
    const [out, logSumExp] = [garbage(batch * T * heads * D), garbage(batch * heads * T)];
    const loss = () => {
      kernels.attention(out, logSumExp, qkv, 0, qkv, kOffset, qkv, vOffset, starts, shape);
      return dot(out, dOut);
    };
    loss();
    const d = garbage(qkv.length);
    kernels.attentionBackward(d, d, d, dOut, out, logSumExp, qkv, 0, qkv, kOffset, qkv, vOffset, shape);
    expectGradient('q, k and v', qkv, d, loss);
  });
});

describe('mixture of experts', () => {
  /** A routing of N rows whose experts and weights come from logits. */
  function route(N: number, E: number, K: number, logits: Float64Array, renormalise: boolean) {
    const probabilities = garbage(N * E);
    const routing: Routing = {
      experts: new Int32Array(N * K),
      weights: garbage(N * K),
      offsets: new Int32Array(E + 1),
      rows: new Int32Array(N * K),
      slots: new Int32Array(N * K),
    };
    const options = { numExperts: E, topK: K, renormalise };
    kernels.router(probabilities, routing.weights, routing.experts, logits, N, options);
    kernels.dispatch(routing, N, options);
    return { probabilities, routing, options };
  }

  test.each<[string, number, number, boolean]>([
    ['top 2 of 5, renormalised', 5, 2, true],
    ['top 2 of 5, as they are', 5, 2, false],
    ['all of 3', 3, 3, true],
    ['top 1 of 4, as it is', 4, 1, false],
  ])('router, %s, with the auxiliary loss', (_, E, K, renormalise) => {
    const N = 6;
    const logits = normal(N * E);
    const [dWeights, dProbabilities] = [normal(N * K), normal(E)];
    const loss = () => {
      const { probabilities, routing } = route(N, E, K, logits, renormalise);
      let sum = dot(routing.weights, dWeights);
      for (let n = 0; n < N; n++) sum += dot(probabilities.subarray(n * E), dProbabilities);
      return sum;
    };
    const { probabilities, routing, options } = route(N, E, K, logits, renormalise);
    const d = garbage(N * E);
    kernels.routerBackward(d, dWeights, dProbabilities, probabilities, routing.weights, routing.experts, N, options);
    expectGradient('logits', logits, d, loss);
  });

  test.each([[true], [false]])('a biased choice, renormalised %s, has the gradient of the router', (renormalise) => {
    const [N, E, K] = [6, 5, 2];
    const options = { numExperts: E, topK: K, renormalise };
    const [logits, dWeights, bias] = [normal(N * E), normal(N * K), normal(E)];
    const [probabilities, weights, experts] = [garbage(N * E), garbage(N * K), new Int32Array(N * K)];
    const loss = () => {
      kernels.softmax(probabilities, logits, N, E);
      kernels.chooseExperts(weights, experts, probabilities, bias, N, options);
      return dot(weights, dWeights);
    };
    loss();
    const d = garbage(N * E);
    kernels.routerBackward(d, dWeights, null, probabilities, weights, experts, N, options);
    expectGradient('logits', logits, d, loss);
  });

  test('router, divided by no less than a floor', () => {
    const [N, E, K] = [8, 5, 2];
    const options = { numExperts: E, topK: K, renormalise: true, smallestSum: 0.7 };
    const [logits, dWeights] = [normal(N * E), normal(N * K)];
    const [probabilities, weights, experts] = [garbage(N * E), garbage(N * K), new Int32Array(N * K)];
    const loss = () => {
      kernels.router(probabilities, weights, experts, logits, N, options);
      return dot(weights, dWeights);
    };
    loss();
    const sums = Array.from({ length: N }, (_, n) => weights[2 * n] + weights[2 * n + 1]);
    expect(sums.some((sum) => sum < 0.99)).toBe(true); // some rows are below the floor, others are not
    expect(sums.some((sum) => sum > 0.99)).toBe(true);
    const d = garbage(N * E);
    kernels.routerBackward(d, dWeights, null, probabilities, weights, experts, N, options);
    expectGradient('logits', logits, d, loss);
  });

  test.each([0.01, 0.3, 2])('sparsemixer with a tolerance of %d, with the auxiliary loss', (jitter) => {
    const [N, E] = [6, 5];
    const options = { numExperts: E, jitter };
    const [logits, dWeights, dProbabilities] = [normal(N * E), normal(N * 2), normal(E)];
    const [probabilities, weights, experts] = [garbage(N * E), garbage(N * 2), new Int32Array(N * 2)];
    const loss = () => {
      kernels.sparseMixer(probabilities, weights, experts, logits, N, options);
      let sum = dot(weights, dWeights);
      for (let n = 0; n < N; n++) sum += dot(probabilities.subarray(n * E), dProbabilities);
      return sum;
    };
    loss();
    const d = garbage(N * E);
    kernels.sparseMixerBackward(d, dWeights, dProbabilities, probabilities, logits, experts, N, options);
    expectGradient('logits', logits, d, loss);
  });

  test.each([
    [1, 1],
    [6, 5],
  ])('z-loss of %i rows of %i', (N, E) => {
    const logits = normal(N * E, 2);
    const d = zeros(N * E);
    kernels.zLoss(d, logits, N, E, 0.7);
    expectGradient('logits', logits, d, () => 0.7 * kernels.zLoss(null, logits, N, E, 0));
  });

  test('gather and combine', () => {
    const [N, E, K, C] = [5, 4, 2, 3];
    const { routing } = route(N, E, K, normal(N * E), true);
    const M = N * K;
    const [x, dy] = [normal(N * C), normal(M * C)];
    const gathered = garbage(M * C);
    const dx = garbage(N * C);
    kernels.gatherBackward(dx, dy, routing.slots, N, K, C);
    expectGradient('x', x, dx, () => {
      kernels.gather(gathered, x, routing.rows, M, C);
      return dot(gathered, dy);
    });

    const [outputs, dCombined] = [normal(M * C), normal(N * C)];
    const [dOutputs, dWeights] = [garbage(M * C), garbage(N * K)];
    kernels.combineBackward(dOutputs, dWeights, dCombined, outputs, routing.weights, routing.slots, N, K, C);
    const combined = () => {
      const y = zeros(N * C);
      kernels.combine(y, outputs, routing.weights, routing.slots, N, K, C);
      return dot(y, dCombined);
    };
    expectGradient('outputs', outputs, dOutputs, combined);
    expectGradient('weights', routing.weights, dWeights, combined);
  });

  test('a whole expert layer', () => {
    const shape = { tokens: 5, hiddenSize: 3, numExperts: 4, topK: 2, expertWidth: 4 };
    const { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F } = shape;
    const { routing } = route(N, E, K, normal(N * E), true);
    const M = N * K;
    const buffers = (): ExpertsSaved => ({
      gathered: garbage(M * C),
      gateUp: garbage(M * 2 * F),
      hidden: garbage(M * F),
      output: garbage(M * C),
    });
    const [x, wGateUp, wDown, dy] = [normal(N * C), normal(E * 2 * F * C), normal(E * C * F), normal(N * C)];
    const saved = buffers();
    const loss = () => {
      const y = zeros(N * C);
      kernels.experts(y, saved, x, wGateUp, wDown, routing, shape);
      return dot(y, dy);
    };
    loss();
    const [dx, dWeights, dGateUp, dDown] = [garbage(N * C), garbage(N * K), zeros(wGateUp.length), zeros(wDown.length)];
    kernels.expertsBackward(dx, dWeights, dGateUp, dDown, buffers(), dy, saved, wGateUp, wDown, routing, shape);
    expectGradient('x', x, dx, loss);
    expectGradient('weights', routing.weights, dWeights, loss);
    expectGradient('wGateUp', wGateUp, dGateUp, loss);
    expectGradient('wDown', wDown, dDown, loss);
  });
});
