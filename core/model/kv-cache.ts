// Keys and values of the tokens already seen, so that each new token costs one row.

import { GemmoeError } from '../errors.ts';
import { type ComputeType, type FloatArray, newFloats } from '../tensor/dtype.ts';
import type { ModelConfig } from './config.ts';

/** Per layer [batch, capacity, KV·D] keys (after rope) and values. Allocated whole at the start. */
export class KvCache {
  readonly batch: number;
  /** Tokens that fit, per sequence. */
  readonly capacity: number;
  /** Elements of one token's keys, KV·D. */
  readonly rowSize: number;
  readonly keys: readonly FloatArray[];
  readonly values: readonly FloatArray[];
  private held = 0;

  /** @throws GemmoeError when the capacity is beyond the model's longest sequence */
  constructor(config: ModelConfig, batch: number, capacity: number, dtype: ComputeType = 'f32') {
    if (capacity < 1 || capacity > config.maxSequenceLength) {
      throw new GemmoeError(
        'usage',
        `a cache of ${capacity} tokens was asked for, but the model reads 1 to ${config.maxSequenceLength}`,
        `ask for at most ${config.maxSequenceLength}`,
      );
    }
    this.batch = batch;
    this.capacity = capacity;
    this.rowSize = config.numKvHeads * config.headDim;
    const allocate = () =>
      Array.from({ length: config.numLayers }, () => newFloats(dtype, batch * capacity * this.rowSize));
    this.keys = allocate();
    this.values = allocate();
  }

  /** Tokens held, the same for every sequence. */
  get length(): number {
    return this.held;
  }

  /** Forgets everything. */
  reset(): void {
    this.held = 0;
  }

  /** Forgets all but the first `length` tokens. */
  truncate(length: number): void {
    if (length < 0 || length > this.held) throw new RangeError(`cannot truncate ${this.held} tokens to ${length}`);
    this.held = length;
  }

  /** Called by the model when every layer has stored its keys and values of `count` more tokens. */
  advance(count: number): void {
    this.held += count;
  }

  /** Copies columns of packed [B·T, stride] rows behind what layer `layer` holds. */
  store(layer: number, packed: FloatArray, stride: number, keyOffset: number, valueOffset: number, T: number): void {
    const { rowSize, capacity } = this;
    const keys = this.keys[layer];
    const values = this.values[layer];
    for (let b = 0; b < this.batch; b++) {
      for (let t = 0; t < T; t++) {
        const from = (b * T + t) * stride;
        const to = (b * capacity + this.held + t) * rowSize;
        for (let i = 0; i < rowSize; i++) {
          keys[to + i] = packed[from + keyOffset + i];
          values[to + i] = packed[from + valueOffset + i];
        }
      }
    }
  }
}
