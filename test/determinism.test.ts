// The gates of determinism: a run repeats itself, equals its recorded baseline, and is the same when it was killed and resumed; bit
// for bit, with every optimizer, with accumulation and with an average of the weights.
//
// The baseline holds on every platform where V8 computes Math.exp, Math.log, Math.pow and their like by itself, as it does on all
// (base/ieee754.cc), and where doubles are IEEE 754: the reference backend uses nothing else. It was recorded with Node.js 20 on
// Linux x64; Node.js 22 gives the same. Who changes the order of a sum on purpose records it again: npx vitest run --dir test test/determinism.test.ts -u

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { accelerateBackend } from '../backends/accelerate/accelerate-backend.ts';
import { builtinBackends } from '../backends/index.ts';
import { createGemmoe } from '../core/container.ts';
import { openSafetensors } from '../core/formats/safetensors.ts';
import type { RunObserver } from '../core/training/events.ts';
import { readMetrics } from '../core/training/metrics-log.ts';
import { resume, train } from '../core/training/run.ts';
import type { RunServices } from '../core/training/run-parts.ts';
import type { RunSettings } from '../core/training/settings.ts';
import { builtinPlugins } from '../plugins/index.ts';
import { referenceServices, smallSettings } from './support/runs.ts';

vi.setConfig({ testTimeout: 60_000 });
const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-determinism-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let nextFolder = 0;

/** Trains; with `killedAfter`, dies behind that step and is resumed. The folder. */
async function runOf(settings: RunSettings, services: RunServices, killedAfter?: number): Promise<string> {
  const run = join(scratch, `run-${nextFolder++}`);
  const observer: RunObserver = {
    planned() {},
    record(record) {
      if (record.kind === 'step' && record.step === killedAfter) throw new Error('killed');
    },
  };
  if (killedAfter === undefined) await train(settings, run, services, observer);
  else {
    await expect(train(settings, run, services, observer)).rejects.toThrow('killed');
    await resume(run, services, { planned() {}, record() {} });
  }
  return run;
}

interface Fingerprint {
  /** SHA-256 of loss and gradient norm of every step and the loss of every validation, as doubles. */
  readonly losses: string;
  /** SHA-256 of the tensors of the last weights, by name. */
  readonly weights: string;
}

function fingerprintOf(run: string): Fingerprint {
  const numbers = readMetrics(run).flatMap((record) => {
    if (record.kind === 'step') return [record.loss, record.gradientNorm];
    return record.kind === 'evaluation' ? [record.loss] : [];
  });
  const weights = createHash('sha256');
  const file = openSafetensors(join(run, 'model', 'model.safetensors'));
  for (const name of [...file.tensors.keys()].sort()) {
    const { shape } = file.tensors.get(name)!;
    const values = new Float32Array(shape.reduce((product, side) => product * side, 1));
    file.read(name, values);
    weights.update(name).update(values);
  }
  file.close();
  const losses = createHash('sha256').update(Float64Array.from(numbers));
  return { losses: losses.digest('hex').slice(0, 32), weights: weights.digest('hex').slice(0, 32) };
}

/** Everything at once: a short run whose state is as large as it gets. */
function settingsFor(optimizer: string): RunSettings {
  const average = optimizer === 'schedule-free' ? {} : { ema: 0.75 }; // it has one of its own
  const steps = { steps: 6, saveInterval: 2, evalInterval: 3, batchSize: 1, accumulate: 2 };
  const routing = { routerJitter: 0.01, routerZLoss: 1e-3, routerBias: 1e-3, skipSpikes: 6 };
  return smallSettings(scratch, { optimizer, ...steps, ...routing, ...average });
}

const services = referenceServices();
const optimizers = services.optimizers.names();
const fingerprints = new Map<string, Fingerprint>();

describe('the reference backend', () => {
  test('has every optimizer under these gates', () => expect(optimizers.length).toBeGreaterThanOrEqual(7));

  describe.each(optimizers)('%s', (optimizer) => {
    test('repeats itself', async () => {
      fingerprints.set(optimizer, fingerprintOf(await runOf(settingsFor(optimizer), services)));
      // other services: nothing is carried over within a process
      const again = await runOf(settingsFor(optimizer), referenceServices());
      expect(fingerprintOf(again)).toEqual(fingerprints.get(optimizer));
    });

    test('is the same when it was killed and resumed', async () => {
      const run = await runOf(settingsFor(optimizer), services, 5);
      expect(fingerprintOf(run)).toEqual(fingerprints.get(optimizer));
    });
  });

  test('equals its baseline', async () => {
    const lines = [...fingerprints].map(
      ([optimizer, { losses, weights }]) => `${optimizer}: losses ${losses}, weights ${weights}\n`,
    );
    await expect(lines.join('')).toMatchFileSnapshot('fixtures/determinism/reference.txt');
  });

  test('with another seed is another run', async () => {
    const other = await runOf({ ...settingsFor('adamw'), seed: 6 }, services);
    expect(fingerprintOf(other).losses).not.toBe(fingerprints.get('adamw')!.losses);
    expect(fingerprintOf(other).weights).not.toBe(fingerprints.get('adamw')!.weights);
  });

  test('with another order of the micro-batches is another run: the baseline is that sharp', async () => {
    const other = await runOf({ ...settingsFor('sgd'), batchSize: 2, accumulate: 1, routerJitter: 0 }, services);
    const same = await runOf({ ...settingsFor('sgd'), routerJitter: 0 }, services);
    const firstLoss = (run: string) => {
      const record = readMetrics(run)[0];
      return record.kind === 'step' ? record.loss : NaN;
    };
    expect(firstLoss(other)).toBeCloseTo(firstLoss(same), 5);
    expect(fingerprintOf(other).weights).not.toBe(fingerprintOf(same).weights);
  });
});

const absent = accelerateBackend.unavailable();

describe.skipIf(absent !== undefined)(`accelerate on two threads${absent ? ` (skipped: ${absent})` : ''}`, () => {
  const services = () => createGemmoe({ plugins: [builtinBackends, builtinPlugins], backend: 'accelerate:threads=2' });

  test.each(optimizers)('repeats itself, and is the same when killed and resumed: %s', async (optimizer) => {
    const [first, second] = [services(), services()];
    const settings = { ...settingsFor(optimizer), backend: 'accelerate:threads=2' };
    const expected = fingerprintOf(await runOf(settings, first));
    expect(fingerprintOf(await runOf(settings, second))).toEqual(expected);
    expect(fingerprintOf(await runOf(settings, first, 5))).toEqual(expected);
    first[Symbol.dispose]();
    second[Symbol.dispose]();
  });
});

test('the fingerprint sees one bit of one weight', async () => {
  const run = await runOf(settingsFor('sgd'), services);
  const before = fingerprintOf(run);
  const path = join(run, 'model', 'model.safetensors');
  const file = readFileSync(path);
  file[file.length - 4] ^= 1;
  writeFileSync(path, file);
  expect(fingerprintOf(run)).toEqual({ losses: before.losses, weights: expect.not.stringMatching(before.weights) });
});
