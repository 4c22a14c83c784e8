// Everything that decides what a training run computes, as one validated record; it is stored in the run folder.

import { z } from 'zod';
import { LOSS_ON } from '../data/chat-rendering.ts';
import { DOCUMENT_MODES, type DocumentRows } from '../data/document-rows.ts';
import { ModelConfigSchema } from '../model/config.ts';
import { KEPT_IN_F32 } from '../model/mixed-precision.ts';

const count = z.int().min(0);
const positive = z.int().min(1);

/** How the windows of a corpus become batches. */
export const DATA_ORDERS = ['shuffle', 'random', 'sequential'] as const;

/** What the products of weights may run on in training. */
export const PRECISIONS = ['f32', 'bf16', 'fp16'] as const;

/** Every linear layer but routers and head. */
export const LORA_TARGETS: readonly string[] = ['attention', 'expert'];

export const RunSettingsSchema = z.strictObject({
  /** Shape to initialise, vocabulary included; null when the weights come from `initFrom`. */
  model: ModelConfigSchema,
  /** Model directory whose weights training starts from; null for random weights. */
  initFrom: z.string().nullable(),
  /** Files or folders of text, or token shards; empty for the built-in corpus. */
  data: z.array(z.string()),
  /** Weight of each of `data` in what is trained on; empty where all make one source. */
  dataWeights: z.array(z.number().positive()).default([]),
  /** Key of the text in a JSONL row. */
  textField: z.string().min(1).default('text'),
  /** Of conversations: which text is learned. */
  lossOn: z.enum(LOSS_ON).default('answers'),
  /** `byte`, `character`, `bpe`, or the path of a tokenizer.json. */
  tokenizer: z.string(),
  /** Vocabulary of a `bpe` tokenizer that is trained on the data. */
  bpeVocabSize: positive,
  /** Last part of the text that is held out. */
  validationFraction: z.number().gt(0).lt(1),
  dataOrder: z.enum(DATA_ORDERS),
  /** Windows that are shuffled among themselves; 0 for all of an epoch, or 1024 of a stream. */
  shuffleBlock: count.default(0),
  /** Tokenise text while training runs. */
  stream: z.boolean().default(false),
  /** How documents share the rows of a batch. */
  documents: z.enum(DOCUMENT_MODES).default('packed'),
  /** B: sequences of a micro-batch. */
  batchSize: positive,
  /** Micro-batches whose gradients add up to one step. */
  accumulate: positive.default(1),
  /** Activation checkpointing: the input of every n-th block is kept, the rest computed again; 0 keeps everything. */
  checkpointEvery: count.default(0),
  /** Weight of the router z-loss; 0 for none. */
  routerZLoss: z.number().nonnegative().default(0),
  /** Balancing without auxiliary loss: how far a step moves the routers' selection biases; 0 trains without biases. */
  routerBias: z.number().nonnegative().default(0),
  /** ε of the noise on the routers' inputs; 0 for none. */
  routerJitter: z.number().min(0).lt(1).default(0),
  /** Rows that an expert takes, as a multiple of an even share; 0 drops nothing. */
  expertCapacity: z.number().nonnegative().default(0),
  /** Operands of the products of weights in training: float32, or rounded to 16 bits. */
  precision: z.enum(PRECISIONS).default('f32'),
  /** Parts of names of parameters that stay in float32 all the same. */
  keepF32: z.array(z.string().min(1)).default([...KEPT_IN_F32]),
  /** With precision fp16: factor on the loss, or `dynamic`. */
  lossScale: z.union([z.literal('dynamic'), z.number().positive()]).default('dynamic'),
  /** Decay of an average of the weights that is evaluated and saved in their place; 0 for none. */
  ema: z.number().min(0).lt(1).default(0),
  /** r of a low-rank adapter that is trained in place of the weights of `initFrom`; 0 trains the weights. */
  loraRank: count.default(0),
  /** Strength of the adapter: what it adds is scaled by alpha/r; null for 2·r. */
  loraAlpha: z.number().positive().nullable().default(null),
  /** Roles and names of the linear layers that have one. */
  loraTargets: z.array(z.string().min(1)).default([...LORA_TARGETS]),
  /** T */
  sequenceLength: positive,
  steps: positive,
  /** `name:key=value,…` of an optimizer plugin. */
  optimizer: z.string(),
  /** `name:key=value,…` of a schedule plugin. */
  schedule: z.string(),
  learningRate: z.number().positive(),
  /** Largest global gradient norm; 0 switches clipping off. */
  clipNorm: z.number().nonnegative(),
  seed: count,
  /** Steps between validations; 0 for only the last, null for a tenth of the run. */
  evalInterval: count.nullable(),
  /** Windows of validation at intervals; 0 for all. The last validation always reads all. */
  evalWindows: count,
  /** Validations at intervals without gain that end the run; 0 for never. */
  patience: count.default(0),
  /** How much lower a validation loss must be to count as a gain. */
  minDelta: z.number().nonnegative().default(0),
  /** Deviations above the mean of the last steps beyond which loss or gradient norm make a step be skipped; 0 skips none. */
  skipSpikes: z.number().nonnegative().default(0),
  /** What samples go on from, one each; none: one sample that begins as the training text does. */
  samplePrompts: z.array(z.string()).default([]),
  /** Steps between samples of text; 0 for only the last, null for a fifth of the run. */
  sampleInterval: count.nullable(),
  /** Steps between checkpoints; 0 for only the last, null for a tenth of the run. */
  saveInterval: count.nullable(),
  /** Checkpoints kept besides the best one. */
  keepLast: positive,
  /** Plugin files and packages that the names above may come from. */
  plugins: z.array(z.string()),
  /** `name:key=value,…` of the backend the run was made with: another one rounds differently. */
  backend: z.string(),
});

export type RunSettings = z.infer<typeof RunSettingsSchema>;

/** Sequences of one optimizer step: all its micro-batches. */
export function sequencesPerStep({ batchSize, accumulate }: RunSettings): number {
  return batchSize * accumulate;
}

/** How the rows of batches and of validations treat documents, which `separator` stands behind. */
export function documentRows(
  { documents: mode }: RunSettings,
  { separator }: Pick<DocumentRows, 'separator'>,
): DocumentRows {
  return { mode, separator };
}

/** The settings with every interval a number of steps. */
export function withIntervals(settings: RunSettings): RunSettings & {
  readonly evalInterval: number;
  readonly sampleInterval: number;
  readonly saveInterval: number;
} {
  const share = (parts: number) => Math.max(10, Math.round(settings.steps / parts));
  return {
    ...settings,
    evalInterval: settings.evalInterval ?? share(10),
    sampleInterval: settings.sampleInterval ?? share(5),
    saveInterval: settings.saveInterval ?? share(10),
  };
}
