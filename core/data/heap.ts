// A binary heap: the first of many in whatever order, while they come and go.

/** Gives out what is first by `isBefore`; equal entries come in no particular order. */
export class Heap<T> {
  private readonly entries: T[] = [];
  private readonly isBefore: (a: T, b: T) => boolean;

  constructor(isBefore: (a: T, b: T) => boolean) {
    this.isBefore = isBefore;
  }

  push(entry: T): void {
    const { entries, isBefore } = this;
    let at = entries.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(entry, entries[parent])) break;
      entries[at] = entries[parent];
      at = parent;
    }
    entries[at] = entry;
  }

  /** Takes the first entry out; undefined when there is none. */
  pop(): T | undefined {
    const { entries, isBefore } = this;
    const first = entries[0];
    const moved = entries.pop();
    if (moved === undefined || entries.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= entries.length) break;
      if (child + 1 < entries.length && isBefore(entries[child + 1], entries[child])) child++;
      if (!isBefore(entries[child], moved)) break;
      entries[at] = entries[child];
      at = child;
    }
    entries[at] = moved;
    return first;
  }
}
