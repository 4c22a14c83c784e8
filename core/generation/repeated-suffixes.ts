// Where else the end of a text stands in it, and what followed there.

/** Followers of earlier occurrences of the newest tokens; buffers are kept. */
export class RepeatedSuffixes {
  /** How many different tokens followed. */
  size = 0;
  /** Those tokens; `size` entries. */
  followers = new Int32Array(0);
  /** By id, for those in `followers`: how many of the newest tokens stood before it, at most. */
  lengths = new Int32Array(0);
  /** matches[j]: how many tokens before position j from the end equal the newest ones (the Z-function of the reversed text). */
  private matches = new Int32Array(0);

  /** Looks through ids[start…]; lengths above `limit` count as `limit`, ids from `vocabSize` on are passed over. */
  find(ids: readonly number[], start: number, limit: number, vocabSize: number): this {
    this.clear(vocabSize);
    const count = ids.length - start;
    this.match(ids, count);
    for (let j = 1; j < count; j++) {
      const id = ids[ids.length - j];
      const length = Math.min(this.matches[j], limit);
      if (length === 0 || id >= vocabSize) continue;
      if (this.lengths[id] === 0) this.followers[this.size++] = id;
      if (length > this.lengths[id]) this.lengths[id] = length;
    }
    return this;
  }

  /** Z-function (Gusfield 1997) of the newest `count` ids read backwards, in O(count). */
  private match(ids: readonly number[], count: number): void {
    if (this.matches.length < count) this.matches = new Int32Array(2 * count);
    const { matches } = this;
    const last = ids.length - 1;
    let left = 0;
    let right = 0; // [left, right) is the match that reaches furthest
    for (let j = 1; j < count; j++) {
      let length = j < right ? Math.min(right - j, matches[j - left]) : 0;
      while (j + length < count && ids[last - length] === ids[last - j - length]) length++;
      matches[j] = length;
      if (j + length <= right) continue;
      left = j;
      right = j + length;
    }
  }

  private clear(vocabSize: number): void {
    for (let i = 0; i < this.size; i++) this.lengths[this.followers[i]] = 0;
    this.size = 0;
    if (this.lengths.length >= vocabSize) return;
    this.lengths = new Int32Array(vocabSize);
    this.followers = new Int32Array(vocabSize);
  }
}
