// A model directory in another storage type or other shards. Works on names and bytes, so on every architecture.

import { cpSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import type { Kernels } from '../kernels.ts';
import { Transformer } from '../model/transformer.ts';
import { writeDirectoryAtomic } from './atomic-files.ts';
import { loadAdapter } from './adapter.ts';
import { DTYPE_NAMES, findPlaces, readModelConfig } from './hugging-face.ts';
import { readJsonObject, writeJson } from './json-files.ts';
import { checkTarget } from './output-place.ts';
import { byteLengthOf, type StoredTensor, type TensorToWrite } from './safetensors.ts';
import { FLOAT_TYPES, type FloatType, readPieces, storedPieces } from './stored-values.ts';
import {
  isWeightFile,
  MAX_SHARD_BYTES,
  TensorFiles,
  withProgress,
  type WriteOptions,
  writeWeightFiles,
} from './weight-files.ts';

export interface ConvertOptions extends WriteOptions {
  /** An adapter to add to the weights, and what multiplies its factors. */
  readonly merge?: { readonly adapter: string; readonly kernels: Kernels } | undefined;
  /** Type that floating-point tensors are stored in; as they are when left out. */
  readonly dtype?: FloatType | undefined;
}

export interface ConvertSummary {
  readonly tensors: number;
  /** Bytes of all tensors before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** What is not as it was, in sentences. */
  readonly notes: readonly string[];
}

/** Types that a cast starts from. */
const FLOATS = ['F64', 'F32', 'BF16', 'F16'];
/** Types that a sum with an adapter is rounded to. */
const WRITTEN: readonly string[] = Object.values(FLOAT_TYPES);

/**
 * Writes the model of `source` to `target`, tensor by tensor; config.json names the new type, every other file is copied.
 * @throws GemmoeError for a target that exists, quantised weights, and numbers too large for float16
 */
export function convertDirectory(source: string, target: string, options: ConvertOptions = {}): ConvertSummary {
  const { dtype, maxShardBytes = MAX_SHARD_BYTES, replace = false, onProgress } = options;
  const config = readJsonObject(join(source, 'config.json'));
  checkTarget(target, source, replace);
  const files = new TensorFiles(source);
  try {
    const merged = options.merge
      ? mergedTensors(source, files, options.merge, dtype)
      : new Map<string, TensorToWrite>();
    const tensors = [...files.names()].map((name) => merged.get(name) ?? converted(files, name, dtype));
    const bytesAfter = tensors.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
    const build = (temporary: string) => {
      copyCompanions(source, temporary);
      writeJson(join(temporary, 'config.json'), withType(config, dtype));
      writeWeightFiles(temporary, withProgress(tensors, onProgress), maxShardBytes);
    };
    writeDirectoryAtomic(target, build, { replace });
    return { tensors: tensors.length, bytesBefore: files.bytes, bytesAfter, notes: [] };
  } finally {
    files.close();
  }
}

function converted(files: TensorFiles, name: string, wanted: FloatType | undefined): TensorToWrite {
  const file = files.fileOf(name);
  const { dtype, shape } = file.tensors.get(name) as StoredTensor;
  const isFloat = FLOATS.includes(dtype);
  if (wanted !== undefined && wanted !== dtype && isFloat) {
    const length = shape.reduce((product, size) => product * size, 1);
    return { name, shape, dtype: wanted, parts: storedPieces(name, wanted, readPieces(file, name, 0, length)) };
  }
  if (wanted !== undefined && !isFloat && dtype.startsWith('F8')) {
    throw new GemmoeError(
      'unavailable',
      `${file.path}: tensor ${name} holds ${dtype}, quantised weights whose scales are not understood`,
      'convert a directory of f32, bf16 or f16 weights',
    );
  }
  return { name, shape, dtype, parts: file.rawPieces(name) };
}

/** The tensors that an adapter changes, summed in float32 a tensor at a time as they are written. */
function mergedTensors(
  source: string,
  files: TensorFiles,
  { adapter: directory, kernels }: NonNullable<ConvertOptions['merge']>,
  wanted: FloatType | undefined,
): Map<string, TensorToWrite> {
  const { config, family } = readModelConfig(source);
  // never looked into, so its weights are not allocated
  const adapter = loadAdapter(directory, new Transformer(config, kernels));
  const tensors = new Map<string, TensorToWrite>();
  for (const { name, shape, parameter, offset } of findPlaces(family, config, files, source)) {
    const length = shape.reduce((product, size) => product * size, 1);
    if (!adapter.touches(parameter, offset, length)) continue;
    const file = files.fileOf(name);
    const stored = (file.tensors.get(name) as StoredTensor).dtype;
    const dtype = wanted ?? (WRITTEN.includes(stored) ? (stored as FloatType) : 'F32');
    function* sum(): Generator<Float32Array, void> {
      const values = new Float32Array(length);
      file.read(name, values);
      adapter.addTo(values, parameter, offset);
      yield values;
    }
    tensors.set(name, { name, shape, dtype, parts: storedPieces(name, dtype, sum()) });
  }
  return tensors;
}

function withType(config: Record<string, unknown>, dtype: FloatType | undefined): Record<string, unknown> {
  if (dtype === undefined) return config;
  if (config['quantization_config'] !== undefined && config['quantization_config'] !== null) {
    throw new GemmoeError(
      'unavailable',
      'config.json has a quantization_config: the weights are quantised',
      'convert a directory of f32, bf16 or f16 weights',
    );
  }
  // transformers 4 reads the first, transformers 5 the second
  return { ...config, torch_dtype: DTYPE_NAMES[dtype], dtype: DTYPE_NAMES[dtype] };
}

/** Written anew, and the state of the training that a checkpoint stems from. */
const NOT_COPIED = ['config.json', 'training_state.json'];

/** Tokenizer, chat templates, licence and whatever else stands in a model directory, but not its weights in any format. */
export function copyCompanions(source: string, target: string): void {
  for (const entry of readdirSync(source)) {
    if (NOT_COPIED.includes(entry) || isWeightFile(entry) || entry.startsWith('.')) continue;
    if (!existsSync(join(target, entry)))
      cpSync(join(source, entry), join(target, entry), { recursive: true, dereference: true });
  }
}
