// The tokens that a chain has left, with their probabilities, in buffers that are kept from token to token.

import { exp } from '../ops/exp.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { notANumber, nothingLeft } from './logits.ts';

/** Tokens that are not removed; `ids`, `logits` and `probabilities` hold `count` entries, ids rising. */
export class Candidates {
  count = 0;
  /** Index of the largest logit among them; of equals, the first. */
  best = 0;
  ids = new Int32Array(0);
  logits = new Float64Array(0);
  probabilities = new Float64Array(0);

  /**
   * Reads the logits [V] that are above -Infinity. Tokens at +Infinity are certain: then they are the only candidates, as
   * likely as each other.
   * @throws GemmoeError when a logit is NaN, or every one is -Infinity
   */
  gather(logits: FloatArray): this {
    if (this.ids.length < logits.length) this.grow(logits.length);
    const { ids, logits: values } = this;
    let count = 0;
    let best = 0;
    let max = -Infinity;
    for (let i = 0; i < logits.length; i++) {
      const value = logits[i];
      if (value === -Infinity) continue;
      if (Number.isNaN(value)) throw notANumber(i);
      if (value > max) {
        max = value;
        best = count;
      }
      ids[count] = i;
      values[count++] = value;
    }
    if (count === 0) throw nothingLeft();
    this.count = count;
    this.best = best;
    if (max === Infinity) this.keepCertain();
    return this;
  }

  /** Puts e^(logit - max) in the place of the probabilities. @returns their sum */
  weigh(): number {
    const { count, logits, probabilities } = this;
    const max = logits[this.best];
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const weight = exp(logits[i] - max);
      probabilities[i] = weight;
      sum += weight;
    }
    return sum;
  }

  /** Fills the probabilities. */
  softmax(): this {
    const scale = 1 / this.weigh();
    for (let i = 0; i < this.count; i++) this.probabilities[i] *= scale;
    return this;
  }

  /** Entropy of the probabilities, in nats: -Σ p·ln p with ln p = ln pmax + logit - max, so one logarithm is enough. */
  entropy(): number {
    const { best, count, logits, probabilities } = this;
    let entropy = -Math.log(probabilities[best]);
    for (let i = 0; i < count; i++) entropy -= probabilities[i] * (logits[i] - logits[best]);
    return entropy;
  }

  /** Index drawn with the weights in the place of the probabilities, which add up to `sum`; `uniform` is on [0, 1). */
  draw(uniform: number, sum: number): number {
    let left = uniform * sum;
    for (let i = 0; i < this.count; i++) {
      left -= this.probabilities[i];
      if (left < 0) return i;
    }
    return this.best; // rounding left a crumb
  }

  /** Removes from `logits`, which were gathered, the candidates less likely than `threshold`; the likeliest stays. */
  keepLikely(logits: FloatArray, threshold: number): void {
    const lowest = Math.min(threshold, this.probabilities[this.best]);
    for (let i = 0; i < this.count; i++) if (this.probabilities[i] < lowest) logits[this.ids[i]] = -Infinity;
  }

  private keepCertain(): void {
    let count = 0;
    for (let i = 0; i < this.count; i++) {
      if (this.logits[i] !== Infinity) continue;
      this.ids[count] = this.ids[i];
      this.logits[count++] = 0;
    }
    this.count = count;
    this.best = 0;
  }

  private grow(size: number): void {
    this.ids = new Int32Array(size);
    this.logits = new Float64Array(size);
    this.probabilities = new Float64Array(size);
  }
}
