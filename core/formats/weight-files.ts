// The weights of a model directory: one safetensors file, or shards and the index that names them.

import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import { readJsonObject, writeJson } from './json-files.ts';
import {
  byteLengthOf,
  openSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from './safetensors.ts';

const INDEX_FILE = 'model.safetensors.index.json';
const SINGLE_FILE = 'model.safetensors';
/** transformers 4 starts a new shard at this size. */
export const MAX_SHARD_BYTES = 5e9;

/** The safetensors files of a directory: one, or the shards that an index names. Every name is in one file only. */
export class TensorFiles {
  private readonly directory: string;
  private readonly open = new Map<string, SafetensorsFile>();
  /** File of each tensor. */
  private readonly places = new Map<string, string>();

  constructor(directory: string) {
    this.directory = directory;
    try {
      if (existsSync(join(directory, INDEX_FILE))) this.openShards();
      else this.addFile(SINGLE_FILE);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Bytes of all tensors. */
  get bytes(): number {
    let sum = 0;
    for (const file of this.open.values()) for (const { begin, end } of file.tensors.values()) sum += end - begin;
    return sum;
  }

  names(): Iterable<string> {
    return this.places.keys();
  }

  has(name: string): boolean {
    return this.places.has(name);
  }

  /** The file that holds `name`, which must be there. */
  fileOf(name: string): SafetensorsFile {
    return this.open.get(this.places.get(name) ?? '') as SafetensorsFile;
  }

  close(): void {
    for (const file of this.open.values()) file.close();
  }

  private addFile(name: string): SafetensorsFile {
    const file = openSafetensors(join(this.directory, name));
    this.open.set(name, file);
    for (const tensor of file.tensors.keys()) {
      const other = this.places.get(tensor);
      if (other !== undefined) {
        throw new GemmoeError(
          'bad-data',
          `${this.directory}: tensor ${tensor} is in ${other} and in ${name}`,
          'keep one',
        );
      }
      this.places.set(tensor, name);
    }
    return file;
  }

  private openShards(): void {
    const path = join(this.directory, INDEX_FILE);
    const map = readJsonObject(path)['weight_map'];
    if (typeof map !== 'object' || map === null) {
      throw new GemmoeError('bad-data', `${path}: weight_map is missing`, 'fetch the file again');
    }
    const entries = Object.entries(map as Record<string, unknown>);
    for (const shard of new Set(entries.map(([, file]) => file))) {
      if (typeof shard !== 'string' || basename(shard) !== shard || shard === '..') {
        throw new GemmoeError(
          'bad-data',
          `${path}: ${JSON.stringify(shard)} is no file name inside the directory`,
          'an index may name only files beside it',
        );
      }
      if (!existsSync(join(this.directory, shard))) {
        throw new GemmoeError('not-found', `${path} names ${shard}, which is missing`, 'fetch the missing shard');
      }
      this.addFile(shard);
    }
    for (const [tensor, shard] of entries) {
      if (this.places.get(tensor) === shard) continue;
      throw new GemmoeError(
        'bad-data',
        `${path} says ${tensor} is in ${shard}, which does not hold it`,
        'fetch it again',
      );
    }
  }
}

/** The file that a shard is called by. */
function shardName(i: number, count: number): string {
  const number = (value: number) => String(value).padStart(5, '0');
  return `model-${number(i + 1)}-of-${number(count)}.safetensors`;
}

/**
 * Writes tensors as `model.safetensors`, or as shards of at most `maxShardBytes` with an index where they take more; a tensor
 * is never cut. Parts are taken one by one, so that no more than one of them need exist at a time.
 */
export function writeWeightFiles(directory: string, tensors: readonly TensorToWrite[], maxShardBytes: number): void {
  const shards = splitShards(tensors, maxShardBytes);
  if (shards.length === 1) return writeSafetensors(join(directory, SINGLE_FILE), tensors);
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const file = shardName(i, shards.length);
    writeSafetensors(join(directory, file), shard);
    for (const { name } of shard) weightMap[name] = file;
  }
  const total = tensors.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
  writeJson(join(directory, INDEX_FILE), { metadata: { total_size: total }, weight_map: weightMap });
}

function splitShards(tensors: readonly TensorToWrite[], maxShardBytes: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const size = byteLengthOf(tensor);
    if (bytes > 0 && bytes + size > maxShardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards[shards.length - 1].push(tensor);
    bytes += size;
  }
  return shards;
}

/** How a model directory is written. */
export interface WriteOptions {
  /** Bytes after which a new shard begins; default 5 GB. */
  readonly maxShardBytes?: number | undefined;
  /** Replace the model directory that is there, once the new one is whole. */
  readonly replace?: boolean | undefined;
  readonly onProgress?: Progress | undefined;
}

/** Told as bytes are written. */
export type Progress = (bytesDone: number, bytesTotal: number) => void;

/** The same tensors; `onProgress` hears of every part that is taken. */
export function withProgress(tensors: readonly TensorToWrite[], onProgress: Progress | undefined): TensorToWrite[] {
  const total = tensors.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
  let done = 0;
  function* counted(parts: Iterable<ArrayBufferView>): Generator<ArrayBufferView, void> {
    for (const part of parts) {
      yield part;
      done += part.byteLength;
      onProgress?.(done, total);
    }
  }
  return tensors.map((tensor) => ({ ...tensor, parts: counted(tensor.parts) }));
}

/** Weights, of this format or another, and their indexes. */
export function isWeightFile(name: string): boolean {
  return /\.(safetensors|bin|pth?|ckpt|gguf|h5|msgpack|onnx)(\.index\.json)?$/.test(name);
}
