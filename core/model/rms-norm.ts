// RMSNorm (Zhang & Sennrich 2019): y = x / sqrt(mean(x²) + eps) · γ.

import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** What a norm leaves for its backward pass. */
export interface NormActivations {
  /** [N,C] */
  readonly output: FloatArray;
  /** [N] 1/sqrt(mean(x²) + eps) */
  readonly rstd: FloatArray;
}

export class RmsNorm {
  readonly gamma: Parameter;
  private readonly size: number;
  private readonly eps: number;

  constructor(store: ParameterStore, name: string, size: number, eps: number) {
    this.size = size;
    this.eps = eps;
    this.gamma = store.declare(name, 'norm', [size]);
  }

  plan(arena: Arena, rows: number): NormActivations {
    return { output: arena.floats(rows * this.size), rstd: arena.floats(rows) };
  }

  /** activations.output [rows,C] of x [rows,C]. */
  forward(pass: Pass, x: FloatArray, activations: NormActivations, rows = pass.rows): void {
    pass.kernels.rmsNorm(activations.output, activations.rstd, x, this.gamma.data, rows, this.size, this.eps);
  }

  /** dx [N,C] += …; dγ += …. */
  backward(pass: Pass, dx: FloatArray, dy: FloatArray, x: FloatArray, activations: NormActivations): void {
    const { data, gradient } = this.gamma;
    pass.kernels.rmsNormBackward(dx, gradient, dy, x, data, activations.rstd, pass.rows, this.size);
  }
}
