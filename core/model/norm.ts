// What the two kinds of norm have in common.

import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { Pass } from './pass.ts';

/** What a norm leaves for its backward pass. */
export interface NormActivations {
  /** [N,C] */
  readonly output: FloatArray;
  /** [N] 1/sqrt(mean(x²) + eps), or of the variance */
  readonly rstd: FloatArray;
  /** [N] of a LayerNorm; empty for an RMSNorm. */
  readonly mean: FloatArray;
}

/** A norm over rows of a fixed size. */
export interface Norm {
  plan(arena: Arena, rows: number): NormActivations;
  /** activations.output [rows,C] of x [rows,C]. */
  forward(pass: Pass, x: FloatArray, activations: NormActivations, rows?: number): void;
  /** dx [N,C] += …; the parameters' gradients are added to. */
  backward(pass: Pass, dx: FloatArray, dy: FloatArray, x: FloatArray, activations: NormActivations): void;
}
