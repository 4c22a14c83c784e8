// Windows shuffled within blocks: a block is all that must be there, or be near on disk, while it is read.

import { Permutation, Random } from '../random.ts';
import type { TokenSource } from './source.ts';
import type { Place, RowSequence, WindowOptions } from './windows.ts';

/** Windows of a block of a stream, where it is not said. */
const STREAM_BLOCK = 1024;

/** Blocks of a stream come as they are made, in every epoch; those of a source that is all there come in random order. */
export class BlockSequence implements RowSequence {
  private readonly source: TokenSource;
  private readonly options: WindowOptions;
  private readonly size: number;
  private readonly random: Random;
  private readonly blocks: Random;

  constructor(source: TokenSource, options: WindowOptions, blockWindows: number) {
    this.source = source;
    this.options = options;
    this.size = options.order === 'sequential' ? 1 : blockWindows || STREAM_BLOCK;
    this.random = new Random(options.seed, 'shuffle');
    this.blocks = new Random(options.seed, 'blocks');
  }

  get perEpoch(): number {
    return Math.max(1, Math.floor((this.source.length - 1) / this.options.sequenceLength));
  }

  epoch(index: number): number {
    return this.isThere(index + 1) ? 0 : Math.floor(index / this.perEpoch);
  }

  place(index: number): Place {
    const { sequenceLength: count, order } = this.options;
    const epoch = this.epoch(index);
    const within = epoch === 0 ? index : index % this.perEpoch;
    if (order === 'sequential') return { start: within * count, count };
    const place = Math.floor(within / this.size);
    const block = this.blockOf(place, epoch);
    const first = block * this.size;
    // of the last block of a stream, only the end shows how long it is
    const windows = this.isThere(first + this.size) ? this.size : this.perEpoch - first;
    const step = epoch * 2 ** 20 + block;
    return {
      start: (first + new Permutation(windows, this.random, step).permute(within - place * this.size)) * count,
      count,
    };
  }

  /** The block that is read as the `place`-th; the last one, which is shorter, keeps its place. */
  private blockOf(place: number, epoch: number): number {
    if (this.source.isStreamed) return place;
    const whole = Math.floor(this.perEpoch / this.size);
    return place < whole && whole > 1 ? new Permutation(whole, this.blocks, epoch).permute(place) : place;
  }

  /** Whether the source has so many windows; waits for a stream. */
  private isThere(windows: number): boolean {
    const tokens = windows * this.options.sequenceLength + 1;
    return this.source.ensure?.(tokens) ?? tokens <= this.source.length;
  }
}
