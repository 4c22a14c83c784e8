// A training run in memory: nothing is written, no checkpoints and samples are made. For comparing settings.

import { GemmoeError } from '../errors.ts';
import { evaluateSource, nextTurn } from './evaluate.ts';
import { stateBytes } from './plan.ts';
import { assembleRun, batchBuffers, type RunServices, trainerOptions } from './run-parts.ts';
import { documentRows, type RunSettings } from './settings.ts';
import { Trainer } from './trainer.ts';

/** What a trial found. */
export interface TrialResult {
  /** Validation loss of the last weights over `evalWindows` windows, nats per token; null when the training diverged. */
  readonly loss: number | null;
  /** Steps that were taken. */
  readonly steps: number;
  /** Of all steps, without data, model and validation. */
  readonly seconds: number;
  /** Median milliseconds of a step. */
  readonly stepMilliseconds: number;
  /** Size of the optimizer's state, the weights being 1. */
  readonly stateShare: number;
}

export interface TrialOptions {
  readonly signal?: AbortSignal;
  /** Called after every step. */
  readonly onStep?: (step: number, loss: number) => void;
}

/**
 * Trains as a run with these settings would, and validates.
 * @throws GemmoeError for settings that cannot be, and when the signal stops it; a loss that diverges is a result
 */
export async function runTrial(
  settings: RunSettings,
  services: RunServices,
  { signal, onStep }: TrialOptions = {},
): Promise<TrialResult> {
  const run = await assembleRun(settings, services);
  const { model, optimizer, schedule, sampler, corpus } = run;
  const { batchSize, sequenceLength, steps, evalWindows } = run.settings;
  const trainer = new Trainer(model, optimizer, schedule, trainerOptions(run));
  const { ids, targets, documentStarts } = batchBuffers(run.settings);
  const times: number[] = [];
  const resultOf = (loss: number | null): TrialResult => ({
    ...{ loss, steps: trainer.steps, stateShare: stateBytes(optimizer) / model.parameters.data.byteLength },
    seconds: times.reduce((sum, time) => sum + time, 0) / 1000,
    stepMilliseconds: [...times].sort((a, b) => a - b)[times.length >> 1] ?? 0,
  });
  try {
    for (let step = 1; step <= steps; step++) {
      if (signal?.aborted) throw new GemmoeError('usage', `the trial was interrupted at step ${step}`);
      sampler.fill(step, ids, targets, documentStarts);
      const start = performance.now();
      const { loss } = trainer.step(ids, targets, batchSize, sequenceLength, documentStarts);
      times.push(performance.now() - start);
      onStep?.(step, loss);
      await nextTurn();
    }
    optimizer.training?.(false);
    const documents = documentRows(run.settings, corpus);
    const windows = { batchSize, sequenceLength, maxWindows: evalWindows, documents, signal };
    const { loss } = await evaluateSource(model, corpus.validation, windows);
    return resultOf(Number.isFinite(loss) ? loss : null);
  } catch (error) {
    if (error instanceof GemmoeError && error.code === 'diverged') return resultOf(null);
    throw error;
  } finally {
    corpus.close();
  }
}
