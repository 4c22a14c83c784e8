// Token sources: in memory, and in shards on disk.

import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import { GemmoeError } from '../errors.ts';
import { IGNORE_INDEX } from '../kernels.ts';
import { readTargets, type TokenSource } from './source.ts';
import { openShard, type Shard } from './shards.ts';

/** Token ids as a corpus keeps them: two bytes each while the vocabulary allows. */
export type TokenArray = Uint16Array | Uint32Array;

/** The array type for a vocabulary. */
export function tokenArray(ids: ArrayLike<number>, vocabSize: number): TokenArray {
  return vocabSize <= 0x10000 ? Uint16Array.from(ids) : Uint32Array.from(ids);
}

/** Tokens in memory. */
export class MemorySource implements TokenSource {
  readonly length: number;
  readonly textBytes: number | undefined;
  readonly fingerprint: string;
  readonly isMasked: boolean;
  private readonly tokens: TokenArray;
  private readonly ignored: Uint8Array | undefined;

  /** @param ignored 1 for every token that is not to be learned; default none */
  constructor(tokens: TokenArray, textBytes?: number, ignored?: Uint8Array) {
    this.tokens = tokens;
    this.ignored = ignored;
    this.isMasked = ignored !== undefined;
    this.length = tokens.length;
    this.textBytes = textBytes;
    const bytes = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
    const hash = createHash('sha256').update(bytes);
    if (ignored) hash.update(ignored);
    this.fingerprint = hash.digest('hex').slice(0, 32);
  }

  read(start: number, out: Int32Array, outOffset: number, count: number): void {
    checkRange(this, start, count);
    for (let i = 0; i < count; i++) out[outOffset + i] = this.tokens[start + i];
  }

  readTargets(start: number, out: Int32Array, outOffset: number, count: number): void {
    this.read(start, out, outOffset, count);
    for (let i = 0; this.ignored && i < count; i++)
      if (this.ignored[start + i] === 1) out[outOffset + i] = IGNORE_INDEX;
  }

  close(): void {}
}

/** A range [start, start + length) of another source, as a source. */
export class SourceRange implements TokenSource {
  readonly length: number;
  readonly textBytes: number | undefined;
  readonly fingerprint: string;
  readonly isMasked: boolean;
  private readonly source: TokenSource;
  private readonly start: number;

  /** @param textBytes those that the range's tokens stand for, where they are known */
  constructor(source: TokenSource, start: number, length: number, textBytes?: number) {
    this.textBytes = textBytes;
    this.source = source;
    this.start = start;
    this.length = length;
    this.isMasked = source.isMasked === true;
    this.fingerprint = `${source.fingerprint}[${start}+${length}]`;
  }

  read(start: number, out: Int32Array, outOffset: number, count: number): void {
    checkRange(this, start, count);
    this.source.read(this.start + start, out, outOffset, count);
  }

  readTargets(start: number, out: Int32Array, outOffset: number, count: number): void {
    checkRange(this, start, count);
    readTargets(this.source, this.start + start, out, outOffset, count);
  }

  close(): void {
    this.source.close();
  }
}

/** Sources one behind the other, as one. */
export class JoinedSource implements TokenSource {
  readonly length: number;
  readonly textBytes: number | undefined;
  readonly fingerprint: string;
  readonly isMasked: boolean;
  private readonly parts: readonly TokenSource[];

  constructor(parts: readonly TokenSource[]) {
    this.parts = parts;
    this.isMasked = parts.some(({ isMasked }) => isMasked === true);
    this.length = parts.reduce((sum, { length }) => sum + length, 0);
    const bytes = parts.map(({ textBytes }) => textBytes);
    this.textBytes = bytes.includes(undefined)
      ? undefined
      : bytes.reduce<number>((sum, value) => sum + (value ?? 0), 0);
    this.fingerprint = parts.map(({ fingerprint }) => fingerprint).join('+');
  }

  read(start: number, out: Int32Array, outOffset: number, count: number): void {
    this.eachPart(start, count, (part, first, done, n) => part.read(first, out, outOffset + done, n));
  }

  readTargets(start: number, out: Int32Array, outOffset: number, count: number): void {
    this.eachPart(start, count, (part, first, done, n) => readTargets(part, first, out, outOffset + done, n));
  }

  close(): void {
    for (const part of this.parts) part.close();
  }

  /** Visits the pieces of [start, start + count): the part, its first token, tokens before the piece, tokens of the piece. */
  private eachPart(
    start: number,
    count: number,
    visit: (part: TokenSource, first: number, done: number, n: number) => void,
  ): void {
    checkRange(this, start, count);
    let before = 0;
    let done = 0;
    for (const part of this.parts) {
      if (done === count) return;
      const first = start + done - before;
      const n = Math.min(count - done, part.length - first);
      if (n > 0) {
        visit(part, first, done, n);
        done += n;
      }
      before += part.length;
    }
  }
}

/** Shards one behind the other; only what is asked for is read. */
export class ShardSource implements TokenSource {
  readonly length: number;
  readonly textBytes: number | undefined;
  readonly fingerprint: string;
  private readonly shards: readonly Shard[];
  /** First token of each shard. */
  private readonly firsts: readonly number[];
  private readonly vocabSize: number;
  private buffer = new Uint8Array(0);

  /**
   * @param vocabSize ids from it on are refused when they are read
   * @throws GemmoeError for a file that is no shard
   */
  constructor(paths: readonly string[], vocabSize: number, textBytes?: number) {
    this.shards = openAll(paths);
    this.vocabSize = vocabSize;
    let total = 0;
    this.firsts = this.shards.map(({ count }) => (total += count) - count);
    this.length = total;
    this.textBytes = textBytes;
    const hash = createHash('sha256');
    for (const { path, count, digest } of this.shards)
      hash.update(`${path.split(/[\\/]/).at(-1)} ${count} ${digest}\n`);
    this.fingerprint = hash.digest('hex').slice(0, 32);
  }

  read(start: number, out: Int32Array, outOffset: number, count: number): void {
    checkRange(this, start, count);
    let shard = this.shardAt(start);
    for (let done = 0; done < count; shard++) {
      const first = start + done - this.firsts[shard];
      const part = Math.min(count - done, this.shards[shard].count - first);
      this.readPart(this.shards[shard], first, out, outOffset + done, part);
      done += part;
    }
  }

  close(): void {
    for (const { descriptor } of this.shards) closeSync(descriptor);
  }

  private shardAt(token: number): number {
    let low = 0;
    let high = this.firsts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.firsts[middle] <= token) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  private readPart(shard: Shard, first: number, out: Int32Array, outOffset: number, count: number): void {
    const { path, descriptor, width, headerBytes } = shard;
    const bytes = count * width;
    if (this.buffer.length < bytes) this.buffer = new Uint8Array(bytes);
    const buffer = this.buffer;
    let at = 0;
    while (at < bytes) {
      const read = readSync(descriptor, buffer, at, bytes - at, headerBytes + first * width + at);
      if (read === 0) throw new GemmoeError('bad-data', `${path} has become shorter while it was read`);
      at += read;
    }
    for (let i = 0, b = 0; i < count; i++, b += width) {
      let id = buffer[b] | (buffer[b + 1] << 8);
      if (width === 4) id = (id | (buffer[b + 2] << 16) | (buffer[b + 3] << 24)) >>> 0;
      if (id >= this.vocabSize) throw outsideVocabulary(path, first + i, id, this.vocabSize);
      out[outOffset + i] = id;
    }
  }
}

/** All shards, or none: those that were opened before a bad one are closed. */
function openAll(paths: readonly string[]): Shard[] {
  const shards: Shard[] = [];
  try {
    for (const path of paths) shards.push(openShard(path));
  } catch (error) {
    for (const { descriptor } of shards) closeSync(descriptor);
    throw error;
  }
  return shards;
}

function outsideVocabulary(path: string, token: number, id: number, vocabSize: number): GemmoeError {
  return new GemmoeError(
    'bad-data',
    `${path}: token ${token} is ${id}, outside the tokenizer's vocabulary of ${vocabSize}`,
    'name the tokenizer.json that the shards were made with, or make them again with `gemmoe prepare`',
  );
}

function checkRange({ length }: TokenSource, start: number, count: number): void {
  if (start >= 0 && count >= 0 && start + count <= length) return;
  throw new RangeError(`tokens ${start} to ${start + count} were asked for, there are ${length}`);
}
