// gemmoe compare: what it trains, that a trial is the run that `train` would do, its tables, its refusals.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { builtinBackends } from '../backends/index.ts';
import { listedSpecs, parseFactors } from '../cli/compare/lists.ts';
import { comparisonRows, markdownTable } from '../cli/compare/tables.ts';
import { type EntryResult, runTrials } from '../cli/compare/run-trials.ts';
import { learningRateFor, scheduleFor } from '../cli/optimizer-defaults.ts';
import { createGemmoe } from '../core/container.ts';
import { PRESETS } from '../core/model/presets.ts';
import { definePlugin } from '../core/plugin.ts';
import { train } from '../core/training/run.ts';
import type { RunSettings } from '../core/training/settings.ts';
import { runTrial } from '../core/training/trial.ts';
import { builtinPlugins } from '../plugins/index.ts';
import { commandLine } from './support/cli.ts';
import { referenceServices, smallSettings } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-compare-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const text = join(scratch, 'text.txt');
writeFileSync(text, 'It was the best of times, it was the worst of times.\n'.repeat(60));

const services = referenceServices();
const { gemmoe, json } = commandLine(scratch);

const SMALL = [
  ...['compare', '--data', text, '--backend', 'reference', '--preset', 'tiny', '--hidden-size', '16', '--heads', '2'],
  ...['--expert-width', '16', '--sequence-length', '16', '--batch-size', '2', '--steps', '12', '--eval-windows', '4'],
];

const settingsOf = (changes: Partial<RunSettings> = {}) =>
  smallSettings(scratch, { evalInterval: 0, evalWindows: 0, saveInterval: 0, steps: 12, ...changes });

describe('a trial', () => {
  test.each(['adamw', 'schedule-free'])('with %s ends where a run with its settings ends', async (optimizer) => {
    const settings = settingsOf({ optimizer });
    const observer = { planned: () => undefined, record: () => undefined };
    const summary = await train(settings, join(scratch, optimizer), services, observer);
    const seen: number[] = [];
    const result = await runTrial(settings, services, { onStep: (step) => seen.push(step) });
    expect(result.loss).toBe(summary.validation!.loss);
    expect(seen).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
    expect(result.steps).toBe(12);
    expect(result.stateShare).toBe(optimizer === 'adamw' ? 2 : 3);
    expect(result.seconds).toBeGreaterThan(0);
  });

  test('gives the optimizer the momentum that its schedule wants', async () => {
    const lossWith = async (schedule: string) => (await runTrial(settingsOf({ schedule }), services)).loss;
    expect(await lossWith('one-cycle')).not.toBe(await lossWith('one-cycle:cycleMomentum=false'));
    const still = 'one-cycle:baseMomentum=0.9,maxMomentum=0.9'; // that of AdamW itself
    expect(await lossWith(still)).toBe(await lossWith('one-cycle:cycleMomentum=false'));
  });

  test('that diverges has no loss', async () => {
    const result = await runTrial(settingsOf({ learningRate: 1e38, schedule: 'constant' }), services);
    expect(result.loss).toBeNull();
    expect(result.steps).toBeLessThan(12);
  });

  test.each([Number.NaN, -1, Infinity])('refuses a schedule that gives a rate of %d', async (rate) => {
    const broken = { name: 'broken', description: '', create: () => (step: number) => (step < 3 ? 1e-3 : rate) };
    const plugins = [builtinBackends, builtinPlugins, definePlugin({ schedulers: [broken] })];
    using gemmoeWithBroken = createGemmoe({ plugins, backend: 'reference' });
    await expect(runTrial(settingsOf({ schedule: 'broken' }), gemmoeWithBroken)).rejects.toThrow(
      `the schedule broken gives a learning rate of ${rate} at step 3`,
    );
  });

  test('stops at a signal', async () => {
    const abort = new AbortController();
    const trial = runTrial(settingsOf(), services, { signal: abort.signal, onStep: () => abort.abort() });
    await expect(trial).rejects.toThrow(/interrupted at step 2/);
  });
});

describe('gemmoe compare', () => {
  interface Result {
    readonly optimizers?: readonly EntryResult[];
    readonly schedules?: readonly EntryResult[];
  }
  const compare = (...args: string[]) => json<Result>([...SMALL, ...args]);

  test('trains every optimizer and every schedule', async () => {
    const { optimizers = [], schedules = [] } = await compare();
    expect(optimizers.map(({ spec }) => spec)).toEqual(services.optimizers.names());
    expect(schedules.map(({ spec }) => spec)).toEqual(services.schedulers.names());
    for (const { spec, loss } of [...optimizers, ...schedules]) expect(loss, spec).toBeLessThan(5);
    const rates = Object.fromEntries(optimizers.map(({ spec, learningRate }) => [spec, learningRate]));
    const adam = PRESETS['tiny'].recipe.learningRate;
    for (const spec of services.optimizers.names()) {
      expect(rates[spec]).toBe(learningRateFor(spec, services.optimizers, adam));
    }
    expect(rates['muon']).toBeGreaterThan(rates['adamw']);
  });

  test('takes the best rate and the mean of the seeds', async () => {
    const args = ['--optimizers', 'adamw', '--rates', '0.01,1', '--seeds', '2'];
    const { optimizers = [], schedules } = await compare(...args);
    expect(schedules).toBeUndefined();
    expect(optimizers.length).toBe(1);
    const [{ learningRate, losses, loss, tried }] = optimizers;
    expect(learningRate).toBe(0.003);
    expect(tried.map((one) => Number(one.learningRate.toPrecision(6)))).toEqual([3e-5, 3e-3]);
    expect(losses.length).toBe(2);
    expect(losses[0]).not.toBe(losses[1]);
    expect(loss).toBeCloseTo((losses[0]! + losses[1]!) / 2, 12);
    expect(tried[0].loss).toBeGreaterThan(loss!);
  });

  test('a schedule is compared with the optimizer that is named', async () => {
    const { schedules = [] } = await compare('--schedules', 'constant;wsd', '--optimizer', 'sgd');
    expect(schedules.map(({ spec }) => spec)).toEqual(['constant', 'wsd']);
    expect(schedules[0].stateShare).toBe(0);
  });

  test('stopped, it prints what is finished', async () => {
    const abort = new AbortController();
    const settings = settingsOf({ evalWindows: 2 });
    const plan = {
      entries: ['constant', 'linear', 'wsd'].map((schedule) => ({
        ...{ spec: schedule, description: '', settings: { ...settings, schedule } },
      })),
      ...{ seeds: 2, factors: [1], signal: abort.signal, onTrial: () => undefined },
      onStep: (text: string) => text.startsWith('3/6') && abort.abort(),
    };
    const results = await runTrials(plan, services);
    expect(results.map((result) => result?.losses.length ?? null)).toEqual([1, 1, null]);
  });

  test('prints a table, also as Markdown', async () => {
    const plain = await gemmoe([...SMALL, '--schedules', 'constant']);
    expect(plain.code).toBe(0);
    expect(plain.out).toMatch(/schedule +loss +rate +ms\/step/);
    expect(plain.err).toMatch(/1\/1 {2}constant {2}rate 0\.003 {2}seed 1 {2}loss \d/);
    const { out } = await gemmoe([...SMALL, '--schedules', 'constant', '--markdown']);
    expect(out).toMatch(/\| schedule \| loss \| rate \|.*\n\|---\|.*\n\| constant \| \d\.\d{3} \| 0\.003 \|/);
  });

  test.each([
    [['--optimizers', 'adamx'], /no optimizer named "adamx"/],
    [['--optimizers', ';'], /no optimizer is named/],
    [['--schedules', 'wsd:floor=2'], /wsd: floor/],
    [['--optimizers', 'muon:beta1=1'], /muon has no option "beta1"/],
    [['--rates', '1,-2'], /--rates: "-2" is no positive number/],
    [['--seeds', '0'], /seeds/],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await gemmoe([...SMALL, ...args]);
    expect(err).toMatch(message);
    expect(code).toBe(2);
  });
});

describe('gemmoe plugins NAME', () => {
  test('says what each option means', async () => {
    const { out, code } = await gemmoe(['plugins', 'muon']);
    expect(code).toBe(0);
    expect(out).toMatch(/^muon, of the optimizers: orthogonalised/);
    expect(out).toMatch(/\n {2}momentumWarmup=0 +steps over which the momentum rises from 0\.85\n/);
    expect(out).toMatch(/\n {2}by \(muon\|adamw\) +who updates a group/);
    const listed = await json<Record<string, { name: string }[]>>(['plugins', 'wsd']);
    expect(listed['schedulers'].map(({ name }) => name)).toEqual(['wsd']);
    expect(listed['optimizers']).toEqual([]);
  });

  test('refuses an unknown name with the nearest', async () => {
    const { err, code } = await gemmoe(['plugins', 'mun']);
    expect(code).toBe(2);
    expect(err).toMatch(/no plugin named "mun"[\s\S]*did you mean "muon"/);
  });

  test.each([...services.optimizers.all(), ...services.schedulers.all()])(
    '$name explains all of its options',
    (one) => {
      for (const [key, schema] of Object.entries(one.options?.shape ?? {})) {
        expect((schema as { description?: string }).description, key).toMatch(/\w+/);
      }
    },
  );
});

test('a plan says which optimizer, schedule and rate it is for', async () => {
  const train = ['train', ...SMALL.slice(1, -2), '--dry-run', '--optimizer', 'lion'];
  const { out } = await gemmoe(train);
  expect(out).toMatch(/recipe +lion, warmup-cosine, learning rate 0\.0009\n/);
  const { recipe } = await json<{ recipe: unknown }>([...train, '--schedule', 'wsd', '--learning-rate', '0.5']);
  expect(recipe).toEqual({ optimizer: 'lion', schedule: 'wsd', learningRate: 0.5 });
});

describe('its parts', () => {
  test('lists', () => {
    expect(listedSpecs(' adamw; sgd:momentum=0.9,nesterov=true;adamw', services.optimizers)).toEqual([
      'adamw',
      'sgd:momentum=0.9,nesterov=true',
    ]);
    expect(listedSpecs('muon:beta2=0.9;all', services.optimizers)).toEqual([
      'muon:beta2=0.9',
      ...services.optimizers.names(),
    ]);
    expect(parseFactors('0.5, 1,2e0')).toEqual([0.5, 1, 2]);
    for (const bad of ['', '0', 'NaN', '1,,2', 'Infinity'])
      expect(() => parseFactors(bad)).toThrow(/no positive number/);
  });

  test('an optimizer brings its own rate and schedule', () => {
    expect(learningRateFor('adamw', services.optimizers, 0.004)).toBe(0.004);
    expect(learningRateFor('muon:scale=match-rms', services.optimizers, 0.004)).not.toBe(
      learningRateFor('muon', services.optimizers, 0.004),
    );
    expect(scheduleFor('adamw', services.optimizers)).toBe('warmup-cosine');
    expect(scheduleFor('schedule-free:beta1=0.95', services.optimizers)).toBe('constant:warmupFraction=0.1');
    for (const { name, schedule } of services.optimizers.all()) {
      if (schedule !== undefined) expect(() => scheduleFor(name, services.optimizers)).not.toThrow();
    }
  });

  test('rows show spread, divergence and the best of several rates', () => {
    const one: EntryResult = {
      ...{ spec: 'a:x=1|2', description: 'first', learningRate: 0.00400000001, loss: 1.5, losses: [1.4, 1.6] },
      ...{ seconds: 2, stepMilliseconds: 3.14159, stateShare: 1.006, tried: [{ learningRate: 0.004, loss: 1.5 }] },
    };
    const lost = { ...one, spec: 'b', loss: null, losses: [null, 1], tried: [...one.tried, ...one.tried] };
    const rows = comparisonRows('optimizer', [one, lost]);
    expect(rows[0]).toContain('best rate');
    expect(rows[1].slice(0, 6)).toEqual(['a:x=1|2', '1.500 ±0.100', '0.004', '3.1', '2.0', '1.01']);
    expect(rows[2][1]).toBe('diverged');
    expect(markdownTable(rows)[2]).toContain('| a:x=1\\|2 |');
  });
});
