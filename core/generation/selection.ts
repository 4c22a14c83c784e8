// Finding the few that matter among many without sorting them all.

import type { FloatArray } from '../tensor/dtype.ts';

/** The k largest values by a heap of k, whose smallest stands at the top: one comparison for most of the others. */
export class LargestValues {
  private heap = new Float64Array(0);

  /** The k-th largest value, k from 1 to the number of values. */
  kth(values: FloatArray, k: number): number {
    if (this.heap.length !== k) this.heap = new Float64Array(k);
    const { heap } = this;
    for (let i = 0; i < k; i++) heap[i] = values[i];
    for (let i = (k >> 1) - 1; i >= 0; i--) this.sink(i, heap[i]);
    let smallest = heap[0];
    for (let i = k; i < values.length; i++) {
      if (values[i] <= smallest) continue;
      this.sink(0, values[i]);
      smallest = heap[0];
    }
    return smallest;
  }

  /** Puts `value` at `place` or as far below it as the order wants. */
  private sink(place: number, value: number): void {
    const { heap } = this;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= value) break;
      heap[place] = heap[child];
      place = child;
    }
    heap[place] = value;
  }
}

const BINS = 1024;

/**
 * The fewest smallest keys whose weights add up to a mass. A histogram finds the narrow range of keys where the mass is
 * reached; in it a quickselect that follows the mass finds the key.
 */
export class MassSelection {
  /** The largest key that is kept. */
  threshold = 0;
  /** How many of the keys that equal the threshold are needed. */
  ties = 0;
  private readonly masses = new Float64Array(BINS);
  private keys = new Float64Array(0);
  private weights = new Float64Array(0);

  /** Selects among the first `count` of `keys`, at least one of them; they are finite, and the arrays are not changed. */
  select(keys: Float64Array, weights: Float64Array, count: number, mass: number): void {
    const { masses } = this;
    let least = keys[0];
    let most = keys[0];
    for (let i = 1; i < count; i++) {
      if (keys[i] < least) least = keys[i];
      if (keys[i] > most) most = keys[i];
    }
    const scale = most > least ? (BINS - 1) / (most - least) : 0;
    masses.fill(0);
    for (let i = 0; i < count; i++) masses[((keys[i] - least) * scale) | 0] += weights[i];
    const last = ((most - least) * scale) | 0;
    let bin = 0;
    let below = 0;
    while (bin < last && below + masses[bin] < mass) below += masses[bin++];
    let size = 0;
    this.reserve(keys.length);
    for (let i = 0; i < count; i++) {
      if ((((keys[i] - least) * scale) | 0) !== bin) continue;
      this.keys[size] = keys[i];
      this.weights[size++] = weights[i];
    }
    this.quickselect(size, mass - below);
  }

  private quickselect(count: number, mass: number): void {
    const { keys, weights } = this;
    let low = 0;
    let high = count - 1;
    let reached = 0;
    for (;;) {
      const pivot = median(keys[low], keys[(low + high) >> 1], keys[high]);
      let firstEqual = low;
      let lastEqual = high;
      let below = 0;
      let equal = 0;
      // smaller keys to the front, larger ones to the back
      for (let i = low; i <= lastEqual;) {
        const weight = weights[i];
        if (keys[i] < pivot) {
          this.swap(i++, firstEqual++);
          below += weight;
        } else if (keys[i] > pivot) {
          this.swap(i, lastEqual--);
        } else {
          equal += weight;
          i++;
        }
      }
      if (firstEqual > low && reached + below >= mass) {
        high = firstEqual - 1;
      } else if (reached + below + equal >= mass || lastEqual === high) {
        this.threshold = pivot;
        this.ties = this.needed(firstEqual, lastEqual, mass - reached - below);
        return;
      } else {
        reached += below + equal;
        low = lastEqual + 1;
      }
    }
  }

  /** How many weights from `first` to `last` reach `mass`, at least one. */
  private needed(first: number, last: number, mass: number): number {
    let sum = 0;
    for (let i = first; i < last; i++) {
      sum += this.weights[i];
      if (sum >= mass) return i - first + 1;
    }
    return last - first + 1;
  }

  private swap(i: number, j: number): void {
    const { keys, weights } = this;
    const key = keys[i];
    const weight = weights[i];
    keys[i] = keys[j];
    weights[i] = weights[j];
    keys[j] = key;
    weights[j] = weight;
  }

  private reserve(size: number): void {
    if (this.keys.length >= size) return;
    this.keys = new Float64Array(size);
    this.weights = new Float64Array(size);
  }
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}
