// Curves of any length in bounded memory.

interface Stretch {
  readonly sums: Float64Array;
  count: number;
}

/**
 * Rows of numbers, thinned by means over equal stretches: twice `limit` rows at most are held. Whenever they are full,
 * neighbours are joined and the stretches double.
 */
export class Thinned {
  private readonly limit: number;
  private stretches: Stretch[] = [];
  private rowsPerStretch = 1;

  constructor(limit: number) {
    this.limit = limit;
  }

  add(row: readonly number[]): void {
    let last = this.stretches.at(-1);
    if (!last || last.count === this.rowsPerStretch) {
      if (this.stretches.length === 2 * this.limit) this.halve(); // all are full, and stay so
      last = { sums: new Float64Array(row.length), count: 0 };
      this.stretches.push(last);
    }
    for (const [i, value] of row.entries()) last.sums[i] += value;
    last.count++;
  }

  /** Means of number `index` of the rows, to `digits` digits. */
  column(index: number, digits: number): number[] {
    return this.stretches.map(({ sums, count }) => Number((sums[index] / count).toPrecision(digits)));
  }

  private halve(): void {
    const joined: Stretch[] = [];
    for (let i = 0; i < this.stretches.length; i += 2) {
      const [first, second] = [this.stretches[i], this.stretches[i + 1]];
      for (const [j, sum] of second.sums.entries()) first.sums[j] += sum;
      first.count += second.count;
      joined.push(first);
    }
    this.stretches = joined;
    this.rowsPerStretch *= 2;
  }
}
