// What a run will cost, from its settings alone.

import type { MatmulBackend } from '../backend.ts';
import { validationWindows } from '../data/batches.ts';
import type { ModelConfig } from '../model/config.ts';
import { activeParameters, parameterCounts, totalParameters } from '../model/parameter-counts.ts';
import { MixedPrecision } from '../model/mixed-precision.ts';
import type { LoraAdapter } from '../model/lora.ts';
import type { Transformer } from '../model/transformer.ts';
import type { Corpus } from '../data/corpus.ts';
import type { Optimizer } from '../plugin.ts';
import { ELEMENT_BYTES } from '../tensor/dtype.ts';
import type { RunPlan } from './events.ts';
import { documentRows, type RunSettings, sequencesPerStep } from './settings.ts';

/**
 * Floating-point operations of training on one token of a sequence of length T, a multiply-add counted as two:
 * 6 per active weight that is multiplied (the embedding is looked up, not multiplied; a tied head multiplies it), and
 * 6·L·H·D·T for the causal half of attention's two products.
 */
export function trainingFlopsPerToken(config: ModelConfig, length: number): number {
  const table = config.vocabSize * config.hiddenSize;
  const multiplied = activeParameters(config) - (config.tieEmbeddings ? 0 : table) - parameterCounts(config).norm;
  return 6 * multiplied + 6 * config.numLayers * config.numHeads * config.headDim * length;
}

/** Bytes of an optimizer's state. */
export function stateBytes(optimizer: Optimizer): number {
  let bytes = 0;
  for (const { data } of optimizer.state().values()) bytes += data.byteLength;
  return bytes;
}

/** What `planOf` looks at. */
export interface Planned {
  readonly settings: RunSettings;
  readonly runDirectory: string;
  readonly backend: MatmulBackend;
  readonly corpus: Corpus;
  readonly model: Transformer;
  /** What is trained in place of the weights, where anything is. */
  readonly adapter: LoraAdapter | undefined;
  /** Bytes of the optimizer's state. */
  readonly optimizerBytes: number;
  readonly resumedAt: number;
  readonly notes: readonly string[];
  /** Of the whole run; null where no steps were timed. */
  readonly expectedSeconds: number | null;
  /** Operations a second that the backend reaches at best; null where that was not measured. */
  readonly peakRate: number | null;
  /** Bytes that the process may have; null where nobody said. */
  readonly memoryLimit: number | null;
}

/** What the memory of a run follows from. */
export type Sized = Pick<Planned, 'settings' | 'model' | 'adapter' | 'backend' | 'optimizerBytes'>;

/** Bytes of the weights' copies in 16-bit precision, which are held as float32. */
function roundedBytes({ settings, model, backend }: Sized): number {
  const { precision: format, keepF32: keep } = settings;
  if (format === 'f32') return 0;
  const mixed = new MixedPrecision(model.parameters, model.kernels, { format, keep, native: backend.bf16 });
  return mixed.bytesFor(model.parameters, model.config.tieEmbeddings);
}

/** Bytes that training holds. */
export function memoryOf(sized: Sized): RunPlan['memory'] {
  const { settings, model, adapter, optimizerBytes: optimizer } = sized;
  const { batchSize, sequenceLength, checkpointEvery, routerJitter } = settings;
  const size = ELEMENT_BYTES[model.dtype];
  const adapted = adapter?.size ?? 0;
  const gradients = (model.parameters.total + adapted) * size;
  const kept = (adapter?.targetSize ?? 0) * size; // without the adapter
  const weights = gradients + kept + roundedBytes(sized);
  const activations = model.trainingBytes(batchSize, sequenceLength, checkpointEvery, routerJitter > 0);
  return { weights, gradients, optimizer, activations, total: weights + gradients + optimizer + activations };
}

/** The plan of a run whose parts exist. */
export function planOf(planned: Planned): RunPlan {
  const { settings, corpus, model, backend } = planned;
  const { sequenceLength, steps } = settings;
  const { optimizer, schedule, learningRate } = settings;
  const tokensPerStep = sequencesPerStep(settings) * sequenceLength;
  return {
    parameters: {
      total: totalParameters(model.config),
      active: activeParameters(model.config),
      byPart: parameterCounts(model.config),
    },
    memory: memoryOf(planned),
    flopsPerStep: tokensPerStep * trainingFlopsPerToken(model.config, sequenceLength),
    steps,
    tokensPerStep,
    recipe: { optimizer, schedule, learningRate },
    tokens: steps * tokensPerStep,
    trainingTokens: corpus.train.length,
    validationTokens: corpus.validation.length,
    validationWindows: validationWindows(corpus.validation, sequenceLength, documentRows(settings, corpus)).count,
    epochs: (steps * tokensPerStep) / corpus.train.length,
    backend: { name: backend.name, ...backend.describe() },
    runDirectory: planned.runDirectory,
    resumedAt: planned.resumedAt,
    expectedSeconds: planned.expectedSeconds,
    peakRate: planned.peakRate,
    memoryLimit: planned.memoryLimit,
    notes: [...planned.notes, ...adapterNotes(planned)],
  };
}

/** What an adapter trains, in a sentence. */
function adapterNotes({ adapter, model }: Planned): string[] {
  if (!adapter) return [];
  const { rank, alpha, targets, size } = adapter;
  const share = ((100 * size) / model.parameters.total).toPrecision(2);
  const layers = targets.reduce((sum, { module }) => sum + (module.experts ?? 1), 0);
  return [
    `an adapter of rank ${rank} and alpha ${alpha} on ${layers} linear layers is trained: ${size} parameters, ${share} % of the model's, which stay as they are`,
  ];
}
