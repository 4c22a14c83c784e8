// A training run in its folder: what it writes, that it resumes to the same bits, what it refuses.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { builtinBackends } from '../backends/index.ts';
import { createGemmoe } from '../core/container.ts';
import { loadModel } from '../core/formats/hugging-face.ts';
import { openSafetensors } from '../core/formats/safetensors.ts';
import type { ModelConfig } from '../core/model/config.ts';
import { modelDirectoryOf } from '../core/training/checkpoint.ts';
import type { RunObserver, RunPlan, RunRecord } from '../core/training/events.ts';
import { readMetrics } from '../core/training/metrics-log.ts';
import { planRun, resume, train } from '../core/training/run.ts';
import { type RunSettings, RunSettingsSchema } from '../core/training/settings.ts';
import { builtinPlugins } from '../plugins/index.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-run-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const services = createGemmoe({ plugins: [builtinBackends, builtinPlugins], backend: 'reference' });

const MODEL: ModelConfig = {
  vocabSize: 1,
  hiddenSize: 16,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 8,
  numExperts: 4,
  topK: 2,
  expertWidth: 16,
  maxSequenceLength: 16,
  ropeTheta: 10000,
  ropeAlpha: 1,
  normEps: 1e-5,
  tieEmbeddings: false,
  auxLossCoefficient: 0.01,
  auxLossReduction: 'perLayer',
};

const text = join(scratch, 'text.txt');
writeFileSync(text, 'the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n'.repeat(60));

function settingsOf(changes: Partial<RunSettings> = {}): RunSettings {
  return RunSettingsSchema.parse({
    model: MODEL,
    initFrom: null,
    data: [text],
    tokenizer: 'character',
    bpeVocabSize: 300,
    validationFraction: 0.1,
    dataOrder: 'shuffle',
    batchSize: 4,
    sequenceLength: 16,
    steps: 12,
    optimizer: 'adamw',
    schedule: 'warmup-cosine:warmupSteps=3',
    learningRate: 3e-3,
    clipNorm: 1,
    seed: 5,
    evalInterval: 4,
    evalWindows: 3,
    sampleInterval: 6,
    saveInterval: 3,
    keepLast: 2,
    plugins: [],
    backend: 'reference',
    ...changes,
  });
}

/** Remembers what it is told; `after` runs at every record. */
class Recorder implements RunObserver {
  plan: RunPlan | undefined;
  readonly records: RunRecord[] = [];
  private readonly after: (record: RunRecord) => void;
  constructor(after: (record: RunRecord) => void = () => {}) {
    this.after = after;
  }
  planned(plan: RunPlan): void {
    this.plan = plan;
  }
  record(record: RunRecord): void {
    this.records.push(record);
    this.after(record);
  }
}

let nextFolder = 0;
function newFolder(): string {
  return join(scratch, `run-${nextFolder++}`);
}

const weightsOf = (run: string) => readFileSync(join(run, 'model', 'model.safetensors'));

/** Metrics without what depends on the clock. */
function timeless(run: string): unknown[] {
  return readMetrics(run).map((record) => ({ ...record, milliseconds: 0, dataMilliseconds: 0 }));
}

describe('a finished run', () => {
  const run = newFolder();

  test('learns, and leaves a model, metrics and checkpoints', async () => {
    const recorder = new Recorder();
    const summary = await train(settingsOf({ steps: 60, schedule: 'constant' }), run, services, recorder);
    expect(summary.interrupted).toBe(false);
    expect(summary.steps).toBe(60);
    expect(summary.validation!.loss).toBeLessThan(2.6);
    expect(summary.sample!.length).toBeGreaterThan(10);
    expect(readdirSync(summary.modelDirectory).sort()).toEqual(
      expect.arrayContaining(['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json']),
    );
    expect(readMetrics(run).filter(({ kind }) => kind === 'step').length).toBe(60);
    const { best } = JSON.parse(
      readFileSync(join(run, 'checkpoints', 'step-00000060', 'training_state.json'), 'utf8'),
    ) as { best: { step: number } };
    const kept = new Set([best.step, 57, 60]);
    expect(readdirSync(join(run, 'checkpoints')).length).toBeLessThanOrEqual(kept.size + 1);
    expect(recorder.plan!.tokens).toBe(60 * 64);
  });

  test('its expert loads sum to one in every layer', () => {
    for (const record of readMetrics(run)) {
      if (record.kind !== 'step') continue;
      expect(record.expertLoad.length).toBe(2);
      for (const layer of record.expertLoad) expect(layer.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    }
  });

  test('is not overwritten', async () => {
    await expect(train(settingsOf(), run, services, new Recorder())).rejects.toThrow(/not empty/);
  });

  test('can be made longer', async () => {
    const summary = await resume(run, services, new Recorder(), { steps: 63 });
    expect(summary.steps).toBe(63);
    await expect(resume(run, services, new Recorder(), { steps: 5 })).rejects.toThrow(/already taken 63 steps/);
  });
});

describe('a run that is stopped and resumed equals one that is not, bit for bit', () => {
  const whole = newFolder();

  test.each([1, 4, 5, 9, 11])('stopped after step %i', async (stopAfter) => {
    if (!existsSync(whole)) await train(settingsOf(), whole, services, new Recorder());
    const run = newFolder();
    const abort = new AbortController();
    const recorder = new Recorder((record) => {
      if (record.kind === 'step' && record.step === stopAfter) abort.abort();
    });
    const summary = await train(settingsOf(), run, services, recorder, { signal: abort.signal });
    expect(summary.interrupted).toBe(true);
    expect(existsSync(join(run, 'model'))).toBe(false);
    expect(modelDirectoryOf(run)).toContain('step-');
    await resume(run, services, new Recorder());
    expect(weightsOf(run).equals(weightsOf(whole))).toBe(true);
    expect(timeless(run)).toEqual(timeless(whole));
  });

  test('crashed in the middle of a step, with records written behind the checkpoint', async () => {
    const run = newFolder();
    const recorder = new Recorder((record) => {
      if (record.kind === 'step' && record.step === 8) throw new Error('crash');
    });
    await expect(train(settingsOf(), run, services, recorder)).rejects.toThrow('crash');
    await resume(run, services, new Recorder());
    expect(weightsOf(run).equals(weightsOf(whole))).toBe(true);
    expect(timeless(run)).toEqual(timeless(whole));
  });

  test('crashed before its first checkpoint', async () => {
    const run = newFolder();
    const recorder = new Recorder((record) => {
      if (record.kind === 'step' && record.step === 2) throw new Error('crash');
    });
    await expect(train(settingsOf(), run, services, recorder)).rejects.toThrow('crash');
    await resume(run, services, new Recorder());
    expect(weightsOf(run).equals(weightsOf(whole))).toBe(true);
  });
});

describe('what cannot go on is refused', () => {
  test('changed data', async () => {
    const changing = join(scratch, 'changing.txt');
    writeFileSync(changing, readFileSync(text));
    const run = newFolder();
    const abort = new AbortController();
    const recorder = new Recorder((record) => record.kind === 'step' && abort.abort());
    await train(settingsOf({ data: [changing] }), run, services, recorder, { signal: abort.signal });
    writeFileSync(changing, readFileSync(text, 'utf8').replace('quick', 'quack'));
    await expect(resume(run, services, new Recorder())).rejects.toThrow(/data have changed since .*step-00000001/);
  });

  test('a folder that is no run', async () => {
    await expect(resume(scratch, services, new Recorder())).rejects.toThrow(/not a run folder/);
  });

  test('sequences longer than the model reads', async () => {
    const run = newFolder();
    await expect(train(settingsOf({ sequenceLength: 17 }), run, services, new Recorder())).rejects.toThrow(
      /sequenceLength is 17, longer/,
    );
    expect(existsSync(run)).toBe(false);
  });

  test('a loss that becomes NaN: the step is named and the last good checkpoint stays', async () => {
    const run = newFolder();
    const settings = settingsOf({ learningRate: 1e38, schedule: 'constant', saveInterval: 1, steps: 50 });
    await expect(train(settings, run, services, new Recorder())).rejects.toThrow(/diverged at step \d+/);
    expect(modelDirectoryOf(run)).toMatch(/step-\d+$/);
  });
});

test('stopped in the last validation, a run is saved and ends when resumed', async () => {
  const run = newFolder();
  const abort = new AbortController();
  const recorder = new Recorder((record) => {
    if (record.kind === 'checkpoint' && record.step === 12) abort.abort();
  });
  const summary = await train(settingsOf(), run, services, recorder, { signal: abort.signal });
  expect(summary.interrupted).toBe(true);
  const whole = newFolder();
  await train(settingsOf(), whole, services, new Recorder());
  await resume(run, services, new Recorder());
  expect(weightsOf(run).equals(weightsOf(whole))).toBe(true);
  expect(timeless(run)).toEqual(timeless(whole));
});

test('killed behind its last checkpoint, a run makes its end again and records it once', async () => {
  const run = newFolder();
  await train(settingsOf(), run, services, new Recorder());
  const [metrics, weights] = [timeless(run), weightsOf(run)];
  await resume(run, services, new Recorder());
  expect(timeless(run)).toEqual(metrics);
  expect(weightsOf(run).equals(weights)).toBe(true);
});

test('a plan of a model too large to be made allocates nothing', async () => {
  const model = { ...MODEL, hiddenSize: 4096, numLayers: 40, expertWidth: 16384, numExperts: 64 };
  const plan = await planRun(settingsOf({ model }), newFolder(), services, { seconds: 60 });
  expect(plan.parameters.total).toBeGreaterThan(5e11);
  expect(plan.memory.optimizer).toBe(2 * plan.memory.weights);
  expect(plan.notes.join()).toMatch(/not timed/);
});

test('a dry run writes nothing', async () => {
  const run = newFolder();
  const plan = await planRun(settingsOf(), run, services);
  expect(plan.steps).toBe(12);
  expect(plan.memory.total).toBeGreaterThan(plan.memory.weights * 4);
  expect(existsSync(run)).toBe(false);
});

test('a duration chooses the number of steps', { timeout: 30_000 }, async () => {
  const run = newFolder();
  const summary = await train(settingsOf(), run, services, new Recorder(), { seconds: 0.3 });
  expect(summary.steps % 10).toBe(0);
});

test('training goes on from a model directory', async () => {
  const first = newFolder();
  await train(settingsOf(), first, services, new Recorder());
  const second = newFolder();
  const recorder = new Recorder();
  await train(settingsOf({ initFrom: join(first, 'model') }), second, services, recorder);
  const lossOf = (record: RunRecord | undefined) => (record?.kind === 'step' ? record.loss : Number.NaN);
  expect(lossOf(recorder.records[0])).toBeLessThan(3.2);
});

describe('every optimizer', () => {
  /** A run that is stopped after a step, with what `change` makes of its settings file. */
  async function stopped(optimizer: string, stopAfter: number, change?: (settings: string) => string): Promise<string> {
    const run = newFolder();
    const abort = new AbortController();
    const recorder = new Recorder((record) => {
      if (record.kind === 'step' && record.step === stopAfter) abort.abort();
    });
    await train(settingsOf({ optimizer }), run, services, recorder, { signal: abort.signal });
    const file = join(run, 'run.json');
    if (change) writeFileSync(file, change(readFileSync(file, 'utf8')));
    return run;
  }

  test.each([
    ...services.optimizers.names(),
    'sgd:momentum=0.9',
    'adam:amsgrad=true',
    'muon:beta2=0.9,momentumWarmup=9',
  ])('resumes to the same bits: %s', async (optimizer) => {
    const whole = newFolder();
    await train(settingsOf({ optimizer }), whole, services, new Recorder());
    const run = await stopped(optimizer, 7);
    await resume(run, services, new Recorder());
    expect(weightsOf(run).equals(weightsOf(whole))).toBe(true);
    expect(timeless(run)).toEqual(timeless(whole));
  });

  test('saves the weights to evaluate: schedule-free’s average', async () => {
    const run = newFolder();
    await train(settingsOf({ optimizer: 'schedule-free' }), run, services, new Recorder());
    const model = loadModel(join(run, 'model'), services.kernels).model.parameters.data;
    const file = openSafetensors(join(run, 'checkpoints', 'step-00000012', 'optimizer.safetensors'));
    const average = new Float32Array(model.length);
    file.read('x', average);
    file.close();
    expect(model).toEqual(average);
  });

  test('is refused on the checkpoint of another, which is named', async () => {
    const run = await stopped('adamw', 5, (settings) => settings.replace('"adamw"', '"adam"'));
    await expect(resume(run, services, new Recorder())).rejects.toThrow(
      /step-00000005 was trained with the optimizer adamw, the run says adam/,
    );
  });

  test('goes on with other options, and says so', async () => {
    const run = await stopped('adamw', 5, (settings) => settings.replace('"adamw"', '"adamw:beta2=0.99"'));
    const recorder = new Recorder();
    await resume(run, services, recorder);
    expect(recorder.plan!.notes).toContain('the optimizer was adamw and goes on as adamw:beta2=0.99');
  });

  test('needs the scalars it left', async () => {
    const run = await stopped('schedule-free', 5);
    const file = join(run, 'checkpoints', 'step-00000005', 'training_state.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"weightSum"', '"sum"'));
    await expect(resume(run, services, new Recorder())).rejects.toThrow(/wants the scalar weightSum/);
  });
});

test.each([
  [{ learningRate: -1 }, /learningRate/],
  [{ learningRate: Number.NaN }, /learningRate/],
  [{ schedule: 'wsd:warmupSteps=13' }, /warmupSteps is 13, but the run has only 12 steps/],
  [{ schedule: 'wsd:beta1=0.9' }, /wsd has no option "beta1"/],
  [{ optimizer: 'lion:momentum=0.9' }, /lion has no option "momentum"/],
  [{ optimizer: 'muon:groups=heads(rate=1)' }, /group heads matches no parameter/],
])('a run with %j is refused before it begins', async (changes, message) => {
  const run = newFolder();
  await expect(async () => train(settingsOf(changes), run, services, new Recorder())).rejects.toThrow(message);
  expect(existsSync(run)).toBe(false);
});
