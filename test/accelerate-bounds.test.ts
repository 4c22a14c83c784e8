// Bad arguments of the native addon's kernels: each is refused before native code runs, and nothing is written.

import { describe, expect, test } from 'vitest';
import { accelerateBackend } from '../backends/accelerate/accelerate-backend.ts';
import { addonUnavailable } from '../backends/accelerate/addon.ts';
import { bindKernels, type Kernels } from '../core/kernels.ts';

const absent = addonUnavailable();
if (absent !== undefined) test.skip(`accelerate: ${absent}`, () => {});

const nativeKernels = () => bindKernels(accelerateBackend.create('threads=1'));

describe.skipIf(absent !== undefined)('a call of the addon', () => {
  describe('any argument out of bounds is refused before a kernel runs', () => {
    test.each(CALLS)('$kernel', (call) => {
      const run = nativeKernels()[call.kernel] as (...values: unknown[]) => unknown;
      run(...call.args());
      for (const index of call.args().keys()) {
        for (let how = 0; how < WAYS_TO_SPOIL; how++) expectRefusal(call, run, index, how);
      }
    });
  });

  test('arrays that are too short for a record of sizes are refused', () => {
    const kernels = nativeKernels();
    const choose = ([weights, experts, probabilities, bias]: readonly number[]) =>
      kernels.chooseExperts(f(weights), new Int32Array(experts), f(probabilities), f(bias), 3, ROUTER);
    refuseShorter(choose, [6, 6, 12, 4]);
    const route = ([probabilities, weights, experts, logits]: readonly number[]) =>
      kernels.router(f(probabilities), f(weights), new Int32Array(experts), f(logits), 3, ROUTER);
    refuseShorter(route, [12, 6, 6, 12]);
    const mixer = { numExperts: 4, jitter: 0.1 };
    const mix = ([probabilities, weights, experts, logits]: readonly number[]) =>
      kernels.sparseMixer(f(probabilities), f(weights), new Int32Array(experts), f(logits), 3, mixer);
    refuseShorter(mix, [12, 6, 6, 12]);
    const mixBackward = ([d, dWeights, dProbabilities, probabilities, logits, experts]: readonly number[]) => {
      const chosen = new Int32Array(experts);
      kernels.sparseMixerBackward(f(d), f(dWeights), f(dProbabilities), f(probabilities), f(logits), chosen, 3, mixer);
    };
    refuseShorter(mixBackward, [12, 6, 4, 12, 12, 6]);
    const rates = { learningRate: 0.1, step: 1, decayRate: 0.8, eps1: 1e-8, eps2: 1e-3, clip: 1 };
    const settings = { ...rates, relative: false, weightDecay: 0, gradientScale: 1 };
    const adafactor = ([p, g, row, column]: readonly number[]) =>
      kernels.adafactor(f(p), f(g), f(row), 1, f(column), 2, 1, 3, 4, settings);
    refuseShorter(adafactor, [13, 13, 4, 6]);
  });

  test('an index that leaves its table is refused', () => {
    const kernels = nativeKernels();
    const [y, table] = [new Float32Array(8), new Float32Array(12)];
    expect(() => kernels.embedding(y, table, Int32Array.of(0, 3), 2, 4)).toThrow(RangeError);
    expect(() => kernels.embedding(y, table, Int32Array.of(0, -1), 2, 4)).toThrow(/ids\[1\] is -1, outside 0 to 2/);
    expect(() => kernels.crossEntropy(null, table, Int32Array.of(0, 4, 1), 3, 4, 1)).toThrow(RangeError);
    expect(() => kernels.groupedLinear(y, table, table, Int32Array.of(0, 2, 1), 2, 4, 1)).toThrow(/offsets\[2\]/);
    const mixer = { numExperts: 4, jitter: 0.1 };
    const mix = (experts: Int32Array) => kernels.sparseMixerBackward(y, f(4), null, f(8), f(8), experts, 2, mixer);
    mix(Int32Array.of(0, 3, 1, 2));
    expect(() => mix(Int32Array.of(0, 4, 1, 2))).toThrow(/experts\[1\] is 4, outside 0 to 3/);
    expect(() => mix(Int32Array.of(0, 3, -1, 2))).toThrow(RangeError);
  });
});

// ------------------------------------------------------------ helpers

/** Runs a call on arrays of these lengths, then with each of them in turn one element short, which must be refused. */
function refuseShorter(call: (lengths: readonly number[]) => void, lengths: readonly number[]): void {
  call(lengths);
  for (const short of lengths.keys()) {
    expect(() => call(lengths.map((length, i) => (i === short ? length - 1 : length)))).toThrow(RangeError);
  }
}

interface CallOf {
  readonly kernel: keyof Kernels;
  readonly args: () => unknown[];
  /** Argument whose length is the size of the call: a shorter one is none the worse. */
  readonly sizedBy?: number;
}

function isShorter(bad: ArrayBufferView, good: unknown): boolean {
  return bad.constructor === (good as object).constructor && bad.byteLength < (good as ArrayBufferView).byteLength;
}

const f = (length: number) => new Float32Array(length).fill(0.5);

const ROUTER = { numExperts: 4, topK: 2, renormalise: true };
const ATTENTION = {
  ...{ batch: 1, queries: 2, heads: 1, kvHeads: 1, headDim: 4, scale: 0.5, window: 0 },
  ...{ queryStride: 4, keyStride: 4, keyBatchStride: 8 },
};

/** A good call of each kernel whose arguments are arrays and numbers, with nothing to spare. */
const CALLS: readonly CallOf[] = [
  { kernel: 'linear', args: () => [f(6), f(8), f(12), f(3), 2, 4, 3, false] },
  { kernel: 'linearBackward', args: () => [f(8), f(12), f(3), f(6), f(8), f(12), 2, 4, 3, true] },
  { kernel: 'groupedLinear', args: () => [f(9), f(12), f(24), Int32Array.of(0, 1, 3), 2, 4, 3] },
  { kernel: 'groupedLinearBackward', args: () => [f(12), f(24), f(9), f(12), f(24), Int32Array.of(0, 1, 3), 2, 4, 3] },
  { kernel: 'holdWeights', args: () => [f(24), 2, 3, 4] },
  { kernel: 'embedding', args: () => [f(8), f(12), Int32Array.of(2, 0), 2, 4] },
  { kernel: 'embeddingBackward', args: () => [f(12), f(8), Int32Array.of(2, 0), 2, 4] },
  { kernel: 'add', args: () => [f(5), f(5), 5] },
  { kernel: 'rmsNorm', args: () => [f(8), f(2), f(8), f(4), 2, 4, 1e-5] },
  { kernel: 'rmsNormBackward', args: () => [f(8), f(4), f(8), f(8), f(4), f(2), 2, 4] },
  { kernel: 'rope', args: () => [f(14), 2, 8, f(6), f(6), Int32Array.of(0, 2), 2, 1, 4, false] },
  { kernel: 'ropeInterleaved', args: () => [f(14), 2, 8, f(6), f(6), Int32Array.of(0, 2), 2, 1, 4, false] },
  { kernel: 'scale', args: () => [f(5), f(5), 0.3, 5] },
  { kernel: 'clamp', args: () => [f(5), f(5), 0.3, 5] },
  { kernel: 'clampBackward', args: () => [f(5), f(5), f(5), 0.3, 5] },
  { kernel: 'layerNorm', args: () => [f(8), f(2), f(2), f(8), f(4), f(4), 2, 4, 1e-5] },
  { kernel: 'layerNormBackward', args: () => [f(8), f(4), f(4), f(8), f(8), f(4), f(2), f(2), 2, 4] },
  { kernel: 'softmax', args: () => [f(6), f(6), 2, 3] },
  { kernel: 'swiglu', args: () => [f(6), f(12), 2, 3] },
  { kernel: 'swigluBackward', args: () => [f(12), f(6), f(12), 2, 3] },
  { kernel: 'gather', args: () => [f(8), f(12), Int32Array.of(2, 1), 2, 4] },
  { kernel: 'gatherBackward', args: () => [f(8), f(16), Int32Array.of(0, 1, 2, 3), 2, 2, 4] },
  { kernel: 'combine', args: () => [f(8), f(16), f(4), Int32Array.of(0, 1, 2, 3), 2, 2, 4] },
  { kernel: 'combineBackward', args: () => [f(16), f(4), f(8), f(16), f(4), Int32Array.of(0, 1, 2, 3), 2, 2, 4] },
  {
    kernel: 'routerBackward',
    args: () => [f(12), f(6), f(4), f(12), f(6), Int32Array.of(0, 3, 1, 2, 2, 0), 3, ROUTER],
  },
  { kernel: 'attention', args: () => [f(8), f(2), f(8), 0, f(8), 0, f(8), 0, Int32Array.of(0), ATTENTION] },
  {
    kernel: 'attentionBackward',
    args: () => [f(8), f(8), f(8), f(8), f(8), f(2), f(8), 0, f(8), 0, f(8), 0, ATTENTION],
  },
  { kernel: 'crossEntropy', args: () => [f(6), f(6), Int32Array.of(2, -100), 2, 3, 1] },
  { kernel: 'adamw', args: () => [f(5), f(5), f(5), f(5), 1, 4, 0.1, 0.9, 0.99, 1e-8, 0, 1, 1] },
  { kernel: 'sgd', args: () => [f(5), f(5), f(5), 1, 4, 0.1, 0.9, false, 0, 1, 1] },
  { kernel: 'lion', args: () => [f(5), f(5), f(5), 1, 4, 0.1, 0.9, 0.99, 0, 1] },
  { kernel: 'adam', args: () => [f(5), f(5), f(5), f(5), f(5), 1, 4, 0.1, 0.9, 0.99, 1e-8, 0, 1, 1] },
  {
    kernel: 'scheduleFree',
    args: () => [f(5), f(5), f(5), f(5), f(5), 1, 4, 0.1, 0.9, 0.99, 1e-8, 0, 0.5, 1, 1],
  },
  { kernel: 'muonMomentum', args: () => [f(5), f(5), 1, 4, 0.9, true, 1] },
  { kernel: 'muonUpdate', args: () => [f(5), f(5), 1, 4, 0.1, 0.1, true] },
  { kernel: 'zLoss', args: () => [f(6), f(6), 2, 3, 1] },
  { kernel: 'roundToBf16', args: () => [f(5), f(5), 5] },
  { kernel: 'roundToF16', args: () => [f(5), f(5), 5] },
  { kernel: 'toBf16', args: () => [new Uint16Array(5), f(5)], sizedBy: 1 },
  { kernel: 'fromF16', args: () => [f(5), new Uint16Array(5)], sizedBy: 1 },
];

/** Calls with one argument spoiled, which must be an error of its type or size that leaves the others as they were. */
function expectRefusal(call: CallOf, run: (...values: unknown[]) => unknown, index: number, how: number): void {
  const args = call.args();
  const bad = spoil(args[index], how);
  if (call.sizedBy === index && ArrayBuffer.isView(bad) && isShorter(bad, args[index])) return;
  const before = args.map((value) => (ArrayBuffer.isView(value) ? (value as Float32Array).slice() : value));
  args[index] = bad;
  let error: unknown;
  try {
    run(...args);
  } catch (thrown) {
    error = thrown;
  }
  const what = `argument ${index} = ${describeValue(bad)}: ${String(error)}`;
  expect(error instanceof TypeError || error instanceof RangeError, what).toBe(true);
  for (const [i, value] of args.entries()) if (i !== index) expect(value, what).toEqual(before[i]);
}

/** Values of `how` that differ. */
const WAYS_TO_SPOIL = 7;

/** An argument of the same place that must be refused. */
function spoil(value: unknown, how: number): unknown {
  if (value instanceof Float32Array || value instanceof Int32Array || value instanceof Uint16Array) {
    const ways = [
      () => value.slice(1),
      () => new Float64Array(value.length),
      () => Array.from(value),
      () => 'an array',
      () => detached(value),
      () => (value instanceof Int32Array ? value.map(() => 99) : value.slice(0, 0)),
      () => (value instanceof Int32Array ? value.map(() => -7) : new Int8Array(value.length)),
    ];
    return ways[how % ways.length]();
  }
  if (typeof value === 'boolean') return how % 2 === 0 ? 1 : 'yes';
  // rates may be any number; sizes and offsets are the whole ones above 1
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 2) return how % 2 === 0 ? 'one' : {};
  return [NaN, -1, value + 0.5, 1e9, Infinity, '3', null][how % 7];
}

function detached(value: Float32Array | Int32Array | Uint16Array): unknown {
  const copy = value.slice();
  structuredClone(copy.buffer, { transfer: [copy.buffer] });
  return copy;
}

function describeValue(value: unknown): string {
  return ArrayBuffer.isView(value) ? `${value.constructor.name}(${(value as Float32Array).length})` : String(value);
}
