// A training run in a folder: made or taken up again, trained step by step, validated, sampled, saved.
//
// RUN/run.json           settings, written once
// RUN/metrics.jsonl      a record of every step, validation, sample and checkpoint
// RUN/checkpoints/       see checkpoint.ts
// RUN/model/             the last weights as a Hugging Face directory, when the run is finished
// RUN/adapter/           the adapter by itself, where one was trained: model/ has it merged
//
// A step is a function of the weights, the optimizer's state, the settings and its number: batches, initialisation and samples
// draw from counter-based streams. So a run that is killed and resumed computes the same bits as one that is not.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import { writeFileAtomic } from '../formats/atomic-files.ts';
import { latestCheckpoint, readTrainingState } from './checkpoint.ts';
import { Deadline } from './deadline.ts';
import type { RunObserver, RunPlan, RunSummary } from './events.ts';
import { planOf } from './plan.ts';
import { createRunDirectory, readRunSettings, refuseUsedDirectory, writeRunSettings } from './run-folder.ts';
import { assembleRun, outlineRun, type RunParts, type RunServices } from './run-parts.ts';
import { RunSession, type Surroundings } from './run-session.ts';
import type { RunSettings } from './settings.ts';

export interface TrainOptions {
  /** Stops after the step in progress, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Chooses `steps` so that the run takes about this long, by timing a few throw-away steps. */
  readonly seconds?: number;
  /** Wall time that the call ends within, last validation and checkpoint included; the run can be resumed. */
  readonly maxSeconds?: number | undefined;
  /** Bytes that the process may have: a run that needs more is refused before it takes them. */
  readonly memoryLimit?: number | undefined;
  /** What `measurePeakRate` found; utilisation is recorded with it. */
  readonly peakRate?: number | undefined;
}

export interface ResumeOptions extends Pick<TrainOptions, 'maxSeconds' | 'memoryLimit' | 'peakRate'> {
  readonly signal?: AbortSignal;
  /** Settings that go on otherwise than they were; the caller answers for that they may. */
  readonly changes?: Partial<RunSettings>;
  /** Goes on with data that have changed, where their tokenizer has not. */
  readonly otherData?: boolean;
  /** A new last step; the schedule then differs from that of the steps already taken. */
  readonly steps?: number;
  /** Of early stopping, in place of the run's: a run that has ended so goes on when they grow, or are 0. */
  readonly patience?: number;
  readonly minDelta?: number;
}

/**
 * Trains in a new folder.
 * @param settings its model.vocabSize is replaced by the tokenizer's
 * @throws GemmoeError when the folder is not empty, the data too short, a setting impossible, or the loss diverges
 */
export async function train(
  settings: RunSettings,
  runDirectory: string,
  services: RunServices,
  observer: RunObserver,
  options: TrainOptions = {},
): Promise<RunSummary> {
  refuseUsedDirectory(runDirectory);
  const deadline = new Deadline(options.maxSeconds);
  const { seconds, memoryLimit, peakRate, signal } = options;
  const run = await assembleRun(settings, services, { seconds, memoryLimit });
  try {
    createRunDirectory(runDirectory, run.settings);
    return await runSteps(run, { runDirectory, observer, deadline, signal, peakRate, memoryLimit });
  } finally {
    run.corpus.close();
  }
}

/** What `train` would do: opens the data and counts, writes nothing, and allocates no model that is too large to be timed. */
export async function planRun(
  settings: RunSettings,
  runDirectory: string,
  services: RunServices,
  options: TrainOptions = {},
): Promise<RunPlan> {
  refuseUsedDirectory(runDirectory);
  const outline = await outlineRun(settings, services, options);
  outline.corpus.close();
  const notes = [...outline.notes, ...(options.maxSeconds === undefined ? [] : [timeNote(options.maxSeconds)])];
  const peakRate = options.peakRate ?? null;
  const memoryLimit = options.memoryLimit ?? null;
  return planOf({ ...outline, notes, backend: services.backend, runDirectory, resumedAt: 0, peakRate, memoryLimit });
}

/**
 * Takes a run up at its latest checkpoint, or at its beginning when it died before the first one.
 * @throws GemmoeError when the folder is no run, or its data are not those it was started with
 */
export async function resume(
  runDirectory: string,
  services: RunServices,
  observer: RunObserver,
  options: ResumeOptions = {},
): Promise<RunSummary> {
  const deadline = new Deadline(options.maxSeconds);
  const stored = readRunSettings(runDirectory);
  const { steps = stored.steps, patience = stored.patience, minDelta = stored.minDelta, signal } = options;
  const { changes = {}, otherData = false } = options;
  const settings = { ...stored, ...changes, steps, patience, minDelta };
  const checkpoint = latestCheckpoint(runDirectory);
  if (checkpoint) refuseShorterRun(checkpoint, settings.steps);
  // a tokenizer that is made of the text would be another one with other text
  if (checkpoint && otherData) settings.tokenizer = keepTokenizer(checkpoint, runDirectory);
  const { memoryLimit, peakRate } = options;
  const run = await assembleRun(settings, services, { checkpoint, memoryLimit });
  try {
    const isChanged = JSON.stringify(settings) !== JSON.stringify(stored);
    const bounds = { deadline, signal, peakRate, memoryLimit };
    return await runSteps(
      run,
      { runDirectory, observer, ...bounds, checkpoint, otherData, plannedSteps: stored.steps },
      () => (isChanged ? writeRunSettings(runDirectory, settings) : undefined),
    );
  } finally {
    run.corpus.close();
  }
}

function timeNote(seconds: number): string {
  return `it ends within ${seconds} seconds, however many of its steps are taken by then`;
}

/** What a diverged run leaves to go on from. */
function withLastCheckpoint(error: unknown, runDirectory: string): unknown {
  if (!(error instanceof GemmoeError) || error.code !== 'diverged') return error;
  const checkpoint = latestCheckpoint(runDirectory);
  const left = checkpoint ? `the last good checkpoint is ${checkpoint}` : 'no checkpoint had been written yet';
  return new GemmoeError(error.code, error.message, `${error.hint}; ${left}`, { cause: error });
}

/** Copies the tokenizer of a checkpoint into the run folder, where it outlives the checkpoint; its path. */
function keepTokenizer(checkpoint: string, runDirectory: string): string {
  const path = join(runDirectory, 'tokenizer.json');
  writeFileAtomic(path, readFileSync(join(checkpoint, 'tokenizer.json'), 'utf8'));
  return path;
}

function refuseShorterRun(checkpoint: string, steps: number): void {
  const { step } = readTrainingState(checkpoint);
  if (step <= steps) return;
  throw new GemmoeError(
    'usage',
    `the run has already taken ${step} steps, more than the ${steps} asked for`,
    `ask for more than ${step} steps, or resume without --steps`,
  );
}

/** Trains from the checkpoint (or from step 0) to the last step. @param onRestored called when the checkpoint fits */
async function runSteps(run: RunParts, surroundings: Surroundings, onRestored = () => {}): Promise<RunSummary> {
  const { runDirectory, signal, plannedSteps } = surroundings;
  const session = new RunSession(run, surroundings);
  onRestored();
  try {
    session.announce(plannedSteps ?? run.settings.steps);
    return await session.run(signal);
  } catch (error) {
    throw withLastCheckpoint(error, runDirectory);
  } finally {
    session.close();
  }
}
