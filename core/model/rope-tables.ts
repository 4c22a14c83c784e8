// Rotary position embedding (Su et al. 2021): the cosines and sines of every position and pair.
//
//   angle(position, i) = position · base^(-2i/D),  i = 0 … D/2 - 1
//
// The base is NTK-aware (see ropeBase): stretching it by alpha^(D/(D-2)) divides the slowest frequency by alpha and leaves
// the fastest as it is, so a model reads sequences longer than it was trained on.

import { type ComputeType, type FloatArray, newFloats } from '../tensor/dtype.ts';
import { type ModelConfig, ropeBase } from './config.ts';

/** Tables [positions, D/2], grown as longer sequences come. */
export class RopeTables {
  cos: FloatArray;
  sin: FloatArray;
  private readonly dtype: ComputeType;
  private readonly headDim: number;
  private readonly base: number;
  private readonly limit: number;
  private positions = 0;

  constructor(config: ModelConfig, dtype: ComputeType) {
    this.dtype = dtype;
    this.headDim = config.headDim;
    this.base = ropeBase(config);
    this.limit = config.maxSequenceLength;
    this.cos = newFloats(dtype, 0);
    this.sin = newFloats(dtype, 0);
  }

  /** Makes the tables cover positions 0 … count-1; doubles, so that decoding token by token seldom allocates. */
  ensure(count: number): void {
    if (count <= this.positions) return;
    this.positions = Math.min(this.limit, Math.max(count, 2 * this.positions, 128));
    const half = this.headDim / 2;
    this.cos = newFloats(this.dtype, this.positions * half);
    this.sin = newFloats(this.dtype, this.positions * half);
    for (let i = 0; i < half; i++) {
      const frequency = this.base ** ((-2 * i) / this.headDim);
      for (let position = 0; position < this.positions; position++) {
        this.cos[position * half + i] = Math.cos(position * frequency);
        this.sin[position * half + i] = Math.sin(position * frequency);
      }
    }
  }
}
