// What a run goes on from: the state of a checkpoint, put back into the parts of the run, once it is sure that they are the same.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MatmulBackend } from '../backend.ts';
import { parseSpec } from '../config.ts';
import { GemmoeError } from '../errors.ts';
import { baseFingerprint } from './lora.ts';
import { readTrainingState, restoreOptimizer, type TrainingState } from './checkpoint.ts';
import type { RunParts } from './run-parts.ts';

/** A state, and what the user should know of it, a sentence each. */
export interface Restored {
  readonly state: TrainingState;
  readonly notes: readonly string[];
}

/** The state before the first step. */
export function freshState({ settings, corpus, services, adapter }: RunParts): TrainingState {
  return {
    format: 1,
    step: 0,
    tokens: 0,
    best: null,
    recentLosses: [],
    metricsBytes: 0,
    optimizer: settings.optimizer,
    optimizerScalars: {},
    dataFingerprint: corpus.fingerprint,
    ...(adapter && { baseFingerprint: baseFingerprint(adapter) }),
    backend: backendIdentity(services.backend),
  };
}

/**
 * Reads the state of a checkpoint and puts the optimizer's back.
 * @param otherData true to go on with other text; the tokenizer must be the same all the same
 * @throws GemmoeError naming what differs: tokenizer, data or optimizer
 */
export function restoreRun(run: RunParts, checkpoint: string, otherData: boolean): Restored {
  const { corpus, optimizer, settings, services } = run;
  const state = readTrainingState(checkpoint);
  const hasChanged = state.dataFingerprint !== corpus.fingerprint;
  if (hasChanged) checkData(run, checkpoint, state, otherData);
  const identity = backendIdentity(services.backend);
  const notes = [
    ...(hasChanged ? ['the data are others than before: validation losses cannot be compared with earlier ones'] : []),
    ...(state.backend === identity
      ? []
      : [`the run was made with ${state.backend} and goes on with ${identity}: the last digits will differ`]),
    ...optimizerNotes(checkpoint, state.optimizer, settings.optimizer),
  ];
  checkBase(run, checkpoint, state);
  restoreOptimizer(checkpoint, optimizer, state);
  optimizer.training?.(true); // checkpoints hold the weights to evaluate
  // losses on other text say nothing about these
  const fresh = hasChanged ? { best: null, patience: undefined, dataFingerprint: corpus.fingerprint } : {};
  return { state: { ...state, optimizer: settings.optimizer, ...fresh }, notes };
}

/** @throws GemmoeError saying whether tokenizer or text differ */
function checkData({ corpus, settings }: RunParts, checkpoint: string, state: TrainingState, otherData: boolean): void {
  if (hasOtherTokenizer(corpus.tokenizer.toJSON(), checkpoint)) {
    throw new GemmoeError(
      'bad-data',
      `the tokenizer is not the one that ${checkpoint} was trained with: its ids would mean other tokens`,
      `use that one, ${join(checkpoint, 'tokenizer.json')}; with other text as well, a new run with --init-from ${checkpoint}`,
    );
  }
  if (otherData) return;
  throw new GemmoeError(
    'bad-data',
    `the data have changed since ${checkpoint}: fingerprint ${corpus.fingerprint}, then ${state.dataFingerprint}`,
    `restore ${settings.data.join(', ') || 'the corpus'}, add --force to go on with what is there, or start a new run with --init-from ${checkpoint}`,
  );
}

/** @throws GemmoeError where the model that an adapter is trained on is no longer what it was */
function checkBase({ adapter, settings }: RunParts, checkpoint: string, { baseFingerprint: was }: TrainingState): void {
  if (!adapter || was === baseFingerprint(adapter)) return;
  throw new GemmoeError(
    'bad-data',
    `the weights in ${settings.initFrom} are not those that the adapter in ${checkpoint} was trained on`,
    'restore that model, or start a new run from the one that is there',
  );
}

function hasOtherTokenizer(tokenizer: unknown, checkpoint: string): boolean {
  const path = join(checkpoint, 'tokenizer.json');
  if (!existsSync(path)) return false;
  return JSON.stringify(JSON.parse(readFileSync(path, 'utf8'))) !== JSON.stringify(tokenizer);
}

/** @throws GemmoeError when the checkpoint is of another optimizer; other options are only said */
function optimizerNotes(checkpoint: string, was: string | undefined, is: string): string[] {
  if (was === undefined || was === is) return [];
  if (parseSpec(was).name === parseSpec(is).name) return [`the optimizer was ${was} and goes on as ${is}`];
  throw new GemmoeError(
    'bad-data',
    `${checkpoint} was trained with the optimizer ${was}, the run says ${is}`,
    `resume with ${was}, or start a new run with --init-from ${checkpoint}`,
  );
}

/** Whatever decides how a backend rounds. */
function backendIdentity(backend: MatmulBackend): string {
  const { vendor, version, instructionSet, threads, precision } = backend.describe();
  return [backend.name, vendor, version, instructionSet, precision, `${threads} threads`].join(', ');
}
