// A small run in a scratch folder, stopped at a step and resumed, or not.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { builtinBackends } from '../../backends/index.ts';
import { createGemmoe } from '../../core/container.ts';
import { PRESETS } from '../../core/model/presets.ts';
import type { RunObserver, RunRecord, RunSummary } from '../../core/training/events.ts';
import { readMetrics } from '../../core/training/metrics-log.ts';
import { resume, train } from '../../core/training/run.ts';
import { type RunSettings, RunSettingsSchema } from '../../core/training/settings.ts';
import { builtinPlugins } from '../../plugins/index.ts';

/** Reference backend, built-in plugins. */
export const referenceServices = () =>
  createGemmoe({ plugins: [builtinBackends, builtinPlugins], backend: 'reference' });

/** Settings of a run of 8 steps that takes well under a second. */
export function smallSettings(scratch: string, changes: Partial<RunSettings> = {}): RunSettings {
  const text = join(scratch, 'text.txt');
  writeFileSync(text, 'the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n'.repeat(60));
  return RunSettingsSchema.parse({
    model: {
      ...PRESETS['tiny'].config,
      ...{ hiddenSize: 16, numLayers: 3, numHeads: 2, headDim: 8, expertWidth: 16, maxSequenceLength: 16 },
    },
    initFrom: null,
    data: [text],
    tokenizer: 'character',
    bpeVocabSize: 300,
    validationFraction: 0.1,
    dataOrder: 'shuffle',
    batchSize: 2,
    sequenceLength: 16,
    steps: 8,
    optimizer: 'adamw',
    schedule: 'constant',
    learningRate: 3e-3,
    clipNorm: 1,
    seed: 5,
    evalInterval: 4,
    evalWindows: 3,
    sampleInterval: 0,
    saveInterval: 3,
    keepLast: 2,
    plugins: [],
    backend: 'reference',
    ...changes,
  });
}

/** Trains in `run`; with `stopAfter`, stops behind that step and resumes. */
export async function trainAndResume(settings: RunSettings, run: string, stopAfter?: number): Promise<RunSummary> {
  using services = referenceServices();
  const abort = new AbortController();
  const observer: RunObserver = {
    planned() {},
    record(record) {
      if (record.kind === 'step' && record.step === stopAfter) abort.abort();
    },
  };
  const summary = await train(settings, run, services, observer, { signal: abort.signal });
  return stopAfter === undefined ? summary : resume(run, services, observer);
}

/** Everything that a run leaves which does not depend on the clock. */
export function traceOf(run: string): { weights: Buffer; metrics: RunRecord[] } {
  const metrics = readMetrics(run).map((record) => ({ ...record, milliseconds: 0, dataMilliseconds: 0 }));
  return { weights: readFileSync(join(run, 'model', 'model.safetensors')), metrics };
}
