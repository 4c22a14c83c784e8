// What ends a run before its last step, what it passes over, and what it writes on the way.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { Deadline } from '../core/training/deadline.ts';
import { afterValidation, isPatienceOver, NO_VALIDATION } from '../core/training/early-stopping.ts';
import type { RunObserver } from '../core/training/events.ts';
import { readMetrics } from '../core/training/metrics-log.ts';
import { planRun, resume, train } from '../core/training/run.ts';
import { SpikeDetector } from '../core/training/spikes.ts';
import { Trainer } from '../core/training/trainer.ts';
import { referenceServices, smallSettings, traceOf, trainAndResume } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-stopping-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

vi.setConfig({ testTimeout: 60_000 });

const services = referenceServices();
const quiet: RunObserver = { planned() {}, record() {} };
let nextFolder = 0;
const newFolder = () => join(scratch, `run-${nextFolder++}`);

describe('early stopping', () => {
  test('waits for a loss that is lower by more than the least gain', () => {
    let state = NO_VALIDATION;
    const waited = [3, 2.95, 2.5, 2.45, 2.41].map((loss) => (state = afterValidation(state, loss, 0.1)).waited);
    expect(waited).toEqual([0, 1, 0, 1, 2]);
    expect(state.reference).toBe(2.5);
    expect(isPatienceOver(state, 3)).toBe(false);
    expect(isPatienceOver(state, 2)).toBe(true);
    expect(isPatienceOver(state, 0)).toBe(false);
  });

  // no validation gains as much as a million
  const settings = smallSettings(scratch, { steps: 40, evalInterval: 2, patience: 3, minDelta: 1e6 });
  const run = newFolder();

  test('ends a run, which is validated and written', async () => {
    const summary = await train(settings, run, services, quiet);
    expect(summary).toMatchObject({ steps: 8, stoppedBy: 'patience', interrupted: false });
    expect(summary.validation).not.toBeNull();
    expect(traceOf(run).weights.length).toBeGreaterThan(0);
  });

  test('leaves a run that ends at once when it is resumed, and goes on when it may', async () => {
    expect(await resume(run, services, quiet)).toMatchObject({ steps: 8, stoppedBy: 'patience' });
    expect(await resume(run, services, quiet, { patience: 5 })).toMatchObject({ steps: 12, stoppedBy: 'patience' });
    expect(await resume(run, services, quiet, { patience: 0 })).toMatchObject({ steps: 40, stoppedBy: null });
    const whole = newFolder();
    await train({ ...settings, patience: 0 }, whole, services, quiet);
    expect(traceOf(run)).toEqual(traceOf(whole));
  });

  test('counts the same in a run that is stopped in between', async () => {
    const stopped = newFolder();
    expect(await trainAndResume(settings, stopped, 5)).toMatchObject({ steps: 8, stoppedBy: 'patience' });
  });
});

describe('a limit of time', () => {
  /** A clock that is set by hand, milliseconds. */
  const clockAt = () => {
    let time = 1000;
    return { now: () => time, pass: (milliseconds: number) => void (time += milliseconds) };
  };

  test('without one nothing is near', () => {
    const deadline = new Deadline();
    expect(deadline.isNear(1e9, 1, 1e12)).toBe(false);
    expect(deadline.windowsThatFit(1e9, 1)).toBe(0);
    expect(deadline.sampleLimit(1)()).toBe(false);
  });

  test('is near when a step, the validation, the writes and the sample no longer fit', async () => {
    const { now, pass } = clockAt();
    const deadline = new Deadline(100, now);
    deadline.stepTook(1000);
    deadline.saved(1000);
    await deadline.validating(async () => (pass(2000), { windows: 20 })); // 0.1 s a window
    // 1.25 a step, 10 for 100 windows, 3 for writes, 5 for the sample, 3 spare: 22.25 of 100 s
    pass(75_700);
    expect(deadline.isNear(100, 4, 0)).toBe(false);
    pass(100);
    expect(deadline.isNear(100, 4, 0)).toBe(true);
    // 22.2 left, less 5 for the sample, 2 for writes and 1.5 spare: 13.7
    expect(deadline.windowsThatFit(100, 4)).toBe(0);
    expect(deadline.windowsThatFit(200, 4)).toBe(137);
    const isOver = deadline.sampleLimit(2);
    pass(2499);
    expect(isOver()).toBe(false);
    pass(1);
    expect(isOver()).toBe(true);
  });

  test('a slow step is remembered', () => {
    const { now, pass } = clockAt();
    const deadline = new Deadline(100, now);
    deadline.stepTook(40_000);
    deadline.stepTook(10);
    pass(60_000);
    expect(deadline.isNear(0, 1, 0)).toBe(true);
  });

  test('ends a run within it, and the run goes on to the same bits', async () => {
    const settings = smallSettings(scratch, { steps: 250, saveInterval: 50, evalInterval: 100 });
    const whole = newFolder();
    await train(settings, whole, services, quiet);
    const run = newFolder();
    const slow: RunObserver = {
      planned() {},
      record() {
        for (const until = performance.now() + 10; performance.now() < until;);
      },
    };
    const start = performance.now();
    const summary = await train(settings, run, services, slow, { maxSeconds: 1 });
    expect(performance.now() - start).toBeLessThan(4000); // the machine may be busy
    expect(summary).toMatchObject({ stoppedBy: 'time', interrupted: false });
    expect(summary.steps).toBeLessThan(250);
    expect(summary.validation!.windows).toBeGreaterThan(0);
    expect(traceOf(run).weights.length).toBeGreaterThan(0);
    expect((await resume(run, services, quiet)).steps).toBe(250);
    expect(traceOf(run)).toEqual(traceOf(whole));
  });

  test('stands in the plan', async () => {
    const plan = await planRun(smallSettings(scratch), newFolder(), services, { maxSeconds: 90 });
    expect(plan.notes.join()).toMatch(/within 90 seconds/);
  });
});

describe('spikes', () => {
  const calm = (i: number) => 2 + 0.1 * Math.sin(i);

  test('are not looked for among fewer than 64 steps', () => {
    const detector = new SpikeDetector(6);
    for (let i = 0; i < 63; i++) expect(detector.isSpike(calm(i), 1)).toBe(false);
    expect(detector.isSpike(1000, 1)).toBe(false);
  });

  test('lie more than so many deviations above the mean, in the loss or in the norm', () => {
    // ±1 in turns: mean 0, deviation √(64/63)
    const filled = (deviations: number) => {
      const detector = new SpikeDetector(deviations);
      for (let i = 0; i < 64; i++) detector.isSpike(i % 2 ? 1 : -1, i % 2 ? 1 : -1);
      return detector;
    };
    const edge = 3 * Math.sqrt(64 / 63);
    expect(filled(3).isSpike(edge - 1e-9, 0)).toBe(false);
    expect(filled(3).isSpike(edge + 1e-9, 0)).toBe(true);
    expect(filled(3).isSpike(0, edge + 1e-9)).toBe(true);
    expect(filled(3).isSpike(-100, -100)).toBe(false);
  });

  test('enter the window, so that a level that changed for good is accepted', () => {
    const detector = new SpikeDetector(6);
    for (let i = 0; i < 128; i++) detector.isSpike(calm(i), 1);
    const skipped = Array.from({ length: 40 }, (_, i) => detector.isSpike(5 + calm(i), 1));
    expect(skipped[0]).toBe(true);
    expect(skipped.at(-1)).toBe(false);
    expect(detector.count).toBe(skipped.filter(Boolean).length);
  });

  test('go on from what a checkpoint keeps', () => {
    const whole = new SpikeDetector(2);
    let parts = new SpikeDetector(2);
    for (let i = 0; i < 300; i++) {
      const loss = calm(i) + (i % 37 === 0 ? 1 : 0);
      parts = new SpikeDetector(2, JSON.parse(JSON.stringify(parts.snapshot())));
      expect(parts.isSpike(loss, loss)).toBe(whole.isSpike(loss, loss));
    }
    expect(parts.count).toBe(whole.count);
    expect(whole.count).toBeGreaterThan(3);
  });

  test('leave the weights and the optimizer as they were', () => {
    const shape = { hiddenSize: 16, numLayers: 1, numHeads: 2, headDim: 8, expertWidth: 16 };
    const config = { ...PRESETS['tiny'].config, ...shape, vocabSize: 32, maxSequenceLength: 8 };
    const model = new Transformer(config, services.kernels);
    model.initialise(3);
    const steps: number[] = [];
    const sgd = {
      step: ({ step, learningRate }: { step: number; learningRate: number }) => {
        steps.push(step);
        const { data, gradient } = model.parameters;
        for (let i = 0; i < data.length; i++) data[i] -= learningRate * gradient[i];
        gradient.fill(0);
      },
      state: () => new Map(),
    };
    const trainer = new Trainer(model, sgd, () => 0.05, { skipSpikes: 6 });
    const ids = Int32Array.from({ length: 16 }, (_, i) => i % 4);
    const targets = ids.map((id) => (id + 1) % 4);
    for (let i = 0; i < 70; i++) expect(trainer.step(ids, targets, 2, 8).spike).toBe(false);
    const before = model.parameters.data.slice();
    const strange = trainer.step(
      ids,
      targets.map((id) => id + 20),
      2,
      8,
    );
    expect(strange).toMatchObject({ spike: true, skipped: true, step: 71 });
    expect(model.parameters.data).toEqual(before);
    expect(model.parameters.gradient.every((value) => value === 0)).toBe(true);
    expect(trainer.state).toMatchObject({ skipped: 1, spikes: { count: 1 } });
    trainer.step(ids, targets, 2, 8);
    expect(steps.at(-1)).toBe(71); // the 72nd step is the 71st that moves the weights
    expect(model.parameters.data).not.toEqual(before);
  });

  test('are counted in the metrics and in the summary, and a resumed run skips the same ones', async () => {
    // with so few deviations some steps of any run are spikes
    const settings = smallSettings(scratch, { steps: 150, evalInterval: 0, skipSpikes: 1.5, saveInterval: 0 });
    const whole = newFolder();
    const summary = await train(settings, whole, services, quiet);
    const steps = readMetrics(whole).filter((record) => record.kind === 'step');
    expect(summary.spikes).toBeGreaterThan(0);
    expect(summary.skipped).toBe(0);
    expect(steps.filter(({ spike }) => spike).length).toBe(summary.spikes);
    const run = newFolder();
    expect((await trainAndResume(settings, run, 100)).spikes).toBe(summary.spikes);
    expect(traceOf(run)).toEqual(traceOf(whole));
  });
});

describe('samples', () => {
  const prompts = ['the dog ', 'fox'];

  test('are written after every prompt, at intervals and at the end', async () => {
    const run = newFolder();
    const settings = smallSettings(scratch, { samplePrompts: prompts, sampleInterval: 4 });
    const summary = await train(settings, run, services, quiet);
    const samples = readMetrics(run).filter((record) => record.kind === 'sample');
    expect(samples.map(({ step, prompt }) => [step, prompt])).toEqual([
      [4, 'the dog '],
      [4, 'fox'],
      [8, 'the dog '],
      [8, 'fox'],
    ]);
    expect(summary.sample).toBe(`the dog ${samples[2].text}`);
    expect(samples[2].text).not.toBe(samples[3].text);
  });

  test('a prompt that cannot be written or does not fit is refused before the run begins', async () => {
    const folder = newFolder();
    const refused = (prompt: string) =>
      train(smallSettings(scratch, { samplePrompts: [prompt] }), folder, services, quiet);
    await expect(refused('Ω')).rejects.toThrow(/prompt "Ω"/);
    await expect(refused('')).rejects.toThrow(/0 tokens/);
    await expect(refused('the quick brown fox')).rejects.toThrow(/19 tokens.*room for 16/);
    expect(() => readFileSync(join(folder, 'run.json'))).toThrow();
  });
});
