// The options of a training step in whole runs: each resumes to the same bits, changes something, and refuses what is no value.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { shapeFrom } from '../cli/model-shape.ts';
import { resolveOptions } from '../cli/resolve.ts';
import { PRESETS } from '../core/model/presets.ts';
import { planRun } from '../core/training/run.ts';
import type { RunSettings } from '../core/training/settings.ts';
import { referenceServices, smallSettings, traceOf, trainAndResume } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-step-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let nextFolder = 0;
const newFolder = () => join(scratch, `run-${nextFolder++}`);

const plain = newFolder();

describe.each<[string, Partial<RunSettings>]>([
  ['nothing', {}],
  ['accumulation', { accumulate: 3 }],
  ['activation checkpointing with accumulation', { checkpointEvery: 2, accumulate: 2 }],
  ['a router z-loss', { routerZLoss: 0.01 }],
  ['jitter, in two micro-batches', { routerJitter: 0.2, accumulate: 2 }],
  ['full experts', { expertCapacity: 0.8 }],
  ['a selection bias', { routerBias: 0.01 }],
  ['bfloat16', { precision: 'bf16' }],
  ['float16 with two micro-batches', { precision: 'fp16', accumulate: 2 }],
  ['an average of the weights', { ema: 0.9 }],
  ['an average of the weights of an optimizer that has its own', { ema: 0.9, optimizer: 'schedule-free' }],
])('%s', (name, changes) => {
  test('stopped and resumed, gives the bits of a run that is not', { timeout: 60_000 }, async () => {
    const whole = name === 'nothing' ? plain : newFolder();
    await trainAndResume(smallSettings(scratch, changes), whole);
    if (whole !== plain) expect(traceOf(whole).weights.equals(traceOf(plain).weights)).toBe(false);
    const run = newFolder();
    await trainAndResume(smallSettings(scratch, changes), run, 5);
    expect(traceOf(run)).toEqual(traceOf(whole));
  });
});

test('an average of the weights is what is validated, and leaves the steps as they are', async () => {
  const averaged = newFolder();
  await trainAndResume(smallSettings(scratch, { ema: 0.9 }), averaged);
  const losses = (run: string, kind: string) =>
    traceOf(run).metrics.flatMap((record) => (record.kind === kind && 'loss' in record ? [record.loss] : []));
  expect(losses(averaged, 'step')).toEqual(losses(plain, 'step'));
  const [late, last] = losses(averaged, 'evaluation');
  expect(late).not.toBe(losses(plain, 'evaluation')[0]);
  expect(last).not.toBe(losses(plain, 'evaluation')[1]);
});

test('checkpointed activations change no bit of a run', async () => {
  const [kept, recomputed] = [newFolder(), newFolder()];
  await trainAndResume(smallSettings(scratch), kept);
  await trainAndResume(smallSettings(scratch, { checkpointEvery: 1 }), recomputed);
  expect(traceOf(recomputed)).toEqual(traceOf(kept));
});

describe('the plan', () => {
  const planWith = async (changes: Partial<RunSettings>) => {
    using services = referenceServices();
    return planRun(smallSettings(scratch, changes), newFolder(), services);
  };

  test('counts the tokens of all micro-batches, and the activations of one', async () => {
    const [one, three] = [await planWith({}), await planWith({ accumulate: 3 })];
    expect(three.tokensPerStep).toBe(3 * one.tokensPerStep);
    expect(three.flopsPerStep).toBe(3 * one.flopsPerStep);
    expect(three.memory).toEqual(one.memory);
  });

  test('says that checkpointing needs less memory', async () => {
    const [kept, recomputed] = [await planWith({}), await planWith({ checkpointEvery: 1 })];
    expect(recomputed.memory.activations).toBeLessThan(0.8 * kept.memory.activations);
    expect(recomputed.memory.total).toBe(kept.memory.total - kept.memory.activations + recomputed.memory.activations);
  });

  test('counts an average of the weights with the optimizer', async () => {
    const [none, averaged] = [await planWith({}), await planWith({ ema: 0.99 })];
    expect(averaged.memory.optimizer).toBe(none.memory.optimizer + none.memory.weights);
  });

  test('counts the rounded copies of the weights', async () => {
    const [plain, mixed] = [await planWith({}), await planWith({ precision: 'bf16' })];
    const [{ total: all, byPart }, { memory }] = [plain.parameters, mixed];
    const rounded = 4 * (all - byPart.embedding - byPart.head - byPart.norm - byPart.router);
    expect(memory.weights).toBe(plain.memory.weights + rounded);
    expect(memory.total).toBe(plain.memory.total + rounded);
  });

  test('is refused where checkpointing keeps everything', async () => {
    await expect(planWith({ checkpointEvery: 3 })).rejects.toThrow(/checkpointEvery is 3 for a model of 3 layers/);
  });
});

test.each(['routerZLoss', 'routerBias', 'routerJitter', 'expertCapacity'] as const)(
  '%s is refused for a dense model',
  async (name) => {
    const dense = { ...smallSettings(scratch).model, numExperts: 1, topK: 1 };
    using services = referenceServices();
    await expect(planRun(smallSettings(scratch, { model: dense, [name]: 0.5 }), newFolder(), services)).rejects.toThrow(
      new RegExp(`${name} is 0.5, but the model is dense`),
    );
  },
);

test.each<[string, Partial<RunSettings>, RegExp]>([
  ['a loss scale without float16', { lossScale: 128, precision: 'bf16' }, /lossScale is 128, but precision is bf16/],
  ['names to keep where all is kept', { keepF32: ['experts'] }, /keepF32 is experts, but precision is f32/],
  ['a name that no parameter has', { keepF32: ['atention'], precision: 'bf16' }, /no parameter has "atention"/],
])('%s is refused', async (_, changes, message) => {
  using services = referenceServices();
  await expect(planRun(smallSettings(scratch, changes), newFolder(), services)).rejects.toThrow(message);
});

test.each<[string, Partial<RunSettings>, RegExp]>([
  ['a loss scale of zero', { lossScale: 0 }, /lossScale/],
  ['no micro-batch', { accumulate: 0 }, /accumulate/],
  ['half a micro-batch', { accumulate: 1.5 }, /accumulate/],
  ['a negative weight', { routerZLoss: -1 }, /routerZLoss/],
  ['a rate that is NaN', { routerBias: Number.NaN }, /routerBias/],
  ['noise that turns inputs around', { routerJitter: 1 }, /routerJitter/],
  ['an infinite capacity', { expertCapacity: Infinity }, /expertCapacity/],
  ['an average that never moves', { ema: 1 }, /ema/],
  ['a negative segment', { checkpointEvery: -1 }, /checkpointEvery/],
])('%s is refused', (_, changes, message) => {
  expect(() => smallSettings(scratch, changes)).toThrow(message);
});

test.each([
  [{}, 'perLayer'],
  [{ 'aux-loss-reduction': 'pooled' }, 'pooled'],
])('options %j balance %s', async (flags, reduction) => {
  const options = await resolveOptions(['auxLossReduction'], { flags, env: {}, cwd: scratch });
  expect(shapeFrom(options, PRESETS['tiny'].config).auxLossReduction).toBe(reduction);
});
