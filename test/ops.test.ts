// Forward kernels against plain formulas, updates against PyTorch's, casts against every value there is.

import { describe, expect, test } from 'vitest';
import { IGNORE_INDEX, type AttentionShape, type Kernels } from '../core/kernels.ts';
import { exp } from '../core/ops/exp.ts';
import type { FloatArray } from '../core/tensor/dtype.ts';
import { dot, normal } from './support/differences.ts';
import { referenceKernels } from './support/kernels.ts';

const kernels = referenceKernels();

describe('softmax', () => {
  test('sums to one, keeps order, survives large logits', () => {
    const x = Float64Array.of(1000, 1001, 1002, -Infinity, 0, 0, 0, 0);
    const y = new Float64Array(8);
    kernels.softmax(y, x, 2, 4);
    const [a, b, c] = [Math.exp(-2), Math.exp(-1), 1].map((e) => e / (Math.exp(-2) + Math.exp(-1) + 1));
    [a, b, c, 0, 0.25, 0.25, 0.25, 0.25].forEach((value, i) => expect(y[i]).toBeCloseTo(value, 14));
  });

  test('works in place', () => {
    const x = normal(21);
    const y = new Float64Array(21);
    kernels.softmax(y, x, 3, 7);
    kernels.softmax(x, x, 3, 7);
    expect(x).toEqual(y);
  });
});

test('RMSNorm is x / sqrt(mean(x²) + eps) · γ', () => {
  const [y, rstd] = [new Float64Array(2), new Float64Array(1)];
  kernels.rmsNorm(y, rstd, Float64Array.of(3, 4), Float64Array.of(1, 2), 1, 2, 0.5);
  const r = 1 / Math.sqrt(25 / 2 + 0.5);
  expect([...y]).toEqual([3 * r, 4 * r * 2]);
  expect(rstd[0]).toBe(r);
});

test('LayerNorm is (x - mean) / sqrt(variance + eps) · γ + β', () => {
  const [y, mean, rstd] = [new Float64Array(2), new Float64Array(1), new Float64Array(1)];
  kernels.layerNorm(y, mean, rstd, Float64Array.of(3, 5), Float64Array.of(1, 2), Float64Array.of(10, 20), 1, 2, 0.5);
  const r = 1 / Math.sqrt(1 + 0.5);
  expect([...y]).toEqual([10 - r, 20 + r * 2]);
  expect([mean[0], rstd[0]]).toEqual([4, r]);
});

test('scale and clamp, also in place', () => {
  const x = Float64Array.of(-3, -0.5, 0.25, 2);
  const y = new Float64Array(4);
  kernels.clamp(y, x, 0.5, 4);
  expect([...y]).toEqual([-0.5, -0.5, 0.25, 0.5]);
  kernels.clampBackward(y, Float64Array.of(1, 2, 3, 4), x, 0.5, 4);
  expect([...y]).toEqual([0, 2, 3, 0]);
  kernels.scale(y, x, 2, 4);
  expect([...y]).toEqual([-6, -1, 0.5, 4]);
  kernels.scale(x, x, 2, 3);
  expect([...x]).toEqual([-6, -1, 0.5, 2]);
});

test('SwiGLU is SiLU(gate)·up', () => {
  const h = new Float64Array(2);
  kernels.swiglu(h, Float64Array.of(1, -2, 3, 5), 1, 2);
  expect(h[0]).toBeCloseTo((1 / (1 + Math.exp(-1))) * 3, 14);
  expect(h[1]).toBeCloseTo((-2 / (1 + Math.exp(2))) * 5, 14);
});

test('rope turns the pair (i, i + D/2), and the inverse turns it back', () => {
  const angle = 0.3;
  const [cos, sin] = [Float64Array.of(1, Math.cos(angle)), Float64Array.of(0, Math.sin(angle))];
  const x = Float64Array.of(9, 1, 2, 9);
  kernels.rope(x, 1, 4, cos, sin, Int32Array.of(1), 1, 1, 2, false);
  expect(x[1]).toBeCloseTo(Math.cos(angle) - 2 * Math.sin(angle), 14);
  expect(x[2]).toBeCloseTo(2 * Math.cos(angle) + Math.sin(angle), 14);
  kernels.rope(x, 1, 4, cos, sin, Int32Array.of(1), 1, 1, 2, true);
  expect([x[0], x[3]]).toEqual([9, 9]);
  expect(x[1]).toBeCloseTo(1, 14);
});

test('interleaved rope turns the pair (2i, 2i + 1)', () => {
  const angles = [0.3, 1.1];
  const [cos, sin] = [Float64Array.from(angles, Math.cos), Float64Array.from(angles, Math.sin)];
  const x = Float64Array.of(1, 2, 3, 4);
  kernels.ropeInterleaved(x, 0, 4, cos, sin, Int32Array.of(0), 1, 1, 4, false);
  const turned = (a: number, b: number, angle: number) => [
    a * Math.cos(angle) - b * Math.sin(angle),
    b * Math.cos(angle) + a * Math.sin(angle),
  ];
  [...turned(1, 2, 0.3), ...turned(3, 4, 1.1)].forEach((value, i) => expect(x[i]).toBeCloseTo(value, 14));
  kernels.ropeInterleaved(x, 0, 4, cos, sin, Int32Array.of(0), 1, 1, 4, true);
  [1, 2, 3, 4].forEach((value, i) => expect(x[i]).toBeCloseTo(value, 14));
});

test('cross-entropy is -log softmax at the target, ignoring rows without one', () => {
  const logits = Float64Array.of(1, 2, 3, 1000, 0, 0);
  const loss = kernels.crossEntropy(null, logits, Int32Array.of(2, 0), 2, 3, 1);
  expect(loss).toBeCloseTo(Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3)) - 3, 12);
  expect(kernels.crossEntropy(null, logits, Int32Array.of(IGNORE_INDEX, 1), 2, 3, 1)).toBeCloseTo(1000, 10);
});

/** softmax(q·kᵀ·scale)·v by the formula, one output element at a time. */
function naiveAttention(
  q: FloatArray,
  k: FloatArray,
  v: FloatArray,
  start: number,
  shape: AttentionShape,
  [b, t, h]: readonly [number, number, number],
): number[] {
  const { headDim: D, heads, kvHeads, queryStride, keyStride, keyBatchStride, scale, window, queries } = shape;
  const position = start + t;
  const kvHead = Math.floor(h / (heads / kvHeads));
  const weights: number[] = [];
  const first = window > 0 ? Math.max(0, position - window + 1) : 0;
  const row = (j: number) => b * keyBatchStride + j * keyStride + kvHead * D;
  for (let j = first; j <= position; j++) {
    const at = (b * queries + t) * queryStride + h * D;
    weights.push(Math.exp(scale * dot(q.subarray(at), k.subarray(row(j), row(j) + D))));
  }
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return Array.from({ length: D }, (_, i) =>
    weights.reduce((sum, weight, j) => sum + (weight / total) * v[row(first + j) + i], 0),
  );
}

describe('attention equals its formula', () => {
  test.each<[string, number, number, number, number, number, number[]]>([
    ['full', 2, 5, 4, 2, 0, [0, 0]],
    ['behind a cache of unequal lengths', 2, 3, 4, 2, 0, [4, 1]],
    ['one row behind a cache', 2, 1, 4, 2, 0, [6, 3]],
    ['one row, one kv head', 1, 1, 4, 1, 0, [5]],
    ['a window', 1, 6, 2, 1, 3, [0]],
    ['a window behind a cache', 1, 2, 2, 2, 3, [5]],
    ['one row in a window', 2, 1, 4, 2, 3, [6, 1]],
    ['tiles', 1, 130, 1, 1, 0, [3]],
  ])('%s', (_, batch, queries, heads, kvHeads, window, starts) => {
    const D = 4;
    const capacity = Math.max(...starts) + queries + 2;
    const shape: AttentionShape = {
      ...{ batch, queries, heads, kvHeads, headDim: D, scale: 0.5, window },
      ...{ queryStride: heads * D + 3, keyStride: kvHeads * D + 1, keyBatchStride: capacity * (kvHeads * D + 1) },
    };
    const q = normal(batch * queries * shape.queryStride);
    const [k, v] = [normal(batch * shape.keyBatchStride), normal(batch * shape.keyBatchStride)];
    const out = new Float64Array(batch * queries * heads * D + 1).fill(7);
    const lengths = Int32Array.from(starts);
    kernels.attention(out, null, q, 0, k, 0, v, 0, lengths, shape);
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < queries; t++) {
        for (let h = 0; h < heads; h++) {
          const wanted = naiveAttention(q, k, v, starts[b], shape, [b, t, h]);
          const at = ((b * queries + t) * heads + h) * D;
          for (let i = 0; i < D; i++) expect(out[at + i]).toBeCloseTo(wanted[i], 12);
        }
      }
    }
    expect(out[out.length - 1]).toBe(7);
  });
});

describe('the router', () => {
  function route(logits: number[], E: number, K: number, renormalise = true) {
    const N = logits.length / E;
    const [probabilities, weights, experts] = [new Float64Array(N * E), new Float64Array(N * K), new Int32Array(N * K)];
    kernels.router(probabilities, weights, experts, Float64Array.from(logits), N, {
      numExperts: E,
      topK: K,
      renormalise,
    });
    return { probabilities, weights, experts };
  }

  test('takes the largest, of equals the lowest index, in falling order', () => {
    expect([...route([1, 5, 5, 2], 4, 3).experts]).toEqual([1, 2, 3]);
    expect([...route([0, 0, 0, 0], 4, 2).experts]).toEqual([0, 1]);
  });

  test('weights are probabilities, divided by their sum where asked', () => {
    const { weights, probabilities } = route([0, Math.log(3), Math.log(4)], 3, 2);
    expect(probabilities[2]).toBeCloseTo(0.5, 14);
    expect([...weights].map((weight) => weight.toFixed(12))).toEqual([(4 / 7).toFixed(12), (3 / 7).toFixed(12)]);
    expect(route([0, Math.log(3), Math.log(4)], 3, 2, false).weights[1]).toBeCloseTo(3 / 8, 14);
  });

  test('NaN logits give experts that exist, each once', () => {
    const { experts } = route([Number.NaN, 1, Number.NaN], 3, 2);
    expect(new Set(experts).size).toBe(2);
    for (const e of experts) expect(e >= 0 && e < 3).toBe(true);
  });

  test('a bias changes the choice, not the weights', () => {
    const probabilities = Float64Array.of(0.5, 0.25, 0.125, 0.125, 0.5, 0.25);
    const [weights, experts] = [new Float64Array(4), new Int32Array(4)];
    const options = { numExperts: 3, topK: 2, renormalise: false };
    kernels.chooseExperts(weights, experts, probabilities, Float64Array.of(-0.5, 0, 0.125), 2, options);
    expect([...experts]).toEqual([1, 2, 1, 2]); // 0, 0.25, 0.25 (a tie: the lower index) and -0.375, 0.5, 0.375
    expect([...weights]).toEqual([0.25, 0.125, 0.5, 0.25]);
    kernels.chooseExperts(weights, experts, probabilities, new Float64Array(3), 2, { ...options, renormalise: true });
    expect([...experts]).toEqual([0, 1, 1, 2]);
    expect([...weights]).toEqual([2 / 3, 1 / 3, 2 / 3, 1 / 3]);
  });

  test('a bias of zero chooses as the router does', () => {
    const logits = normal(40 * 6);
    const options = { numExperts: 6, topK: 3, renormalise: true };
    const plain = route([...logits], 6, 3);
    const [weights, experts] = [new Float64Array(120), new Int32Array(120)];
    kernels.chooseExperts(weights, experts, plain.probabilities, new Float64Array(6), 40, options);
    expect(experts).toEqual(plain.experts);
    expect(weights).toEqual(plain.weights);
  });

  test('weights are divided by a floor where their sum is below', () => {
    const options = { numExperts: 3, topK: 2, renormalise: true, smallestSum: 0.9 };
    const [probabilities, weights, experts] = [new Float64Array(6), new Float64Array(4), new Int32Array(4)];
    // probabilities 1/8, 3/8, 4/8, of which 7/8 are chosen, and next to 0, 1/2, 1/2
    const logits = Float64Array.of(0, Math.log(3), Math.log(4), -50, 0, 0);
    kernels.router(probabilities, weights, experts, logits, 2, options);
    [0.5 / 0.9, 0.375 / 0.9, 0.5, 0.5].forEach((value, i) => expect(weights[i]).toBeCloseTo(value, 12));
  });

  test('sparsemixer takes the best and the next best, each with its share among those near it', () => {
    const [probabilities, weights, experts] = [new Float64Array(5), new Float64Array(2), new Int32Array(2)];
    // near 2 within 20 %: 1.7, as (2 - 1.7) / 2 = 0.15; near 1.7 without 2: 1.5, as 0.2 / 1.7 = 0.118
    const logits = Float64Array.of(1.5, 2, -3, 1.7, 0);
    kernels.sparseMixer(probabilities, weights, experts, logits, 1, { numExperts: 5, jitter: 0.1 });
    expect([...experts]).toEqual([1, 3]);
    expect(weights[0]).toBeCloseTo(1 / (1 + Math.exp(-0.3)), 12);
    expect(weights[1]).toBeCloseTo(1 / (1 + Math.exp(-0.2)), 12);
    const total = [...logits].reduce((sum, logit) => sum + Math.exp(logit), 0);
    expect(probabilities[3]).toBeCloseTo(Math.exp(1.7) / total, 12);
  });

  test('sparsemixer measures nearness by the larger of the best and a logit’s size', () => {
    const [probabilities, weights, experts] = [new Float64Array(3), new Float64Array(2), new Int32Array(2)];
    // (-1 + 1.2) / max(1.2, -1) = 0.167; (-1 + 5) / 5 = 0.8
    const logits = Float64Array.of(-1.2, -1, -5);
    kernels.sparseMixer(probabilities, weights, experts, logits, 1, { numExperts: 3, jitter: 0.1 });
    expect([...experts]).toEqual([1, 0]);
    expect(weights[0]).toBeCloseTo(1 / (1 + Math.exp(-0.2)), 12);
    expect(weights[1]).toBe(1);
    kernels.sparseMixer(probabilities, weights, experts, new Float64Array(3), 1, { numExperts: 3, jitter: 0 });
    expect([...experts]).toEqual([0, 1]); // equals: the lowest index first; all are near
    expect(weights[0]).toBeCloseTo(1 / 3, 12);
  });

  test('the z-loss is the sum of squared logsumexp, also where exp overflows', () => {
    const logits = Float64Array.of(0, Math.log(3), 900, 900);
    const wanted = Math.log(4) ** 2 + (900 + Math.LN2) ** 2;
    expect(kernels.zLoss(null, logits, 2, 2, 0) / wanted).toBeCloseTo(1, 14);
  });

  test('dispatch sorts by expert and keeps the order of tokens', () => {
    const routing = {
      experts: Int32Array.of(2, 0, 0, 2, 3, 2),
      weights: new Float64Array(6),
      offsets: new Int32Array(5).fill(99),
      rows: new Int32Array(6),
      slots: new Int32Array(6),
    };
    kernels.dispatch(routing, 3, { numExperts: 4, topK: 2, renormalise: true });
    expect([...routing.offsets]).toEqual([0, 2, 2, 5, 6]);
    expect([...routing.rows]).toEqual([0, 1, 0, 1, 2, 2]);
    expect([...routing.slots]).toEqual([2, 0, 1, 3, 5, 4]);
  });
});

describe('optimizer updates', () => {
  type Update = (p: Float64Array, g: Float64Array, step: number) => void;

  /** Three steps of `update` on two of four elements, gradients 2·p of the scaled problem. */
  function run(update: Update): Float64Array {
    const p = Float64Array.of(9, 1, -2, 9);
    for (let step = 1; step <= 3; step++) {
      const g = p.map((value) => 4 * value);
      update(p, g, step);
      expect([g[1], g[2]], 'the gradient is left zero').toEqual([0, 0]);
      expect(g[0]).toBe(36);
    }
    expect([p[0], p[3]], 'others are untouched').toEqual([9, 9]);
    return p;
  }

  test('AdamW', () => {
    const [m, v] = [new Float64Array(4), new Float64Array(4)];
    const p = run((p, g, step) => kernels.adamw(p, g, m, v, 1, 2, 0.1, 0.9, 0.99, 1e-3, 0.2, step, 0.5));
    let [x, first, second] = [1, 0, 0];
    for (let t = 1; t <= 3; t++) {
      const g = 2 * x;
      x *= 1 - 0.1 * 0.2;
      first = 0.9 * first + 0.1 * g;
      second = 0.99 * second + 0.01 * g * g;
      x -= (0.1 * (first / (1 - 0.9 ** t))) / (Math.sqrt(second / (1 - 0.99 ** t)) + 1e-3);
    }
    expect(p[1]).toBeCloseTo(x, 12);
  });

  test.each([
    [0, false],
    [0.9, false],
    [0.9, true],
  ])('SGD with momentum %d, Nesterov %s', (momentum, nesterov) => {
    const velocity = momentum > 0 ? new Float64Array(4) : null;
    const p = run((p, g, step) => kernels.sgd(p, g, velocity, 1, 2, 0.1, momentum, nesterov, 0.2, step, 0.5));
    let [x, buffer] = [1, 0];
    for (let t = 1; t <= 3; t++) {
      const g = 2 * x + 0.2 * x;
      buffer = t === 1 ? g : momentum * buffer + g;
      const update = momentum === 0 ? g : nesterov ? g + momentum * buffer : buffer;
      x -= 0.1 * update;
    }
    expect(p[1]).toBeCloseTo(x, 12);
  });
});

test('exp is that of the language to a few parts in 10^16, at every size, and at the edges', () => {
  let worst = 0;
  for (let i = 0; i < 200_000; i++) {
    const x = (i - 100_000) * (i % 3 === 0 ? 1e-6 : i % 3 === 1 ? 1e-4 : 7.4e-3);
    const truth = Math.exp(x);
    if (truth > 0 && truth < Infinity) worst = Math.max(worst, Math.abs(exp(x) / truth - 1));
    else expect(exp(x)).toBe(truth);
  }
  expect(worst).toBeLessThan(5e-16);
  for (const x of [0, -0, Infinity, -Infinity, Number.NaN, 709.7, -745, 1e300]) expect(exp(x)).toBe(Math.exp(x));
});

test('sum of squares', () => {
  for (const length of [0, 1, 3, 4, 9]) {
    const x = normal(length);
    expect(kernels.sumOfSquares(x)).toBeCloseTo(dot(x, x), 12);
  }
});

describe('casts to 16 bits and back', () => {
  const all = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
  const formats: [string, Kernels['toBf16'], Kernels['fromBf16'], number, number][] = [
    ['bf16', kernels.toBf16, kernels.fromBf16, 8, 7],
    ['f16', kernels.toF16, kernels.fromF16, 5, 10],
  ];

  test.each(formats)('%s: every value survives, NaN stays NaN', (_, to, from) => {
    const floats = new Float32Array(all.length);
    from(floats, all);
    const back = new Uint16Array(all.length);
    to(back, floats);
    for (let i = 0; i < all.length; i++) {
      if (Number.isNaN(floats[i])) {
        const again = new Float32Array(1);
        from(again, back.subarray(i, i + 1));
        expect(again[0]).toBeNaN();
      } else if (back[i] !== i) expect.fail(`${i} came back as ${back[i]}`);
    }
  });

  test.each(formats)(
    '%s: halves between neighbours go to the even one, others to the nearer',
    (_, to, from, exponentBits) => {
      const positive = all.subarray(0, ((1 << exponentBits) - 1) << (15 - exponentBits));
      const floats = new Float32Array(positive.length);
      from(floats, positive);
      const out = new Uint16Array(1);
      const cast = (value: number) => {
        to(out, Float32Array.of(value));
        return out[0];
      };
      for (let i = 0; i + 1 < floats.length; i += 7) {
        const middle = (floats[i] + floats[i + 1]) / 2;
        if (Math.fround(middle) !== middle) continue;
        if (cast(middle) !== i + (i % 2)) expect.fail(`the middle above ${i} became ${out[0]}`);
        const below = (floats[i] * 3 + floats[i + 1]) / 4;
        if (Math.fround(below) === below && cast(below) !== i) expect.fail(`a quarter above ${i} became ${out[0]}`);
      }
    },
  );

  test('f16 overflows to Infinity at 65520', () => {
    const out = new Uint16Array(3);
    kernels.toF16(out, Float32Array.of(65504, 65519, 65520));
    expect([...out]).toEqual([0x7bff, 0x7bff, 0x7c00]);
  });
});
