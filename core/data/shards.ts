// Token shards on disk. llm.c's .bin: a header of 256 int32 (magic, version, count), then the ids, little-endian: 16 bits with
// magic 20240520 version 1, 32 bits with magic 20240801 version 7. nanoGPT's .bin is the 16-bit ids alone.

import { createHash } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { GemmoeError, messageOf } from '../errors.ts';

const HEADER_INTS = 256;
const HEADER_BYTES = HEADER_INTS * 4;
const KINDS = [
  { magic: 20240520, version: 1, width: 2 },
  { magic: 20240801, version: 7, width: 4 },
] as const;
/** The count stands in an int32. */
export const MAX_SHARD_TOKENS = 2 ** 31 - 1;

/** An open shard. */
export interface Shard {
  readonly path: string;
  readonly descriptor: number;
  /** Tokens. */
  readonly count: number;
  /** Bytes of a token. */
  readonly width: 2 | 4;
  /** Bytes before the first token. */
  readonly headerBytes: number;
  /** Hash of the size and of samples of the content: cheap for any size, and it changes with most changes. */
  readonly digest: string;
}

/** Opens a shard of either kind. @throws GemmoeError naming the file and what is wrong with it */
export function openShard(path: string): Shard {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (error) {
    throw new GemmoeError('not-found', `cannot open ${path}: ${messageOf(error)}`, 'check the path');
  }
  try {
    const size = fstatSync(descriptor).size;
    const layout = readLayout(path, descriptor, size);
    return { path, descriptor, ...layout, digest: sampleDigest(descriptor, size) };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

function readLayout(path: string, descriptor: number, size: number): Pick<Shard, 'count' | 'width' | 'headerBytes'> {
  const header = new DataView(new ArrayBuffer(12));
  if (readSync(descriptor, header, 0, 12, 0) === 12) {
    const magic = header.getInt32(0, true);
    const kind = KINDS.find((candidate) => candidate.magic === magic);
    if (kind) {
      const version = header.getInt32(4, true);
      const count = header.getInt32(8, true);
      if (version !== kind.version) {
        throw new GemmoeError(
          'bad-data',
          `${path} has version ${version}, not ${kind.version}`,
          'write the shard again',
        );
      }
      const expected = HEADER_BYTES + count * kind.width;
      if (count < 0 || size !== expected) {
        throw new GemmoeError(
          'bad-data',
          `${path} says it has ${count} tokens, which take ${expected} bytes, but is ${size} bytes long`,
          'write the shard again',
        );
      }
      return { count, width: kind.width, headerBytes: HEADER_BYTES };
    }
    // token pairs that look so would need an id beyond GPT-2's vocabulary
    if (magic >= 20240000 && magic < 20250000) {
      throw new GemmoeError(
        'bad-data',
        `${path} is no token shard: its magic number is ${magic}, not ${KINDS.map((known) => known.magic).join(' or ')}`,
        'make shards with `gemmoe prepare`',
      );
    }
  }
  if (size === 0 || size % 2 !== 0) {
    throw new GemmoeError(
      'bad-data',
      `${path} is no token shard: it has no llm.c header, and ${size} bytes are no 16-bit tokens either`,
      'make shards with `gemmoe prepare`',
    );
  }
  return { count: size / 2, width: 2, headerBytes: 0 };
}

const SAMPLES = 64;
const SAMPLE_BYTES = 4096;

/** Hash of the size of an open file and of samples of its content. */
export function sampleDigest(descriptor: number, size: number): string {
  const hash = createHash('sha256').update(String(size));
  const buffer = new Uint8Array(SAMPLE_BYTES);
  const last = Math.max(0, size - SAMPLE_BYTES);
  for (let i = 0; i < SAMPLES; i++) {
    const read = readSync(descriptor, buffer, 0, SAMPLE_BYTES, Math.floor((last * i) / (SAMPLES - 1)));
    hash.update(buffer.subarray(0, read));
    if (size <= SAMPLE_BYTES) break;
  }
  return hash.digest('hex').slice(0, 32);
}

/** Writes one shard as its tokens come; the header's count is filled in at the end. */
export class ShardWriter {
  readonly path: string;
  private readonly descriptor: number;
  private readonly width: 2 | 4;
  private readonly chunk: Uint8Array;
  private used = 0;
  private written = 0;

  constructor(path: string, vocabSize: number) {
    this.path = path;
    this.width = vocabSize <= 0x10000 ? 2 : 4;
    this.chunk = new Uint8Array(1 << 16);
    this.descriptor = openSync(path, 'w');
    writeSync(this.descriptor, new Uint8Array(HEADER_BYTES));
  }

  /** Tokens so far. */
  get count(): number {
    return this.written;
  }

  push(id: number): void {
    if (this.used + this.width > this.chunk.length) this.flush();
    this.chunk[this.used++] = id;
    this.chunk[this.used++] = id >>> 8;
    if (this.width === 4) {
      this.chunk[this.used++] = id >>> 16;
      this.chunk[this.used++] = id >>> 24;
    }
    this.written++;
  }

  close(): void {
    this.flush();
    const kind = KINDS.find(({ width }) => width === this.width) as (typeof KINDS)[number];
    const header = Int32Array.of(kind.magic, kind.version, this.written);
    writeSync(this.descriptor, header, 0, header.byteLength, 0);
    fsyncSync(this.descriptor);
    closeSync(this.descriptor);
  }

  private flush(): void {
    for (let at = 0; at < this.used;) at += writeSync(this.descriptor, this.chunk, at, this.used - at);
    this.used = 0;
  }
}
