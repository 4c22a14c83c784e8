// Batches cut from a token source. Which windows a step sees is a pure function of seed and step, so nothing of it needs saving
// and a resumed run goes on with the batch it would have had.

import { GemmoeError } from '../errors.ts';
import { Permutation, Random } from '../random.ts';
import type { TokenSource } from './source.ts';

export interface BatchOptions {
  /** B */
  readonly batchSize: number;
  /** T */
  readonly sequenceLength: number;
  /**
   * `shuffle`: every window once an epoch, in random order, windows starting at a random phase each epoch;
   * `random`: independent uniform offsets; `sequential`: windows in order.
   */
  readonly order: 'shuffle' | 'random' | 'sequential';
  readonly seed: number;
}

/** Fills ids [B·T] and targets [B·T], each target the id that follows. */
export class BatchSampler {
  private readonly source: TokenSource;
  private readonly options: BatchOptions;
  private readonly random: Random;
  /** T ids and the one that follows. */
  private readonly window: Int32Array;
  private epoch = -1;
  private phase = 0;
  private permutation: Permutation | undefined;

  /** @throws GemmoeError when the source is shorter than a window, or than a batch of them */
  constructor(source: TokenSource, options: BatchOptions) {
    this.source = source;
    this.options = options;
    this.random = new Random(options.seed, 'batches');
    this.window = new Int32Array(options.sequenceLength + 1);
    const needed = options.order === 'random' ? options.sequenceLength + 1 : this.windowTokens(options.batchSize) + 1;
    if (source.length >= needed) return;
    throw new GemmoeError(
      'bad-data',
      `the training text has ${source.length} tokens, a batch of ${options.batchSize} x ${options.sequenceLength} needs ${needed}`,
      'give more text, or a smaller batch or sequence length',
    );
  }

  /** Windows of one epoch. */
  get windowsPerEpoch(): number {
    const { sequenceLength: T, order } = this.options;
    // the phase of a shuffled epoch may cost one window
    const spare = order === 'shuffle' && this.source.length > 2 * T ? T : 0;
    return Math.max(1, Math.floor((this.source.length - 1 - spare) / T));
  }

  /** The batch of step 1, 2, …; returns the epoch of its first window, counted from 0. */
  fill(step: number, ids: Int32Array, targets: Int32Array): number {
    const { batchSize: B, sequenceLength: T, order } = this.options;
    const first = (step - 1) * B;
    for (let b = 0; b < B; b++) {
      const start = order === 'random' ? this.randomStart(step, b) : this.windowStart(first + b);
      this.source.read(start, this.window, 0, T + 1);
      for (let t = 0; t < T; t++) {
        ids[b * T + t] = this.window[t];
        targets[b * T + t] = this.window[t + 1];
      }
    }
    return Math.floor(order === 'random' ? (first * T) / this.source.length : first / this.windowsPerEpoch);
  }

  private randomStart(step: number, index: number): number {
    return this.random.below(this.source.length - this.options.sequenceLength, step, index);
  }

  /** First token of the window that is the `index`-th since the beginning. */
  private windowStart(index: number): number {
    const { sequenceLength: T, order } = this.options;
    const epoch = Math.floor(index / this.windowsPerEpoch);
    const within = index % this.windowsPerEpoch;
    if (order === 'sequential') return within * T;
    if (epoch !== this.epoch || !this.permutation) {
      const spare = this.source.length - 1 - this.windowsPerEpoch * T;
      this.epoch = epoch;
      this.phase = this.random.below(Math.min(T, spare + 1), epoch, 1);
      this.permutation = new Permutation(this.windowsPerEpoch, new Random(this.options.seed, 'shuffle'), epoch);
    }
    return this.phase + this.permutation.permute(within) * T;
  }

  private windowTokens(windows: number): number {
    return windows * this.options.sequenceLength;
  }
}

/** The non-overlapping windows of a validation split. */
export interface Windows {
  readonly count: number;
  /** Writes T ids and their T targets at `offset`. */
  fill(index: number, ids: Int32Array, targets: Int32Array, offset: number): void;
}

/** floor((length - 1) / T) windows, each beginning where the one before ended. */
export function validationWindows(source: TokenSource, sequenceLength: number): Windows {
  const window = new Int32Array(sequenceLength + 1);
  return {
    count: Math.max(0, Math.floor((source.length - 1) / sequenceLength)),
    fill(index, ids, targets, offset) {
      source.read(index * sequenceLength, window, 0, sequenceLength + 1);
      for (let t = 0; t < sequenceLength; t++) {
        ids[offset + t] = window[t];
        targets[offset + t] = window[t + 1];
      }
    },
  };
}
