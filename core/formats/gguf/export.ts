// A model directory as one GGUF file that llama.cpp runs, tensor by tensor in bounded memory.

import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { makeFileAtomic } from '../atomic-files.ts';
import { ConfigReader } from '../families/family.ts';
import { readJsonObject } from '../json-files.ts';
import { type Progress, TensorFiles } from '../weight-files.ts';
import { architectureOf } from './architectures.ts';
import { planGguf } from './plan.ts';
import { type PlannedTensor, TensorSource } from './source.ts';
import { GGML_TYPES, tensorBytes, u32, type WrittenType } from './types.ts';
import { addVocabulary } from './vocabulary.ts';
import { writeGguf } from './write-gguf.ts';

export interface GgufExportOptions {
  /** Type of the matrices; that of the embedding table when left out. Norms, biases and routers are float32. */
  readonly type?: WrittenType | undefined;
  /** Replace the file that is there, once the new one is whole. */
  readonly replace?: boolean | undefined;
  readonly onProgress?: Progress | undefined;
}

export interface GgufSummary {
  readonly architecture: string;
  readonly tensors: number;
  readonly type: WrittenType;
  /** Bytes of all tensors before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** What llama.cpp will do otherwise, in sentences. */
  readonly notes: readonly string[];
}

/** `general.file_type` of each type of matrices. */
const FILE_TYPES: Readonly<Record<WrittenType, number>> = { F32: 0, F16: 1, Q8_0: 7, BF16: 32 };
/** Version of the layouts of quantised blocks. */
const QUANTISATION_VERSION = 2;

/**
 * Writes the model of `directory` to the file `target`, whole or not at all.
 * @throws GemmoeError for families, settings and tokenizers that llama.cpp does not have, and a file that exists
 */
export function exportGguf(directory: string, target: string, options: GgufExportOptions = {}): GgufSummary {
  const path = join(directory, 'config.json');
  const config = readJsonObject(path);
  const files = new TensorFiles(directory);
  try {
    const source = new TensorSource(directory, files);
    const reader = new ConfigReader(path, config);
    const { metadata, tensors, notes } = planGguf(reader, source, modelName(directory));
    const type = options.type ?? typeOfTable(files);
    metadata.set('general.file_type', u32(FILE_TYPES[type]));
    metadata.set('general.quantization_version', u32(QUANTISATION_VERSION));
    const vocabularyNotes = addVocabulary(metadata, directory, withStops(directory, config), reader.size('vocab_size'));
    const chosen = tensors.map((tensor) => ({ ...tensor, type: typeFor(tensor, type), pieces: source.pieces(tensor) }));
    const bytesAfter = chosen.reduce((sum, { type: own, shape }) => sum + tensorBytes(own, shape), 0);
    let done = 0;
    const onBytes = (count: number) => options.onProgress?.((done += count), bytesAfter);
    makeFileAtomic(target, (temporary) => writeGguf(temporary, metadata, chosen, onBytes), options.replace ?? false);
    const halves = type === 'Q8_0' ? chosen.filter((tensor) => tensor.type === 'F16').length : 0;
    const coarse = `${halves} tensors whose rows are no multiple of ${GGML_TYPES.Q8_0.block} are stored in F16`;
    return {
      architecture: architectureOf(reader.raw['model_type'], path).name,
      tensors: tensors.length,
      type,
      bytesBefore: files.bytes,
      bytesAfter,
      notes: [...notes, ...vocabularyNotes, ...(halves > 0 ? [coarse] : [])],
    };
  } finally {
    files.close();
  }
}

/** The last folder of the path that says something: `runs/mine/model` is called mine. */
function modelName(directory: string): string {
  const name = basename(directory);
  return name === 'model' ? basename(dirname(directory)) : name;
}

function typeOfTable(files: TensorFiles): WrittenType {
  const stored = files.fileOf('model.embed_tokens.weight').tensors.get('model.embed_tokens.weight')?.dtype;
  return stored === 'BF16' || stored === 'F16' ? stored : 'F32';
}

/** What is small and decides much stays float32; rows that are no whole blocks cannot be quantised. */
function typeFor({ name, shape }: PlannedTensor, type: WrittenType): WrittenType {
  if (shape.length === 1 || isRouter(name)) return 'F32';
  const row = shape[shape.length - 1];
  return type === 'Q8_0' && row % GGML_TYPES.Q8_0.block !== 0 ? 'F16' : type;
}

function isRouter(name: string): boolean {
  return name.endsWith('.ffn_gate_inp.weight');
}

/** config.json with the ends of a text that generation_config.json names, which counts for more. */
function withStops(directory: string, config: Record<string, unknown>): Record<string, unknown> {
  const path = join(directory, 'generation_config.json');
  const generation = existsSync(path) ? readJsonObject(path) : {};
  return { ...config, ...(generation['eos_token_id'] !== undefined && { eos_token_id: generation['eos_token_id'] }) };
}
