// The merges of one word: of all pairs of neighbours the one of lowest rank, the leftmost of equals, until none is left.

import { Heap } from './heap.ts';

/** What a pair of ids becomes, and its place in the order of merges. */
export interface Merge {
  readonly rank: number;
  readonly id: number;
}

/** Larger than any id and than the bytes of any word: two of them make one exact number. */
const KEY = 2 ** 26;

/** Merges by pair of ids; a linked list and a heap keep a word of n bytes at O(n log n). */
export class WordMerger {
  private readonly merges = new Map<number, Merge>();

  /** A pair that is named twice keeps its first rank. */
  add(left: number, right: number, merge: Merge): void {
    const key = left * KEY + right;
    if (!this.merges.has(key)) this.merges.set(key, merge);
  }

  /** The ids that `ids` merge to. */
  merge(ids: readonly number[]): number[] {
    if (ids.length < 2) return [...ids];
    const list = new WordList(ids, this.merges);
    list.mergeAll();
    return list.remaining();
  }
}

/** A word while it is merged; `next` and `previous` are positions, -1 beyond the ends. */
class WordList {
  /** -1 where the token was merged into the one before it. */
  private readonly ids: number[];
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private readonly merges: ReadonlyMap<number, Merge>;
  /** rank · KEY + position: the order of merging. */
  private readonly queue = new Heap<number>((a, b) => a < b);

  constructor(ids: readonly number[], merges: ReadonlyMap<number, Merge>) {
    this.ids = [...ids];
    this.merges = merges;
    this.next = Int32Array.from(ids, (_, i) => (i + 1 < ids.length ? i + 1 : -1));
    this.previous = Int32Array.from(ids, (_, i) => i - 1);
    for (let i = 0; i < ids.length; i++) this.enqueue(i);
  }

  mergeAll(): void {
    for (let key = this.queue.pop(); key !== undefined; key = this.queue.pop()) {
      const at = key % KEY;
      const merge = this.mergeAt(at);
      // the pair that was queued may have gone since, and another one taken its place
      if (merge?.rank === Math.floor(key / KEY)) this.join(at, merge.id);
    }
  }

  remaining(): number[] {
    return this.ids.filter((id) => id >= 0);
  }

  private join(at: number, id: number): void {
    const gone = this.next[at];
    const after = this.next[gone];
    this.ids[at] = id;
    this.ids[gone] = -1;
    this.next[at] = after;
    if (after >= 0) this.previous[after] = at;
    this.enqueue(at);
    if (this.previous[at] >= 0) this.enqueue(this.previous[at]);
  }

  private enqueue(at: number): void {
    const merge = this.mergeAt(at);
    if (merge) this.queue.push(merge.rank * KEY + at);
  }

  private mergeAt(at: number): Merge | undefined {
    const next = this.next[at];
    if (this.ids[at] < 0 || next < 0) return undefined;
    return this.merges.get(this.ids[at] * KEY + this.ids[next]);
  }
}
