// Rows that hold one document each, or a piece of one that is longer; what is left of a row is padding.

import { IGNORE_INDEX } from '../kernels.ts';
import { Permutation, Random } from '../random.ts';
import { readTargets, type TokenSource } from './source.ts';
import type { Place, RowSequence, WindowOptions } from './windows.ts';

/** Tokens that are looked through at once. */
const CHUNK = 1 << 16;

/** The documents of one source, in rows. */
export class PieceSequence implements RowSequence {
  /** First token and number of tokens of each piece, one behind the other. */
  private readonly pieces: readonly Place[];
  private readonly options: WindowOptions;
  private readonly random: Random;
  private current = -1;
  private permutation: Permutation | undefined;

  /** Reads the source once. @param separator id that stands behind every document */
  constructor(source: TokenSource, separator: number, options: WindowOptions) {
    this.options = options;
    this.random = new Random(options.seed, 'shuffle');
    this.pieces = piecesOf(source, separator, options.sequenceLength);
  }

  get perEpoch(): number {
    return this.pieces.length;
  }

  epoch(index: number): number {
    return Math.floor(index / this.perEpoch);
  }

  place(index: number, step: number, place: number): Place {
    const { order } = this.options;
    if (order === 'random') return this.pieces[this.random.below(this.perEpoch, step, place)];
    const epoch = Math.floor(index / this.perEpoch);
    const within = index % this.perEpoch;
    if (order === 'sequential') return this.pieces[within];
    if (epoch !== this.current || !this.permutation) {
      this.current = epoch;
      this.permutation = new Permutation(this.perEpoch, this.random, epoch);
    }
    return this.pieces[this.permutation.permute(within)];
  }
}

/**
 * Pieces of at most `longest` tokens, each with a target for its last one. A document begins with the separator before it where
 * that one is to predict its first token: so it does when the model writes. Pieces without any target are left out.
 */
function piecesOf(source: TokenSource, separator: number, longest: number): Place[] {
  const pieces: Place[] = [];
  let begin = 0;
  let learned = false;
  const close = (end: number): void => {
    if (end > begin && learned) pieces.push({ start: begin, count: end - begin });
    begin = end;
    learned = false;
  };
  const [ids, targets] = [new Int32Array(CHUNK), new Int32Array(CHUNK)];
  for (let at = 0; at + 1 < source.length; at += CHUNK) {
    const count = Math.min(CHUNK, source.length - 1 - at);
    source.read(at, ids, 0, count);
    readTargets(source, at + 1, targets, 0, count);
    for (let i = 0; i < count; i++) {
      const isLearned = targets[i] !== IGNORE_INDEX;
      if (ids[i] === separator) {
        close(at + i);
        if (!isLearned) begin = at + i + 1;
      } else if (at + i - begin === longest) close(at + i);
      learned ||= isLearned && at + i >= begin;
    }
  }
  close(source.length - 1);
  return pieces;
}
