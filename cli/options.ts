// The one table of options: flags, --help, environment variables, the config file, the README's list and the types come from it.

import { z } from 'zod';
import { PRESETS } from '../core/model/presets.ts';
import { KEPT_IN_F32 } from '../core/model/mixed-precision.ts';
import { LOSS_ON } from '../core/data/chat-rendering.ts';
import { DOCUMENT_MODES } from '../core/data/document-rows.ts';
import { DATA_ORDERS, LORA_TARGETS, PRECISIONS } from '../core/training/settings.ts';

/** One option. The flag is the name in kebab-case, the variable GEMMOE_ and the name in upper case. */
interface Option {
  readonly description: string;
  readonly schema: z.ZodType;
  /** How the text of a flag is read; default `text`. A `switch` takes no value, a `list` may be repeated. */
  readonly kind?: 'text' | 'number' | 'switch' | 'list' | 'duration' | 'bytes';
  /** What stands for the value in --help. */
  readonly value?: string;
  /** Shown as the default in --help where it is not a fixed value. */
  readonly defaultText?: string;
}

const count = z.int().nonnegative();
const size = z.int().positive();
const rate = z.number().positive();
const amount = z.number().nonnegative();
const share = z.number().min(0).max(1);

/** A number option. */
function number<S extends z.ZodType>(schema: S, description: string, defaultText?: string) {
  return { kind: 'number', schema, description, value: 'N', ...(defaultText && { defaultText }) } as const;
}

/** A text option. */
function text<S extends z.ZodType>(schema: S, value: string, description: string, defaultText?: string) {
  return { kind: 'text', schema, description, value, ...(defaultText && { defaultText }) } as const;
}

/** An option without a value. */
function flag(description: string) {
  return { kind: 'switch', schema: z.boolean().default(false), description } as const;
}

const string = z.string().min(1);

const GENERAL = {
  json: flag('print one JSON object on standard output, everything else on standard error'),
  debug: flag('print the stack of an error'),
  config: text(string.optional(), 'FILE', 'config file', 'gemmoe.config.{ts,js,mjs,json} if present'),
  plugin: {
    kind: 'list',
    schema: z.array(string).default([]),
    value: 'FILE',
    description: 'load a plugin, a file or an installed package; loading runs its code; may be repeated',
  } as const,
  backend: text(string.default('auto'), 'NAME[:KEY=VALUE,…]', 'backend of the matrix products, see `gemmoe backends`'),
  seed: number(count.default(1), 'seed of everything random'),
} as const satisfies Record<string, Option>;

const MODEL = {
  model: text(string.optional(), 'DIR', 'Hugging Face model directory, or a run folder'),
  preset: text(
    z.enum(Object.keys(PRESETS)).optional(),
    'NAME',
    `shape of a new model: ${Object.keys(PRESETS).join(', ')}`,
    'char, or char-mini where no BLAS is found',
  ),
  hiddenSize: number(size.optional(), 'width of the residual stream', 'the preset’s'),
  layers: number(size.optional(), 'blocks', 'the preset’s'),
  heads: number(size.optional(), 'query heads', 'the preset’s'),
  kvHeads: number(size.optional(), 'key and value heads', 'the preset’s'),
  headDim: number(size.optional(), 'size of a head', 'the preset’s'),
  experts: number(size.optional(), 'experts; 1 is a dense model', 'the preset’s; upcycle must be told'),
  expertsPerToken: number(size.optional(), 'experts chosen for each token', 'the preset’s; upcycle: 2'),
  expertWidth: number(size.optional(), 'width of each expert', 'the preset’s'),
  maxSequenceLength: number(size.optional(), 'longest sequence the model is made for', 'the sequence length'),
  ropeTheta: number(rate.optional(), 'base of the rotary embedding', 'the preset’s'),
  ropeAlpha: number(rate.optional(), 'NTK-aware stretch of that base', 'the preset’s'),
  auxLoss: number(z.number().nonnegative().optional(), 'weight of the load-balancing loss', 'the preset’s'),
  auxLossReduction: text(
    z.enum(['perLayer', 'pooled']).optional(),
    'perLayer|pooled',
    'balance every layer by itself, or all together as Hugging Face does',
    'the preset’s',
  ),
  tokenizer: text(
    string.optional(),
    'KIND|FILE',
    'byte, character, bpe, or the path of a tokenizer.json',
    'character; bpe with --preset bpe',
  ),
  vocabSize: number(size.optional(), 'vocabulary of a bpe tokenizer that is trained on the data', '4096'),
} as const satisfies Record<string, Option>;

const DATA = {
  data: {
    kind: 'list',
    schema: z.array(string).default([]),
    value: 'PATH[:WEIGHT]',
    defaultText: 'Moby-Dick',
    description:
      'text or JSONL files (.gz too), folders of them, a folder that `prepare` made, or .bin shards; may be repeated. When training, weights make each a source that is read in that share: a.txt:2 b.jsonl:1',
  } as const,
  validationFraction: number(z.number().gt(0).lt(1).default(0.1), 'last part of the text that is held out'),
  dataOrder: text(z.enum(DATA_ORDERS).default('shuffle'), 'ORDER', `order of the windows: ${DATA_ORDERS.join(', ')}`),
  textField: text(string.default('text'), 'KEY', 'key of the text in a JSONL row'),
  lossOn: text(
    z.enum(LOSS_ON).default('answers'),
    LOSS_ON.join('|'),
    'JSONL rows that are conversations (messages, prompt and response, …): learn the answers alone, or all of the text',
  ),
  documents: text(
    z.enum(DOCUMENT_MODES).default('packed'),
    DOCUMENT_MODES.join('|'),
    'rows are cut from documents set one behind the other, and attention sees all of a row; masked: it stays within a document; padded: each row holds one document or a piece of it',
  ),
  shuffleBlock: number(
    count.default(0),
    'shuffle windows in blocks of so many, which are read one after the other; 0 shuffles all, or 1024 of a stream',
  ),
  stream: flag('tokenise text in a worker while training runs: any amount of it, in bounded memory'),
  minFrequency: number(size.optional(), 'bpe: pairs rarer than this are not merged', '2'),
  special: {
    kind: 'list',
    schema: z.array(string).default([]),
    value: 'TOKEN',
    description: 'special token of a bpe tokenizer, beside <|endoftext|>; may be repeated',
  } as const,
  shardTokens: number(size.default(100_000_000), 'tokens of a shard'),
} as const satisfies Record<string, Option>;

const TRAINING = {
  out: text(string.optional(), 'DIR', 'folder to write', 'runs/PRESET-TIME when training'),
  resume: text(
    string.optional(),
    'auto|DIR',
    'continue a run; `auto` the latest under runs/, or a new one if there is none',
  ),
  initFrom: text(string.optional(), 'DIR', 'start from the weights of a model directory'),
  dryRun: flag('print parameters, memory, FLOPs, steps and tokens, and stop'),
  steps: number(size.optional(), 'optimizer steps', 'as many as fit --duration'),
  duration: {
    kind: 'duration',
    schema: z.number().positive().optional(),
    value: 'TIME',
    defaultText: '2m',
    description: 'choose the steps so that the run takes about this long: 90s, 2m, 1.5h',
  } as const,
  batchSize: number(size.optional(), 'sequences computed at once', 'the preset’s'),
  accumulate: number(size.default(1), 'batches whose gradients add up to one step'),
  checkpointEvery: number(
    count.default(0),
    'activation checkpointing: keep the input of every n-th block, compute the rest again; 0 keeps everything',
  ),
  routerZLoss: number(
    amount.default(0),
    'weight of the router z-loss, which keeps the routers’ logits small; 1e-3 is usual',
  ),
  routerBias: number(
    amount.default(0),
    'balance the experts by biases that move this far a step, in place of the auxiliary loss (--aux-loss 0); 1e-3 is usual',
  ),
  routerJitter: number(z.number().min(0).lt(1).default(0), 'noise on the routers’ inputs: uniform on 1±N'),
  expertCapacity: number(
    amount.default(0),
    'rows that an expert takes, as a multiple of an even share; more are dropped and counted; 0 drops nothing',
  ),
  precision: text(
    z.enum(PRECISIONS).default('f32'),
    PRECISIONS.join('|'),
    'operands of the products of weights in training; sums, weights and the rest stay float32',
  ),
  keepF32: {
    kind: 'list',
    schema: z.array(string).default([...KEPT_IN_F32]),
    value: 'NAME',
    defaultText: KEPT_IN_F32.join(', '),
    description: 'with --precision bf16 or fp16: parts of names of parameters that stay float32; may be repeated',
  } as const,
  lossScale: {
    kind: 'number',
    schema: z.union([z.literal('dynamic'), rate], 'give a positive number, or dynamic').default('dynamic'),
    value: 'N|dynamic',
    description: 'with --precision fp16: factor on the loss',
  } as const,
  ema: number(
    z.number().min(0).lt(1).default(0),
    'evaluate and save an exponential moving average of the weights: 0.999 looks back on 1000 steps; 0 for none',
  ),
  sequenceLength: number(size.optional(), 'tokens of a sequence', 'the preset’s, or the model’s longest'),
  learningRate: number(rate.optional(), 'peak learning rate', 'the preset’s, scaled to the optimizer'),
  fromRate: number(rate.default(1e-6), 'learning rate that a sweep begins with'),
  toRate: number(rate.default(10), 'learning rate that it ends with, if the loss has not exploded before'),
  optimizer: text(string.default('adamw'), 'NAME[:KEY=VALUE,…]', 'optimizer, see `gemmoe plugins`'),
  trainOnly: {
    kind: 'list',
    schema: z.array(string).default([]),
    value: 'PATTERN',
    defaultText: 'everything',
    description: 'freeze what is not of this role or name: router, expert, "layers.3.*"; may be repeated',
  },
  loraRank: number(
    count.default(0),
    'with --init-from: train a low-rank adapter (LoRA) of this rank on the weights, which stay as they are; 8 is usual, 0 trains the weights',
  ),
  loraAlpha: number(
    rate.optional(),
    'with --lora-rank: strength of the adapter, scaled by alpha/rank',
    'twice the rank',
  ),
  loraTargets: {
    kind: 'list',
    schema: z.array(string).default([]),
    value: 'PATTERN',
    defaultText: LORA_TARGETS.join(', '),
    description:
      'with --lora-rank: linear layers that get an adapter, by role or name: attention, expert, q_proj, "model.layers.3.*"; may be repeated',
  } as const,
  schedule: text(
    string.optional(),
    'NAME[:KEY=VALUE,…]',
    'learning-rate schedule, see `gemmoe plugins`',
    'warmup-cosine, or the optimizer’s own',
  ),
  clip: number(z.number().nonnegative().default(1), 'largest global gradient norm; 0 switches clipping off'),
  evalInterval: number(count.optional(), 'steps between validations; 0 for only the last', 'a tenth of the run'),
  evalWindows: number(count.default(64), 'windows of a validation at an interval; 0 for all'),
  patience: number(count.default(0), 'stop early after this many validations without gain; 0 never'),
  minDelta: number(amount.default(0), 'how much lower a validation loss must be to count as a gain'),
  maxTime: {
    kind: 'duration',
    schema: z.number().positive().optional(),
    value: 'TIME',
    description: 'end within this wall time, last validation and checkpoint included; --resume goes on: 10m, 2h',
  } as const,
  skipSpikes: number(
    amount.default(0),
    'do not take steps whose loss or gradient norm is N deviations above the last 128; 6 is usual, 0 takes all',
  ),
  tensorboard: flag(
    'write event files for TensorBoard into the run folder; a resumed run that has some goes on with them',
  ),
  samplePrompt: {
    kind: 'list',
    schema: z.array(string).default([]),
    value: 'TEXT',
    defaultText: 'as the training text begins',
    description: 'what samples go on from; may be repeated, one sample each',
  } as const,
  sampleInterval: number(count.optional(), 'steps between samples; 0 for only the last', 'a fifth of the run'),
  saveInterval: number(count.optional(), 'steps between checkpoints; 0 for only the last', 'a tenth of the run'),
  keepLast: number(size.default(2), 'checkpoints kept besides the best one'),
} as const satisfies Record<string, Option>;

const GENERATION = {
  prompt: text(z.string().optional(), 'TEXT', 'text to continue'),
  promptIds: text(string.optional(), '1,2,3', 'ids to continue, as they are'),
  maxNewTokens: number(size.default(200), 'tokens to write at most'),
  sampler: text(
    string.default('hf'),
    'CHAIN',
    'hf or llamacpp (their order and defaults for the options below), or samplers `NAME[:KEY=VALUE,…];…`, see `gemmoe plugins`',
  ),
  temperature: number(
    z.number().nonnegative().optional(),
    'draw from the probabilities at this temperature; 0 is greedy',
    'the model’s, else greedy with hf and 0.8 with llamacpp',
  ),
  topK: number(
    count.optional(),
    'keep the k most likely tokens; 0 keeps all',
    'the model’s, else 50 with hf and 40 with llamacpp',
  ),
  topP: number(
    share.gt(0).optional(),
    'keep the most likely tokens that reach p',
    'the model’s, else 1 with hf and 0.95 with llamacpp',
  ),
  minP: number(
    share.optional(),
    'keep tokens at least p times as likely as the likeliest',
    'the model’s, else 0 with hf and 0.05 with llamacpp',
  ),
  typicalP: number(share.gt(0).optional(), 'keep tokens of about average surprise that reach p', 'the model’s'),
  topNSigma: number(z.number().nonnegative().optional(), 'keep logits within n deviations of the largest; 0 keeps all'),
  xtcProbability: number(share.optional(), 'how often the top choices are excluded (XTC)'),
  mirostat: number(rate.optional(), 'draw with mirostat 2 and this target surprise in bits, in place of other filters'),
  repetitionPenalty: number(rate.optional(), 'divides the logits of tokens that were there; 1 is none', 'the model’s'),
  frequencyPenalty: number(z.number().optional(), 'lowers a logit for every time its token was there'),
  presencePenalty: number(z.number().optional(), 'lowers the logits of tokens that were there'),
  penaltyLastN: number(size.optional(), 'newest tokens that penalties look at', 'all with hf, 64 with llamacpp'),
  dryMultiplier: number(z.number().nonnegative().optional(), 'strength of the penalty on prolonged repetitions (DRY)'),
  system: text(string.optional(), 'TEXT', 'what a conversation begins with, as the system message'),
  template: text(string.optional(), 'FILE', 'chat template, a Jinja file', 'the model’s own'),
  ignoreEos: flag('write on when the model ends its text'),
  overflow: text(
    z.enum(['slide', 'stop']).default('slide'),
    'slide|stop',
    'when the context is full: go on with its newer half, or stop',
  ),
} as const satisfies Record<string, Option>;

const FILES = {
  to: text(
    z.enum(['safetensors', 'gguf']).default('safetensors'),
    'FORMAT',
    'safetensors or gguf, which llama.cpp runs',
  ),
  dtype: text(
    z.enum(['f32', 'bf16', 'f16', 'q8_0']).optional(),
    'TYPE',
    'type that weights are stored in: f32, bf16, f16, and q8_0 with --to gguf',
    'as they are; f32 for a new model',
  ),
  weights: text(
    z.enum(['floats', 'bf16']).default('floats'),
    'floats|bf16',
    'how the matrices are held while they run: bf16 takes half the memory, sums stay float32',
  ),
  adapter: text(
    string.optional(),
    'DIR',
    'a LoRA adapter (PEFT’s format, or the adapter folder of a run) to add to the model',
  ),
  mergeAdapter: text(string.optional(), 'DIR', 'a LoRA adapter to add to the weights that are written'),
  maxShardSize: {
    kind: 'bytes',
    schema: size.default(5e9),
    value: 'SIZE',
    defaultText: '5GB',
    description: 'size at which a new file of weights begins: 2GB, 500MB',
  } as const,
  noise: number(
    z.number().nonnegative().default(0),
    'noise on the copies of the feed-forward, as a share of its weights',
  ),
  against: text(
    string.optional(),
    'FILE',
    'logits of another program: .safetensors with input_ids and logits, or .npy',
  ),
  tolerance: number(
    z.number().nonnegative().optional(),
    'largest difference of a logit that passes',
    '2e-5; a share of the largest logit where the dump is in 16 bits',
  ),
  force: flag(
    'replace the model that is there, once the new one is whole; train: begin although memory may not suffice, or resume with data and settings that differ where checkpoints fit them',
  ),
} as const satisfies Record<string, Option>;

const OTHER = {
  idsFile: text(string.optional(), 'FILE', 'JSON array of rows of ids; .npy too for parity'),
  decode: flag('turn ids into text'),
  markdown: flag('print Markdown'),
  optimizers: text(string.optional(), 'LIST', 'optimizers to compare, `NAME[:KEY=VALUE,…];…`, or all'),
  schedules: text(string.optional(), 'LIST', 'schedules to compare, `NAME[:KEY=VALUE,…];…`, or all'),
  rates: text(string.default('1'), 'N,…', 'factors on the learning rate to try; the best counts'),
  trials: number(size.default(10), 'timed trials, after three to warm up'),
  only: text(string.optional(), 'PATTERN', 'cases whose names match', 'all'),
  html: text(
    string.optional(),
    'FILE',
    'page of charts to write',
    'report: report.html in the run, or comparison.html beside the first of several',
  ),
  seeds: number(size.default(1), 'trainings of each, with seeds that follow each other; their mean counts'),
} as const satisfies Record<string, Option>;

/** Every option of every command. A missing value without default is undefined. */
export const OPTIONS = { ...GENERAL, ...MODEL, ...DATA, ...TRAINING, ...GENERATION, ...FILES, ...OTHER };

/** The options under the headings that --help shows them with. */
export const GROUPS: readonly { readonly title: string; readonly names: readonly string[] }[] = [
  { title: 'data', names: Object.keys(DATA) },
  { title: 'training', names: Object.keys(TRAINING) },
  { title: 'model and tokenizer', names: Object.keys(MODEL) },
  { title: 'generation', names: Object.keys(GENERATION) },
  { title: 'model files', names: Object.keys(FILES) },
  { title: 'input and output', names: Object.keys(OTHER) },
  { title: 'general', names: Object.keys(GENERAL) },
];

export type OptionName = keyof typeof OPTIONS;

/** Values of the options, checked and with defaults. */
export type OptionValues = { readonly [K in OptionName]: z.infer<(typeof OPTIONS)[K]['schema']> };

/** Options that every command takes. */
export const COMMON: readonly OptionName[] = ['json', 'debug', 'config'];

export function optionOf(name: OptionName): Option {
  return OPTIONS[name];
}

/** `maxNewTokens` -> `max-new-tokens`. */
export function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `maxNewTokens` -> `GEMMOE_MAX_NEW_TOKENS`. */
export function variableOf(name: string): string {
  return `GEMMOE_${flagOf(name).replace(/-/g, '_').toUpperCase()}`;
}

/** The default as --help shows it. */
export function defaultOf(name: OptionName): string | undefined {
  const { defaultText, schema, kind } = optionOf(name);
  if (defaultText !== undefined) return defaultText;
  const value = schema.safeParse(undefined).data;
  if (value === undefined || kind === 'switch' || (Array.isArray(value) && value.length === 0)) return undefined;
  return String(value);
}
