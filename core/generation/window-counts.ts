// How often each token stands in the newest part of a text.

/** Counts over a window; the buffers are kept, and cleared by the ids that were counted. */
export class WindowCounts {
  /** How many different ids the window holds. */
  size = 0;
  /** Those ids, in the order in which they first appear; `size` entries. */
  distinct = new Int32Array(0);
  /** By id, for those in `distinct`. */
  counts = new Int32Array(0);

  /** Counts the newest `lastN` of `ids` that are below `vocabSize`; all of them when `lastN` is undefined. */
  count(ids: readonly number[], lastN: number | undefined, vocabSize: number): this {
    this.clear(vocabSize);
    for (let i = Math.max(0, ids.length - (lastN ?? ids.length)); i < ids.length; i++) {
      const id = ids[i];
      if (id < vocabSize && this.counts[id]++ === 0) this.distinct[this.size++] = id;
    }
    return this;
  }

  private clear(vocabSize: number): void {
    for (let i = 0; i < this.size; i++) this.counts[this.distinct[i]] = 0;
    this.size = 0;
    if (this.counts.length >= vocabSize) return;
    this.counts = new Int32Array(vocabSize);
    this.distinct = new Int32Array(vocabSize);
  }
}
