// Checkpoints of a run: RUN/checkpoints/step-00000500/ is a Hugging Face model directory, or where an adapter is trained PEFT's
// directory of it, with the optimizer's tensors and the training state beside it. It is written whole or not at all, so a crash
// leaves the one before.

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Tokenizer } from '../data/tokenizer.ts';
import { GemmoeError, messageOf } from '../errors.ts';
import { isAdapterDirectory, writeAdapterFiles } from '../formats/adapter.ts';
import { readAdapterConfig } from '../formats/adapter-config.ts';
import { removeStaleTemporaries, writeDirectoryAtomic, writeFileAtomic } from '../formats/atomic-files.ts';
import { writeModelFiles } from '../formats/hugging-face.ts';
import { writeJson } from '../formats/json-files.ts';
import { openSafetensors, storedTypeOf, writeSafetensors } from '../formats/safetensors.ts';
import type { LoraAdapter } from '../model/lora.ts';
import type { Transformer } from '../model/transformer.ts';
import type { Optimizer } from '../plugin.ts';

const STATE_FILE = 'training_state.json';
const OPTIMIZER_FILE = 'optimizer.safetensors';

const EvaluationSchema = z.strictObject({
  kind: z.literal('evaluation'),
  step: z.int(),
  loss: z.number(),
  perplexity: z.number(),
  bitsPerByte: z.number().nullable(),
  windows: z.int(),
  best: z.boolean(),
});

/** Everything besides weights and optimizer tensors that going on needs; random streams are functions of seed and step. */
const TrainingStateSchema = z.strictObject({
  format: z.literal(1),
  step: z.int().min(0),
  /** Training tokens seen. */
  tokens: z.int().min(0),
  /** Lowest validation loss so far and its step. */
  best: EvaluationSchema.nullable(),
  /** Losses of the last steps, oldest first. */
  recentLosses: z.array(z.number()),
  /** Length of metrics.jsonl at this step: what stands behind it was written by a run that then died. */
  metricsBytes: z.int().min(0),
  /** `name:key=value,…`; absent in checkpoints of earlier versions. */
  optimizer: z.string().optional(),
  optimizerScalars: z.record(z.string(), z.number()),
  /** Steps that overflowed, and how the loss is scaled; absent in checkpoints of earlier versions. */
  trainer: z
    .strictObject({
      skipped: z.int().min(0),
      lossScale: z.strictObject({ scale: z.number().positive(), goodSteps: z.int().min(0), badSteps: z.int().min(0) }),
      spikes: z
        .strictObject({
          losses: z.array(z.number()).readonly(),
          gradientNorms: z.array(z.number()).readonly(),
          count: z.int().min(0),
        })
        .optional(),
    })
    .optional(),
  /** What early stopping goes by; absent in checkpoints of earlier versions. */
  patience: z.strictObject({ reference: z.number().nullable(), waited: z.int().min(0) }).optional(),
  /** Hash of the training and validation tokens and their tokenizer. */
  dataFingerprint: z.string(),
  /** Where an adapter is trained: hash of the weights it belongs to. */
  baseFingerprint: z.string().optional(),
  /** Backend, library and threads: another one rounds differently. */
  backend: z.string(),
});

export type TrainingState = z.infer<typeof TrainingStateSchema>;

/** What a checkpoint is made of. */
export interface CheckpointParts {
  readonly model: Transformer;
  /** Saved in place of the model, with the directory of the model that it belongs to. */
  readonly adapter?: { readonly adapter: LoraAdapter; readonly base: string | null } | undefined;
  readonly optimizer: Optimizer;
  readonly tokenizer: Tokenizer;
  /** config.json of the model training started from, for keys that are not ours. */
  readonly original: Record<string, unknown> | undefined;
  readonly state: TrainingState;
}

/** Writes the checkpoint of `parts.state.step`; the directory's path. An existing one of that step is replaced. */
export function saveCheckpoint(runDirectory: string, parts: CheckpointParts): string {
  const path = join(checkpointsOf(runDirectory), stepName(parts.state.step));
  const { model, adapter, optimizer, tokenizer, original } = parts;
  writeDirectoryAtomic(
    path,
    (temporary) => {
      if (adapter) {
        writeAdapterFiles(temporary, adapter.adapter, adapter.base);
        writeJson(join(temporary, 'tokenizer.json'), tokenizer.toJSON());
      } else writeModelFiles(temporary, model, { tokenizer, ...(original && { original }) });
      const tensors = [...optimizer.state()].map(([name, { shape, data }]) => {
        return { name, dtype: storedTypeOf(data), shape, parts: [data] };
      });
      writeSafetensors(join(temporary, OPTIMIZER_FILE), tensors);
      writeFileAtomic(join(temporary, STATE_FILE), `${JSON.stringify(parts.state, null, 2)}\n`);
    },
    { replace: true },
  );
  return path;
}

/** The training state of a checkpoint. @throws GemmoeError naming the file and the field that is wrong */
export function readTrainingState(checkpoint: string): TrainingState {
  const path = join(checkpoint, STATE_FILE);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new GemmoeError('bad-data', `${path}: cannot be read: ${messageOf(error)}`, 'resume from another checkpoint');
  }
  const parsed = TrainingStateSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new GemmoeError(
    'bad-data',
    `${path}: ${issue.path.join('.')}: ${issue.message}`,
    'resume from another checkpoint',
  );
}

/** Puts the optimizer's tensors and scalars of a checkpoint back into a freshly made optimizer. */
export function restoreOptimizer(checkpoint: string, optimizer: Optimizer, state: TrainingState): void {
  const path = join(checkpoint, OPTIMIZER_FILE);
  const file = openSafetensors(path);
  try {
    const wanted = optimizer.state();
    for (const [name, { shape, data }] of wanted) {
      const found = file.tensors.get(name);
      if (!found || found.shape.join() !== shape.join()) {
        throw new GemmoeError(
          'bad-data',
          `${path}: the optimizer wants tensor ${name} [${shape}], the file has ${found ? `[${found.shape}]` : 'none'}`,
          'resume with the optimizer that the run was made with',
        );
      }
      file.read(name, data);
    }
    const stray = [...file.tensors.keys()].find((name) => !wanted.has(name));
    if (stray !== undefined) {
      throw new GemmoeError(
        'bad-data',
        `${path}: tensor ${stray} is none of the optimizer's`,
        'resume with the optimizer that the run was made with',
      );
    }
  } finally {
    file.close();
  }
  const missing = Object.keys(optimizer.scalars?.() ?? {}).find((name) => !(name in state.optimizerScalars));
  if (missing !== undefined) {
    throw new GemmoeError(
      'bad-data',
      `${join(checkpoint, STATE_FILE)}: the optimizer wants the scalar ${missing}, the file has none`,
      'resume with the optimizer that the run was made with',
    );
  }
  optimizer.restoreScalars?.(state.optimizerScalars);
}

/** Path of the newest complete checkpoint of a run, or undefined when it has none. */
export function latestCheckpoint(runDirectory: string): string | undefined {
  const steps = checkpointSteps(runDirectory);
  const last = steps.at(-1);
  return last === undefined ? undefined : join(checkpointsOf(runDirectory), stepName(last));
}

/** Deletes all but the last `keepLast` checkpoints and that of `bestStep`, and what a killed process left half written. */
export function pruneCheckpoints(runDirectory: string, keepLast: number, bestStep: number | undefined): void {
  const directory = checkpointsOf(runDirectory);
  if (!existsSync(directory)) return;
  removeStaleTemporaries(directory);
  const steps = checkpointSteps(runDirectory);
  for (const step of steps.slice(0, Math.max(0, steps.length - keepLast))) {
    if (step !== bestStep) rmSync(join(directory, stepName(step)), { recursive: true, force: true });
  }
}

/** Where a model is: its directory, and the adapter that belongs on top of it. */
export interface ModelPlace {
  readonly directory: string;
  /** undefined for a model that is whole. */
  readonly adapter: string | undefined;
}

/**
 * The model that `path` stands for: a directory that holds a config.json, the `model` folder of a finished run, or the latest
 * checkpoint of an unfinished one; for an adapter, the model that it says it was trained on, with the adapter.
 * @throws GemmoeError when there is none
 */
export function modelPlaceOf(path: string): ModelPlace {
  const finished = join(path, 'model');
  for (const directory of [path, finished]) {
    if (existsSync(join(directory, 'config.json'))) return { directory, adapter: undefined };
  }
  const found = isAdapterDirectory(path) ? path : existsSync(path) ? latestCheckpoint(path) : undefined;
  if (found !== undefined) {
    return isAdapterDirectory(found) ? adaptedPlace(found) : { directory: found, adapter: undefined };
  }
  throw new GemmoeError(
    'not-found',
    `${path} is neither a model directory (no config.json) nor a run folder (no model, no checkpoints)`,
    'name a folder that holds config.json and model.safetensors, or a folder that `gemmoe train` made',
  );
}

function adaptedPlace(adapter: string): ModelPlace {
  const { base } = readAdapterConfig(adapter);
  if (base !== null && existsSync(join(base, 'config.json'))) return { directory: base, adapter };
  throw new GemmoeError(
    'not-found',
    `${adapter} is an adapter of ${base ?? 'a model that it does not name'}, which is no model directory here`,
    `name the model and the adapter: --model DIR --adapter ${adapter}`,
  );
}

/** The adapter that `path` stands for: a directory of PEFT's, or that of a run, finished or not; else `path` itself. */
export function adapterDirectoryOf(path: string): string {
  const finished = join(path, 'adapter');
  for (const candidate of [path, finished]) if (isAdapterDirectory(candidate)) return candidate;
  const checkpoint = existsSync(path) ? latestCheckpoint(path) : undefined;
  return checkpoint !== undefined && isAdapterDirectory(checkpoint) ? checkpoint : path;
}

/** As `modelPlaceOf`, for what must be a model by itself. @throws GemmoeError for an adapter too */
export function modelDirectoryOf(path: string): string {
  const { directory, adapter } = modelPlaceOf(path);
  if (adapter === undefined) return directory;
  throw new GemmoeError(
    'usage',
    `${path} has no model of its own, only an adapter of ${directory}: ${adapter}`,
    `merge them first: gemmoe convert ${directory} OUT --merge-adapter ${adapter}`,
  );
}

function checkpointSteps(runDirectory: string): number[] {
  const directory = checkpointsOf(runDirectory);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => /^step-\d{8}$/.test(name) && existsSync(join(directory, name, STATE_FILE)))
    .map((name) => Number(name.slice('step-'.length)))
    .sort((a, b) => a - b);
}

function checkpointsOf(runDirectory: string): string {
  return join(runDirectory, 'checkpoints');
}

function stepName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}
