// Tokens that a worker thread makes while training runs.

import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { GemmoeError } from '../errors.ts';
import { IGNORE_INDEX } from '../kernels.ts';
import type { TokenSource } from './source.ts';
import {
  COUNTS,
  FAILED,
  FINISHED,
  PRODUCED,
  REQUESTED,
  RUNNING,
  STATE,
  type StreamTask,
  UNLEARNED,
} from './stream-protocol.ts';

/** Tokens that are made ahead of what was asked for: the queue's bound. */
export const DEFAULT_AHEAD = 1 << 20;
/** A worker that gives nothing for so long has died: ten minutes. */
const PATIENCE = 600_000;
/** Sources that are run as they stand, by tests, have their compiled worker beside them. */
const FOLDER = new URL(import.meta.url.endsWith('.ts') ? '../../dist/core/data/' : './', import.meta.url);

/** What is streamed, the places of its files left to the source. */
export interface StreamOptions extends Omit<StreamTask, 'tokensFile' | 'errorFile' | 'counts'> {
  /** Tokens that there will be, about. */
  readonly expected: number;
  /** Whether some of them are not to be learned. */
  readonly isMasked: boolean;
  /** Of the text and its tokenizer: the tokens follow from these. */
  readonly fingerprint: string;
}

/** A source whose end is not known until its worker has come to it. */
export class StreamedSource implements TokenSource {
  readonly textBytes: number | undefined = undefined;
  readonly isStreamed = true;
  readonly isMasked: boolean;
  readonly fingerprint: string;
  /** Milliseconds spent waiting for the worker. */
  waited = 0;
  private readonly expected: number;
  private readonly folder: string;
  private readonly descriptor: number;
  private readonly counts: BigInt64Array;
  private readonly worker: Worker;
  private buffer = new Uint32Array(0);

  constructor(options: StreamOptions) {
    const { expected, isMasked, fingerprint, ...rest } = options;
    this.expected = expected;
    this.isMasked = isMasked;
    this.fingerprint = fingerprint;
    this.folder = mkdtempSync(join(tmpdir(), 'gemmoe-stream-'));
    const counts = new SharedArrayBuffer(COUNTS * 8);
    this.counts = new BigInt64Array(counts);
    writeFileSync(this.tokensFile, '');
    this.descriptor = openSync(this.tokensFile, 'r');
    const files = { tokensFile: this.tokensFile, errorFile: this.errorFile };
    const workerData: StreamTask = { ...rest, ...files, counts };
    this.worker = new Worker(new URL('stream-worker.js', FOLDER), { workerData });
    this.worker.unref();
  }

  /** Exact when the worker has finished, an estimate before. */
  get length(): number {
    return this.isFinished ? this.produced : this.expected;
  }

  /** Waits until there are `count` tokens; false when there will never be so many. @throws GemmoeError when the worker failed */
  ensure(count: number): boolean {
    if (this.requested < count) {
      Atomics.store(this.counts, REQUESTED, BigInt(count));
      Atomics.notify(this.counts, REQUESTED);
    }
    if (this.produced >= count) return true;
    const start = performance.now();
    for (;;) {
      const produced = Atomics.load(this.counts, PRODUCED);
      const state = Atomics.load(this.counts, STATE);
      if (produced >= BigInt(count) || state !== RUNNING) break;
      // the state changes without the count when the end is reached: looked at again soon
      Atomics.wait(this.counts, PRODUCED, produced, 50);
      if (performance.now() - start > PATIENCE) throw this.failure('it has given nothing for ten minutes');
    }
    this.waited += performance.now() - start;
    if (Atomics.load(this.counts, STATE) === FAILED) throw this.failure();
    return this.produced >= count;
  }

  read(start: number, out: Int32Array, outOffset: number, count: number): void {
    const tokens = this.tokens(start, count);
    for (let i = 0; i < count; i++) out[outOffset + i] = tokens[i] & ~UNLEARNED;
  }

  readTargets(start: number, out: Int32Array, outOffset: number, count: number): void {
    const tokens = this.tokens(start, count);
    for (let i = 0; i < count; i++) out[outOffset + i] = tokens[i] >= UNLEARNED ? IGNORE_INDEX : tokens[i];
  }

  close(): void {
    void this.worker.terminate();
    closeSync(this.descriptor);
    rmSync(this.folder, { recursive: true, force: true });
  }

  private get tokensFile(): string {
    return join(this.folder, 'tokens.bin');
  }

  private get errorFile(): string {
    return join(this.folder, 'error.txt');
  }

  private get produced(): number {
    return Number(Atomics.load(this.counts, PRODUCED));
  }

  private get requested(): number {
    return Number(Atomics.load(this.counts, REQUESTED));
  }

  private get isFinished(): boolean {
    return Atomics.load(this.counts, STATE) === FINISHED;
  }

  private tokens(start: number, count: number): Uint32Array {
    if (start < 0 || count < 0 || !this.ensure(start + count)) {
      throw new RangeError(`tokens ${start} to ${start + count} were asked for, there are ${this.produced}`);
    }
    if (this.buffer.length < count) this.buffer = new Uint32Array(count);
    const bytes = new Uint8Array(this.buffer.buffer, 0, count * 4);
    for (let at = 0; at < bytes.length;) {
      const read = readSync(this.descriptor, bytes, at, bytes.length - at, start * 4 + at);
      if (read === 0) throw this.failure('its file has become shorter');
      at += read;
    }
    return this.buffer;
  }

  private failure(what?: string): GemmoeError {
    const said = what ?? (existsSync(this.errorFile) ? readFileSync(this.errorFile, 'utf8') : 'it ended');
    return new GemmoeError(
      'bad-data',
      `the tokenizing worker failed: ${said}`,
      'train without --stream, or prepare the data',
    );
  }
}
