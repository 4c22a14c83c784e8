// Rotary position embedding (Su et al. 2021): the cosines and sines of every position and pair.
//
//   angle(position, i) = position · frequency_i,  i = 0 … D/2 - 1; unscaled, frequency_i = base^(-2i/D)
//
// The base is NTK-aware (see ropeBase): stretching it by alpha^(D/(D-2)) divides the slowest frequency by alpha and leaves
// the fastest as it is, so a model reads sequences longer than it was trained on. Other ways are in rope-frequencies.ts.

import { type ComputeType, type FloatArray, newFloats } from '../tensor/dtype.ts';
import type { ModelConfig } from './config.ts';
import { ropeFrequencies, ropePhase } from './rope-frequencies.ts';

/** Tables [positions, D/2], grown as longer sequences come. */
export class RopeTables {
  cos: FloatArray;
  sin: FloatArray;
  private readonly dtype: ComputeType;
  private readonly config: ModelConfig;
  /** Positions that there is room for, and of which lengths of sequence the values are. */
  private room = 0;
  private positions = 0;
  private phase = 0;

  constructor(config: ModelConfig, dtype: ComputeType) {
    this.dtype = dtype;
    this.config = config;
    this.cos = newFloats(dtype, 0);
    this.sin = newFloats(dtype, 0);
  }

  /** Makes the tables cover positions 0 … count-1; doubles, so that decoding token by token seldom allocates. */
  ensure(count: number): void {
    const phase = ropePhase(this.config, count);
    if (phase === this.phase && count <= this.positions) return;
    const half = this.config.headDim / 2;
    if (count > this.room) {
      this.room = Math.min(this.config.maxSequenceLength, Math.max(count, 2 * this.room, 128));
      this.cos = newFloats(this.dtype, this.room * half);
      this.sin = newFloats(this.dtype, this.room * half);
    }
    // a phase of its own for every length is not worth more rows than are asked for
    this.positions = this.config.ropeScaling?.kind === 'dynamic' ? count : this.room;
    this.phase = phase;
    const { frequencies, factor } = ropeFrequencies(this.config, count);
    for (let i = 0; i < half; i++) {
      for (let position = 0; position < this.positions; position++) {
        this.cos[position * half + i] = factor * Math.cos(position * frequencies[i]);
        this.sin[position * half + i] = factor * Math.sin(position * frequencies[i]);
      }
    }
  }
}
