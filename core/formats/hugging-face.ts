// Hugging Face model directories, in and out: config.json, model.safetensors or shards, tokenizer.json, generation_config.json.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { writeCompanions } from '../data/companions.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { GemmoeError } from '../errors.ts';
import type { Kernels } from '../kernels.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import { type ModelOptions, Transformer } from '../model/transformer.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { makeDirectory, writeDirectoryAtomic } from './atomic-files.ts';
import { exportFamily, familyOf, markFamily } from './families/index.ts';
import { ConfigReader, type Family, type RawConfig, type TensorPlace } from './families/family.ts';
import { writeRope } from './families/rope.ts';
import { readJsonObject, writeJson } from './json-files.ts';
import { type StoredType, storedTypeOf, type TensorToWrite } from './safetensors.ts';
import { MAX_SHARD_BYTES, type Progress, TensorFiles, writeWeightFiles } from './weight-files.ts';

/** What config.json calls the types that weights are stored in; torch has no other name for its own float32. */
export const DTYPE_NAMES: Readonly<Partial<Record<StoredType, string>>> = {
  F32: 'float32',
  BF16: 'bfloat16',
  F16: 'float16',
};

/** generation_config.json as parsed. */
export type GenerationConfig = Readonly<Record<string, unknown>>;

export interface LoadedModel {
  readonly model: Transformer;
  /** config.json as read: keys that are not ours are written again on export. */
  readonly original: Record<string, unknown>;
  readonly generation: GenerationConfig | null;
}

/** How a model is loaded. */
export interface LoadOptions extends ModelOptions {
  /** Gives the routers biases of zero where the directory has none. */
  readonly selectionBias?: boolean;
  /** Told as bytes are read. */
  readonly onProgress?: Progress | undefined;
}

export interface SaveOptions {
  /** config.json of the model this one came from. */
  readonly original?: RawConfig;
  readonly generation?: GenerationConfig | null;
  readonly tokenizer?: Tokenizer;
  /** Bytes after which a new shard begins; default 5 GB. */
  readonly maxShardBytes?: number;
}

/** The shape that a directory's config.json describes. */
export function readModelConfig(directory: string): {
  config: ModelConfig;
  family: Family;
  original: Record<string, unknown>;
} {
  const path = join(directory, 'config.json');
  const original = readJsonObject(path);
  const family = familyOf(original['model_type'], path);
  const config = parseModelConfig(family.fromConfig(new ConfigReader(path, original)), path);
  return { config: markFamily(config, family), family, original };
}

/**
 * Loads a model, reading every tensor straight to its place: beside the weights no more than a megabyte is held.
 * @throws GemmoeError for a directory whose config.json and tensors do not agree, naming the tensor
 */
export function loadModel(directory: string, kernels: Kernels, options: LoadOptions = {}): LoadedModel {
  const { config, family, original } = readModelConfig(directory);
  const files = new TensorFiles(directory);
  try {
    const places = findPlaces(family, config, files, directory);
    const addsBias = options.selectionBias === true && config.numExperts > 1;
    const model = new Transformer({ ...config, ...(addsBias && { selectionBias: true }) }, kernels, options);
    readTensors(model, places, files, options.onProgress);
    const generation = join(directory, 'generation_config.json');
    return { model, original, generation: existsSync(generation) ? readJsonObject(generation) : null };
  } finally {
    files.close();
  }
}

/** Reads the tensors of `places` in the order in which they stand on the disk. */
function readTensors(
  model: Transformer,
  places: readonly TensorPlace[],
  files: TensorFiles,
  onProgress?: Progress,
): void {
  const sized = places.map((place) => {
    const { begin, end } = files.fileOf(place.name).tensors.get(place.name) ?? { begin: 0, end: 0 };
    return { place, begin, bytes: end - begin, file: files.fileOf(place.name) };
  });
  const total = sized.reduce((sum, { bytes }) => sum + bytes, 0);
  const order = new Map([...new Set(sized.map(({ file }) => file))].map((file, i) => [file, i]));
  sized.sort((a, b) => (order.get(a.file) ?? 0) - (order.get(b.file) ?? 0) || a.begin - b.begin);
  let done = 0;
  for (const { place, file, bytes } of sized) {
    // native casts are for float32
    const casts = model.dtype === 'f32' ? model.kernels : undefined;
    file.read(place.name, placeIn(model, place, 'data'), 0, casts);
    onProgress?.((done += bytes), total);
  }
}

/** Writes a model directory, whole or not at all. @throws GemmoeError when the directory is not empty */
export function saveModel(directory: string, model: Transformer, options: SaveOptions = {}): void {
  writeDirectoryAtomic(directory, (temporary) => writeModelFiles(temporary, model, options));
}

/** Writes the files of a model directory into an existing folder. */
export function writeModelFiles(directory: string, model: Transformer, options: SaveOptions = {}): void {
  writeDirectoryFiles(directory, model.config, tensorsOf(model, 'data').map(storedAsComputed), options);
}

/** As `writeModelFiles`, for weights that need not be in memory: the tensors of the family's first layout, in any type. */
export function writeDirectoryFiles(
  directory: string,
  config: ModelConfig,
  tensors: readonly TensorToWrite[],
  options: SaveOptions = {},
): void {
  const { original, tokenizer } = options;
  makeDirectory(directory);
  const type = DTYPE_NAMES[tensors[0].dtype] ?? 'float32';
  writeJson(join(directory, 'config.json'), exportConfig(config, type, original, tokenizer));
  writeWeightFiles(directory, tensors, options.maxShardBytes ?? MAX_SHARD_BYTES);
  writeJson(join(directory, 'generation_config.json'), options.generation ?? defaultGeneration(original, tokenizer));
  if (!tokenizer) return;
  writeJson(join(directory, 'tokenizer.json'), tokenizer.toJSON());
  writeCompanions(directory, tokenizer.companions ?? {});
  if (tokenizer.companions?.['tokenizer_config.json'] !== undefined) return;
  writeJson(join(directory, 'tokenizer_config.json'), {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: config.maxSequenceLength,
    clean_up_tokenization_spaces: false,
    ...(tokenizer.endOfText !== undefined && {
      eos_token: tokenizer.decode([tokenizer.endOfText], { specialTokens: true }),
    }),
  });
}

/** The model's weights or gradients under the names and shapes that its family writes. */
export function tensorsOf(
  model: Transformer,
  what: 'data' | 'gradient',
): { name: string; shape: readonly number[]; data: FloatArray | Uint16Array }[] {
  const [places] = exportFamily(model.config).layouts(model.config);
  const isBuffer = ({ parameter }: TensorPlace) => model.parameters.buffers.some(({ name }) => name === parameter);
  const wanted = what === 'data' ? places : places.filter((place) => !isBuffer(place));
  return wanted.map((place) => ({ name: place.name, shape: place.shape, data: placeIn(model, place, what) }));
}

function placeIn(model: Transformer, place: TensorPlace, what: 'data' | 'gradient'): FloatArray | Uint16Array {
  const length = place.shape.reduce((product, size) => product * size, 1);
  const buffer = model.parameters.buffers.find(({ name }) => name === place.parameter);
  if (buffer) return buffer.data.subarray(place.offset, place.offset + length);
  const parameter = model.parameters.get(place.parameter);
  return (parameter.bf16 ?? parameter[what]).subarray(place.offset, place.offset + length);
}

// ---------------------------------------------------------------- reading

/** Where each tensor of the files belongs. @throws GemmoeError for a missing, unknown or misshapen one, naming it */
export function findPlaces(
  family: Family,
  config: ModelConfig,
  files: TensorFiles,
  directory: string,
): readonly TensorPlace[] {
  const places = chooseLayout(family, config, files, directory);
  checkTensors(places, files, directory, config, family);
  return places;
}

/** The layout all of whose names are in the files; failing that, the one with the most. */
function chooseLayout(
  family: Family,
  config: ModelConfig,
  files: TensorFiles,
  directory: string,
): readonly TensorPlace[] {
  const { numLayers, numExperts } = config;
  if (numLayers * numExperts > files.bytes) {
    throw disagreement(directory, `${numLayers} layers of ${numExperts} experts cannot be in ${files.bytes} bytes`);
  }
  let best: readonly TensorPlace[] | undefined;
  let fewestMissing = Infinity;
  for (const layout of family.layouts(config)) {
    const missing = layout.filter((place) => !files.has(place.name)).length;
    if (missing < fewestMissing) [best, fewestMissing] = [layout, missing];
  }
  if (!best) throw new GemmoeError('internal', `${directory}: ${family.modelType} has no layout`);
  return best;
}

/** Names and shapes of config.json against those of the files. */
function checkTensors(
  places: readonly TensorPlace[],
  files: TensorFiles,
  directory: string,
  config: ModelConfig,
  { ignores }: Family,
): void {
  const expected = new Set(places.map((place) => place.name));
  for (const { name, shape } of places) {
    if (!files.has(name)) {
      throw disagreement(directory, `tensor ${name} [${shape}] that config.json implies is missing`);
    }
    const found = files.fileOf(name).tensors.get(name)?.shape ?? [];
    if (found.join() !== shape.join()) {
      throw disagreement(directory, `tensor ${name} is [${found}] in the file, but config.json implies [${shape}]`);
    }
  }
  for (const name of files.names()) {
    // some tools write the shared table twice, or the rope frequencies that follow from the config
    if (expected.has(name) || name.endsWith('.rotary_emb.inv_freq')) continue;
    if (config.tieEmbeddings && name === 'lm_head.weight') continue;
    if (ignores?.(name)) continue;
    throw disagreement(directory, `tensor ${name} is none that config.json implies`);
  }
}

function disagreement(directory: string, what: string): GemmoeError {
  return new GemmoeError('bad-data', `${directory}: ${what}`, 'config.json and the weights are not of one model');
}

// ---------------------------------------------------------------- writing

function exportConfig(
  config: ModelConfig,
  dtype: string,
  original: RawConfig | undefined,
  tokenizer: Tokenizer | undefined,
): Record<string, unknown> {
  const family = exportFamily(config);
  // some checkpoints name a class of their own
  const isSame = original?.['model_type'] === family.modelType && Array.isArray(original['architectures']);
  const kept = Object.fromEntries(Object.entries(original ?? {}).filter(([key]) => key !== 'model_type'));
  return {
    bos_token_id: null,
    eos_token_id: tokenizer?.endOfText ?? null,
    ...kept,
    ...family.toConfig(config),
    architectures: isSame ? original['architectures'] : [family.architecture],
    model_type: family.modelType,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.maxSequenceLength,
    rms_norm_eps: config.normEps,
    hidden_act: 'silu',
    tie_word_embeddings: config.tieEmbeddings,
    ...writeRope(config),
    torch_dtype: dtype,
    dtype,
  };
}

function defaultGeneration(original: RawConfig | undefined, tokenizer: Tokenizer | undefined): GenerationConfig {
  return {
    bos_token_id: original?.['bos_token_id'] ?? null,
    eos_token_id: tokenizer?.endOfText ?? original?.['eos_token_id'] ?? null,
    do_sample: true,
    temperature: 0.8,
    top_p: 0.95,
    top_k: 0,
  };
}

function storedAsComputed({ name, shape, data }: ReturnType<typeof tensorsOf>[number]): TensorToWrite {
  return { name, dtype: storedTypeOf(data), shape, parts: [data] };
}
