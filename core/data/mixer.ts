// Several sources in given shares. Which source a row comes from, and which of its windows, is a function of seed and the row's
// number: rows are dealt in blocks that hold every source exactly as often as its weight says, in an order drawn anew each time.

import { GemmoeError } from '../errors.ts';
import { Permutation, Random } from '../random.ts';

/** Rows of a block, at least; shares are exact to one part in as many. */
const BLOCK = 1024;
/** Rows of a block, at most: a source of a smaller share than 1 / LARGEST_BLOCK has no row in it. */
const LARGEST_BLOCK = 2 ** 20;

/** A source and which of its windows. */
export interface Dealt {
  readonly source: number;
  readonly window: number;
}

/** Deals rows to sources. */
export class Mixer {
  private readonly counts: readonly number[];
  private readonly size: number;
  private readonly random: Random;
  private block = -1;
  private readonly sources: Uint32Array;
  /** Rows of the same source before each row of the block. */
  private readonly ranks: Uint32Array;

  /** @throws GemmoeError for a weight that is not positive, or too small beside the others */
  constructor(weights: readonly number[], seed: number) {
    this.counts = rowsOfBlock(weights);
    this.size = this.counts.reduce((sum, count) => sum + count, 0);
    this.random = new Random(seed, 'mixture');
    this.sources = new Uint32Array(this.size);
    this.ranks = new Uint32Array(this.size);
  }

  /** The source of row `index`, counted from 0 since the beginning. */
  at(index: number): Dealt {
    const block = Math.floor(index / this.size);
    if (block !== this.block) this.deal(block);
    const row = index - block * this.size;
    const source = this.sources[row];
    return { source, window: block * this.counts[source] + this.ranks[row] };
  }

  private deal(block: number): void {
    const order = new Permutation(this.size, this.random, block);
    const dealt = new Uint32Array(this.counts.length);
    const ends: number[] = [];
    for (const count of this.counts) ends.push((ends.at(-1) ?? 0) + count);
    for (let row = 0; row < this.size; row++) {
      const slot = order.permute(row);
      const source = ends.findIndex((end) => slot < end);
      this.sources[row] = source;
      this.ranks[row] = dealt[source]++;
    }
    this.block = block;
  }
}

/** Rows of each source in a block: whole multiples of the weights where these are whole and small, else by largest remainder. */
function rowsOfBlock(weights: readonly number[]): number[] {
  const bad = weights.findIndex((weight) => !(weight > 0 && weight < Infinity));
  if (bad >= 0) {
    throw new GemmoeError(
      'bad-config',
      `the weight of data source ${bad + 1} is ${weights[bad]}`,
      'give a positive number, or leave the source out',
    );
  }
  const sum = weights.reduce((total, weight) => total + weight, 0);
  if (weights.every(Number.isInteger) && sum <= BLOCK) {
    const times = Math.floor(BLOCK / sum);
    return weights.map((weight) => weight * times);
  }
  const least = Math.min(...weights) / sum;
  const size = Math.max(BLOCK, Math.ceil(1 / least));
  if (size > LARGEST_BLOCK) {
    throw new GemmoeError(
      'bad-config',
      `data source ${weights.indexOf(Math.min(...weights)) + 1} has a share of ${least}, less than one row in ${LARGEST_BLOCK}`,
      'give it a larger weight, or leave it out',
    );
  }
  return byLargestRemainder(
    weights.map((weight) => (weight / sum) * size),
    size,
  );
}

/** Whole numbers close to the quotas that add up to `size`, none of them 0 (Hamilton's method). */
function byLargestRemainder(quotas: readonly number[], size: number): number[] {
  const counts = quotas.map((quota) => Math.max(1, Math.floor(quota)));
  const byRemainder = quotas.map((_, i) => i).sort((a, b) => quotas[b] - counts[b] - (quotas[a] - counts[a]) || a - b);
  let left = size - counts.reduce((sum, count) => sum + count, 0);
  for (let i = 0; left > 0; i = (i + 1) % byRemainder.length, left--) counts[byRemainder[i]]++;
  return counts;
}
