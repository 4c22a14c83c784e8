// Mixed precision: which products run on 16-bit operands, that they do, and what happens when float16 overflows.

import { describe, expect, test } from 'vitest';
import { parseOptions } from '../core/config.ts';
import { bindKernels, type Kernels, type ProductKernels } from '../core/kernels.ts';
import type { ModelConfig } from '../core/model/config.ts';
import { type HalfFormat, MixedPrecision } from '../core/model/mixed-precision.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { roundedProducts } from '../core/ops/rounded-products.ts';
import type { Optimizer, OptimizerStep } from '../core/plugin.ts';
import { Random } from '../core/random.ts';
import type { FloatArray } from '../core/tensor/dtype.ts';
import { LossScaler } from '../core/training/loss-scale.ts';
import { Trainer, type TrainerOptions } from '../core/training/trainer.ts';
import { adamw } from '../plugins/optimizers/adamw.ts';
import { normal } from './support/differences.ts';
import { backendNamed, referenceKernels, USABLE_BACKENDS } from './support/kernels.ts';

const kernels = referenceKernels();
const FORMATS: HalfFormat[] = ['bf16', 'fp16'];

/** Rounded by way of 16 bits: what rounding in one pass must equal. */
function roundedBy16Bits(x: FloatArray, format: HalfFormat): Float32Array {
  const [half, out] = [new Uint16Array(x.length), new Float32Array(x.length)];
  if (format === 'bf16') {
    kernels.toBf16(half, x);
    kernels.fromBf16(out, half);
  } else {
    kernels.toF16(half, x);
    kernels.fromF16(out, half);
  }
  return out;
}

const roundWith = (format: HalfFormat) => (format === 'bf16' ? kernels.roundToBf16 : kernels.roundToF16);

describe.each(FORMATS)('rounding to %s', (format) => {
  const bits = new Uint32Array(1 << 12);
  for (let i = 0; i < bits.length; i++) bits[i] = Math.imul(i, 0x9e3779b1) >>> 0;
  const edges = [0, -0, 1, 65504, 65519, 65519.99, 65520, -65520, 2 ** -14, 2 ** -24, 2 ** -25, 3 * 2 ** -25, Infinity];
  const values = Float32Array.from([...edges, -Infinity, NaN, 1 + 2 ** -8, 1 + 3 * 2 ** -9, 1 + 2 ** -11, 3.3e38]);

  test.each([
    ['any bits', new Float32Array(bits.buffer)],
    ['edges', values],
  ])('is that of 16 bits and back: %s', (_, x) => {
    const out = new Float32Array(x.length + 2).fill(7);
    roundWith(format)(out, x, x.length);
    expect([...out.subarray(x.length)]).toEqual([7, 7]);
    expect(out.subarray(0, x.length)).toEqual(roundedBy16Bits(x, format));
    const inPlace = x.slice();
    roundWith(format)(inPlace, inPlace, x.length);
    expect(inPlace).toEqual(out.subarray(0, x.length));
  });
});

const [N, I, O] = [5, 7, 3];
const f32 = (values: Float64Array) => Float32Array.from(values);

describe.each(USABLE_BACKENDS)('products on %s', (name) => {
  const own = bindKernels(backendNamed(name));

  test.each(FORMATS)('of a linear layer are those of operands rounded to %s', (format) => {
    const products = roundedProducts(own, roundWith(format));
    const [x, w, dy] = [f32(normal(N * I)), roundedBy16Bits(f32(normal(O * I)), format), f32(normal(N * O))];
    const [rx, rdy] = [roundedBy16Bits(x, format), roundedBy16Bits(dy, format)];
    const run = (set: ProductKernels, rows: Float32Array, gradients: Float32Array) => {
      const [y, dx, dw] = [new Float32Array(N * O), new Float32Array(N * I), new Float32Array(O * I)];
      set.linear(y, rows, w, null, N, I, O, false);
      set.linearBackward(dx, dw, null, gradients, rows, w, N, I, O, false);
      return [y, dx, dw];
    };
    const kept = x.slice();
    const rounded = run(products, x, dy);
    expect(rounded).toEqual(run(own, rx, rdy));
    expect(rounded).not.toEqual(run(own, x, dy));
    expect(x).toEqual(kept);
  });
});

test('experts multiply rows, activations and gradients that are rounded', () => {
  const [E, K, C, F] = [3, 2, 4, 5];
  const shape = { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F };
  const options = { numExperts: E, topK: K, renormalise: true };
  const routing = {
    experts: new Int32Array(N * K),
    weights: new Float32Array(N * K),
    offsets: new Int32Array(E + 1),
    rows: new Int32Array(N * K),
    slots: new Int32Array(N * K),
  };
  kernels.router(new Float32Array(N * E), routing.weights, routing.experts, f32(normal(N * E)), N, options);
  kernels.dispatch(routing, N, options);
  const buffers = () => ({
    gathered: new Float32Array(N * K * C),
    gateUp: new Float32Array(N * K * 2 * F),
    hidden: new Float32Array(N * K * F),
    output: new Float32Array(N * K * C),
  });
  const [wGateUp, wDown] = [
    roundedBy16Bits(f32(normal(E * 2 * F * C)), 'bf16'),
    roundedBy16Bits(f32(normal(E * C * F)), 'bf16'),
  ];
  // every operand of a product must be its own rounding
  const checked: Kernels = {
    ...kernels,
    groupedLinear(y, x, w, offsets, experts, inputs, outputs) {
      for (const operand of [x, w]) expect(operand).toEqual(roundedBy16Bits(operand, 'bf16'));
      kernels.groupedLinear(y, x, w, offsets, experts, inputs, outputs);
    },
    groupedLinearBackward(dx, dw, dy, x, w, offsets, experts, inputs, outputs) {
      for (const operand of [dy, x, w]) expect(operand).toEqual(roundedBy16Bits(operand, 'bf16'));
      kernels.groupedLinearBackward(dx, dw, dy, x, w, offsets, experts, inputs, outputs);
    },
  };
  const products = roundedProducts(checked, kernels.roundToBf16);
  const [x, dy, saved] = [f32(normal(N * C)), f32(normal(N * C)), buffers()];
  const y = new Float32Array(N * C);
  products.experts(y, saved, x, wGateUp, wDown, routing, shape);
  const [dx, dWeights] = [new Float32Array(N * C), new Float32Array(N * K)];
  const [dGateUp, dDown] = [new Float32Array(wGateUp.length), new Float32Array(wDown.length)];
  products.expertsBackward(dx, dWeights, dGateUp, dDown, buffers(), dy, saved, wGateUp, wDown, routing, shape);
  const plain = new Float32Array(N * C);
  kernels.experts(plain, buffers(), x, wGateUp, wDown, routing, shape);
  expect(y).not.toEqual(plain);
  for (let i = 0; i < y.length; i++) expect(y[i]).toBeCloseTo(plain[i], 0);
  expect.assertions(2 * 2 + 2 * 3 + 1 + y.length);
});

const [V, B, T] = [19, 3, 6];
const CONFIG: ModelConfig = {
  ...PRESETS['tiny'].config,
  ...{ vocabSize: V, hiddenSize: 16, numHeads: 2, headDim: 8, expertWidth: 12 },
};

function modelOf(changes: Partial<ModelConfig> = {}): Transformer {
  const model = new Transformer({ ...CONFIG, ...changes }, kernels);
  new Random(7, 'test').fillNormal(model.parameters.data, 0, 0.2, 0);
  return model;
}

function batch(): { ids: Int32Array; targets: Int32Array } {
  const random = new Random(3, 'batch');
  const draw = (step: number) => Int32Array.from({ length: B * T }, (_, i) => random.below(V, step, i));
  return { ids: draw(0), targets: draw(1) };
}

/** Names of the weights that a training pass multiplies in 16 bits. */
function halved(model: Transformer, keep?: string[]): string[] {
  const mixed = new MixedPrecision(model.parameters, kernels, { format: 'bf16', ...(keep && { keep }) });
  const { ids, targets } = batch();
  const asked: string[] = [];
  const of = mixed.of.bind(mixed);
  mixed.of = (weight) => {
    const product = of(weight);
    if (product) asked.push(weight.name);
    return product;
  };
  model.forwardBackward(ids, targets, B, T, { mixed });
  return [...new Set(asked)].sort();
}

describe('what stays in float32', () => {
  const layer = (l: number) => [`layers.${l}.attention.output`, `layers.${l}.attention.qkv`];
  const experts = (l: number) => [`layers.${l}.experts.down`, `layers.${l}.experts.gate_up`];

  test('are norms, routers and the head by default', () => {
    expect(halved(modelOf())).toEqual([...layer(0), ...experts(0), ...layer(1), ...experts(1)]);
  });

  test('is what is named', () => {
    expect(halved(modelOf(), ['layers.0.', 'experts', 'router', 'lm_head'])).toEqual(layer(1));
    expect(halved(modelOf(), ['layers.', 'router'])).toEqual(['head']);
    expect(halved(modelOf({ tieEmbeddings: true }), ['layers.'])).toEqual(['embedding']);
    expect(halved(modelOf({ tieEmbeddings: true }), ['layers.', 'lm_head'])).toEqual([]);
    expect(halved(modelOf(), ['layers.1', 'attention', 'experts', 'head'])).toEqual(['layers.0.router']);
  });

  test('must be names that there are', () => {
    expect(() => halved(modelOf(), ['attenton'])).toThrow(/no parameter has "attenton" in its name.*float32/);
  });
});

describe('products that a backend rounds itself', () => {
  const calls: string[] = [];
  const native: ProductKernels = {
    linear: (...args) => void (calls.push('linear'), kernels.linear(...args)),
    linearBackward: (...args) => void (calls.push('linearBackward'), kernels.linearBackward(...args)),
    experts: (...args) => void (calls.push('experts'), kernels.experts(...args)),
    expertsBackward: (...args) => void (calls.push('expertsBackward'), kernels.expertsBackward(...args)),
  };
  const { ids, targets } = batch();

  test('get the weights as they are, for bf16', () => {
    const [model, plain] = [modelOf(), modelOf()];
    const mixed = new MixedPrecision(model.parameters, kernels, { format: 'bf16', native });
    model.forwardBackward(ids, targets, B, T, { mixed });
    plain.forwardBackward(ids, targets, B, T);
    expect(model.parameters.gradient).toEqual(plain.parameters.gradient);
    expect(calls.filter((name) => name === 'linear').length).toBe(2 * 2);
    expect(calls.filter((name) => name === 'expertsBackward').length).toBe(2);
    expect(mixed.bytesFor(model.parameters, false)).toBe(0);
  });

  test('are not used for fp16', () => {
    calls.length = 0;
    const model = modelOf();
    const mixed = new MixedPrecision(model.parameters, kernels, { format: 'fp16', native });
    model.forwardBackward(ids, targets, B, T, { mixed });
    expect(calls).toEqual([]);
  });
});

test('the bytes of rounded copies are those of the weights that get one', () => {
  const model = modelOf();
  const mixed = new MixedPrecision(model.parameters, kernels, { format: 'bf16' });
  const { attention, expert } = { attention: 2 * (16 * 16 * 2 + 2 * 16 * 8), expert: 2 * 4 * 3 * 16 * 12 };
  expect(mixed.bytesFor(model.parameters, false)).toBe(4 * (attention + expert));
});

function trainerOf(model: Transformer, options: TrainerOptions, rate = 1e-2): Trainer {
  const optimizer = adamw.create(parseOptions(adamw, {}), { store: model.parameters, kernels });
  return new Trainer(model, optimizer, () => rate, options);
}

function lossesOf(options: TrainerOptions, steps: number): number[] {
  const trainer = trainerOf(modelOf(), options);
  const { ids, targets } = batch();
  return Array.from({ length: steps }, () => trainer.step(ids, targets, B, T).loss);
}

describe.each(FORMATS)('training in %s', (format) => {
  const precision = { format };

  test('follows float32 closely, and is not it', () => {
    const [wanted, found] = [lossesOf({}, 20), lossesOf({ precision }, 20)];
    expect(found[0]).not.toBe(wanted[0]);
    expect(wanted[19]).toBeLessThan(0.75 * wanted[0]);
    for (const [i, loss] of found.entries()) expect(Math.abs(loss / wanted[i] - 1)).toBeLessThan(0.01);
  });

  test('moves weights that rounding would not let move: their master copies are float32', () => {
    const model = modelOf();
    const weight = model.parameters.get('layers.0.attention.qkv');
    const before = weight.data.slice();
    const { ids, targets } = batch();
    const trainer = trainerOf(model, { precision }, 1e-6);
    for (let step = 0; step < 20; step++) trainer.step(ids, targets, B, T);
    const moved = weight.data.filter((value, i) => value !== before[i]).length;
    const roundedMoved = roundedBy16Bits(weight.data, format).filter(
      (value, i) => value !== roundedBy16Bits(before, format)[i],
    ).length;
    expect(moved).toBeGreaterThan(0.9 * before.length);
    expect(roundedMoved).toBeLessThan(0.5 * before.length);
  });

  test('uses the weights of the step before, rounded anew', () => {
    const { ids, targets } = batch();
    const [one, two] = [modelOf(), modelOf()];
    const trainer = trainerOf(one, { precision });
    trainer.step(ids, targets, B, T);
    two.parameters.data.set(one.parameters.data);
    // a new trainer rounds what it finds
    expect(trainer.step(ids, targets, B, T).loss).toBe(trainerOf(two, { precision }).step(ids, targets, B, T).loss);
  });

  test('evaluates in float32', () => {
    const { ids, targets } = batch();
    const model = modelOf();
    const before = model.evaluate(ids, targets, B, T);
    const data = model.parameters.data.slice();
    trainerOf(model, { precision }).step(ids, targets, B, T);
    model.parameters.data.set(data);
    expect(model.evaluate(ids, targets, B, T)).toEqual(before);
  });
});

describe('float16', () => {
  const precision = { format: 'fp16' } as const;
  const { ids, targets } = batch();

  /** A head so large that the gradient that comes from it leaves float16's range when the loss is scaled by 65536. */
  function steepModel(): Transformer {
    const model = modelOf();
    const head = model.parameters.get('head').data;
    for (let i = 0; i < head.length; i++) head[i] *= 40;
    return model;
  }

  test('keeps small gradients by scaling the loss', () => {
    /** Largest error of a gradient of about 1e-7 against float32's, relative to the largest gradient. */
    const errorWith = (scale: number) => {
      const [model, wanted] = [modelOf(), modelOf()];
      const small = 1e-6;
      const mixed = new MixedPrecision(model.parameters, kernels, precision);
      model.forwardBackward(ids, targets, B, T, { mixed, tokenScale: scale * small, auxScale: 0 });
      wanted.forwardBackward(ids, targets, B, T, { tokenScale: small, auxScale: 0 });
      const { offset, gradient } = wanted.parameters.get('layers.0.attention.qkv');
      const found = model.parameters.gradient.subarray(offset, offset + gradient.length);
      const largest = Math.max(...gradient.map(Math.abs));
      return Math.max(...gradient.map((value, i) => Math.abs(found[i] / scale - value))) / largest;
    };
    expect(errorWith(1)).toBeGreaterThan(0.1);
    expect(errorWith(65536)).toBeLessThan(0.01);
  });

  test('that overflows skips the step, halves the scale and counts, until it fits', () => {
    const model = steepModel();
    const seen: OptimizerStep[] = [];
    const optimizer: Optimizer = {
      step: (step) => void (seen.push(step), model.parameters.gradient.fill(0)),
      state: () => new Map(),
    };
    const trainer = new Trainer(model, optimizer, () => 1e-3, { precision });
    const steps = Array.from({ length: 12 }, () => trainer.step(ids, targets, B, T));
    const overflows = steps.filter(({ skipped }) => skipped).length;
    expect(overflows).toBeGreaterThan(0);
    expect(overflows).toBeLessThan(12);
    for (const [i, { skipped, lossScale, gradientNorm, step }] of steps.entries()) {
      expect(step).toBe(i + 1);
      expect(skipped).toBe(i < overflows);
      expect(lossScale).toBe(65536 / 2 ** Math.min(i, overflows));
      expect(Number.isFinite(gradientNorm)).toBe(!skipped);
    }
    expect(trainer.state).toEqual({
      skipped: overflows,
      lossScale: { scale: 65536 / 2 ** overflows, goodSteps: 12 - overflows, badSteps: 0 },
    });
    // the optimizer's own count has no gap, and its gradients are those of the loss itself
    expect(seen.map(({ step }) => step)).toEqual(Array.from({ length: 12 - overflows }, (_, i) => i + 1));
    expect(seen[0].gradientScale).toBe(2 ** overflows / 65536);
  });

  test('that overflows leaves weights, biases and optimizer as they were', () => {
    const model = steepModel();
    const trainer = trainerOf(model, { precision, biasRate: 0.1 });
    const before = model.parameters.data.slice();
    expect(trainer.step(ids, targets, B, T).skipped).toBe(true);
    expect(model.parameters.data).toEqual(before);
    expect(model.parameters.gradient.every((value) => value === 0)).toBe(true);
  });

  test('goes on from a checkpoint with its scale, to the same bits', () => {
    const run = (stopAfter?: number) => {
      const model = steepModel();
      const optimizer = adamw.create(parseOptions(adamw, {}), { store: model.parameters, kernels });
      let trainer = new Trainer(model, optimizer, () => 1e-3, { precision });
      for (let step = 1; step <= 12; step++) {
        trainer.step(ids, targets, B, T);
        if (step === stopAfter) {
          trainer = new Trainer(model, optimizer, () => 1e-3, { precision, step, state: trainer.state });
        }
      }
      return { data: model.parameters.data, state: trainer.state };
    };
    const whole = run();
    for (const stopAfter of [1, 2, 6]) expect(run(stopAfter)).toEqual(whole);
  });

  test('whose activations overflow is an error when no scale helps', () => {
    const model = modelOf();
    const weight = model.parameters.get('layers.0.attention.qkv').data;
    for (let i = 0; i < weight.length; i++) weight[i] = 1e5;
    const trainer = trainerOf(model, { precision });
    const steps = () => {
      for (let step = 0; step < 100; step++) trainer.step(ids, targets, B, T);
    };
    expect(steps).toThrow(/loss scale fell below 2\^-14 at step 31, after 31 overflows/);
    expect(trainer.steps).toBe(30);
  });

  test('with a fixed scale that never fits is an error too', () => {
    const trainer = trainerOf(steepModel(), { precision, lossScale: 2 ** 24 });
    const steps = () => {
      for (let step = 0; step < 100; step++) trainer.step(ids, targets, B, T);
    };
    expect(steps).toThrow(/50 steps in a row overflowed with the loss scaled by 16777216/);
  });

  test('with a fixed scale gives the weights of any other power of two that fits', () => {
    const weights = [1024, 4096].map((lossScale) => {
      const model = modelOf();
      const trainer = trainerOf(model, { precision, lossScale });
      for (let step = 0; step < 3; step++) expect(trainer.step(ids, targets, B, T)).toMatchObject({ lossScale });
      return model.parameters.data;
    });
    for (let i = 0; i < weights[0].length; i++) expect(weights[0][i]).toBeCloseTo(weights[1][i], 2);
  });
});

test('bfloat16 that overflows is divergence, not a skipped step', () => {
  const model = modelOf();
  model.parameters.get('layers.0.attention.qkv').data.fill(3e38);
  const { ids, targets } = batch();
  const trainer = trainerOf(model, { precision: { format: 'bf16' } });
  expect(() => trainer.step(ids, targets, B, T)).toThrow(/diverged at step 1/);
});

describe('a dynamic loss scale', () => {
  test('doubles after 2000 steps without overflow', () => {
    const scaler = new LossScaler('dynamic');
    for (let step = 0; step < 1999; step++) scaler.succeeded();
    expect(scaler.scale).toBe(65536);
    scaler.succeeded();
    expect(scaler.snapshot()).toEqual({ scale: 131072, goodSteps: 0, badSteps: 0 });
    scaler.overflowed(2001);
    expect(scaler.snapshot()).toEqual({ scale: 65536, goodSteps: 0, badSteps: 1 });
    scaler.succeeded();
    expect(scaler.snapshot()).toEqual({ scale: 65536, goodSteps: 1, badSteps: 0 });
  });

  test('that is fixed stays', () => {
    const scaler = new LossScaler(128);
    for (let step = 0; step < 5000; step++) scaler.succeeded();
    scaler.overflowed(5001);
    expect(scaler.scale).toBe(128);
  });
});
