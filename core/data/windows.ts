// Which windows of a source are read in which order. The place of the i-th window is a function of seed and i alone.

import { Permutation, Random } from '../random.ts';
import type { TokenSource } from './source.ts';

/**
 * `shuffle`: every window once an epoch, in random order, windows starting at a random phase each epoch;
 * `random`: independent uniform offsets; `sequential`: windows in order.
 */
export type WindowOrder = 'shuffle' | 'random' | 'sequential';

/** Where windows of T tokens are to start, and in what order. */
export interface WindowOptions {
  /** T */
  readonly sequenceLength: number;
  readonly order: WindowOrder;
  readonly seed: number;
  /** Windows that are shuffled among themselves; 0 (default) for all of an epoch, or 1024 of a stream. */
  readonly shuffleBlock?: number | undefined;
}

/** Tokens of a source that one row holds; the last one's target follows them. */
export interface Place {
  readonly start: number;
  /** At most T. */
  readonly count: number;
}

/** The rows of one source, as a function of their number. */
export interface RowSequence {
  /** Rows of one epoch. */
  readonly perEpoch: number;
  /** The epoch of the `index`-th row, counted from 0. */
  epoch(index: number): number;
  /** The `index`-th row since the beginning; with order `random`, the one at `place` of the batch of `step`. */
  place(index: number, step: number, place: number): Place;
}

/** The windows of one source. */
export class WindowSequence implements RowSequence {
  private readonly source: TokenSource;
  private readonly options: WindowOptions;
  private readonly phases: Random;
  private readonly shuffles: Random;
  private current = -1;
  private phase = 0;
  private permutation: Permutation | undefined;

  constructor(source: TokenSource, options: WindowOptions) {
    this.source = source;
    this.options = options;
    this.phases = new Random(options.seed, 'batches');
    this.shuffles = new Random(options.seed, 'shuffle');
  }

  get perEpoch(): number {
    const { sequenceLength: T, order } = this.options;
    // the phase of a shuffled epoch may cost one window
    const spare = order === 'shuffle' && this.source.length > 2 * T ? T : 0;
    return Math.max(1, Math.floor((this.source.length - 1 - spare) / T));
  }

  epoch(index: number): number {
    return Math.floor(index / this.perEpoch);
  }

  place(index: number, step: number, place: number): Place {
    return { start: this.start(index, step, place), count: this.options.sequenceLength };
  }

  private start(index: number, step: number, place: number): number {
    const { sequenceLength: T, order } = this.options;
    if (order === 'random') return this.phases.below(this.source.length - T, step, place);
    const epoch = Math.floor(index / this.perEpoch);
    const within = index % this.perEpoch;
    if (order === 'sequential') return within * T;
    if (epoch !== this.current || !this.permutation) this.begin(epoch);
    return this.phase + (this.permutation as Permutation).permute(within) * T;
  }

  private begin(epoch: number): void {
    const { sequenceLength: T } = this.options;
    const spare = this.source.length - 1 - this.perEpoch * T;
    this.current = epoch;
    this.phase = this.phases.below(Math.min(T, spare + 1), epoch, 1);
    this.permutation = new Permutation(this.perEpoch, this.shuffles, epoch);
  }
}
