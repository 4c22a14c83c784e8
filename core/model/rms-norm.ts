// RMSNorm (Zhang & Sennrich 2019): y = x / sqrt(mean(x²) + eps) · γ.

import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { Norm, NormActivations } from './norm.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

export class RmsNorm implements Norm {
  private readonly gamma: Parameter;
  private readonly size: number;
  private readonly eps: number;

  constructor(store: ParameterStore, name: string, size: number, eps: number) {
    this.size = size;
    this.eps = eps;
    this.gamma = store.declare(name, 'norm', [size]);
  }

  plan(arena: Arena, rows: number): NormActivations {
    return { output: arena.floats(rows * this.size), rstd: arena.floats(rows), mean: arena.floats(0) };
  }

  forward(pass: Pass, x: FloatArray, activations: NormActivations, rows = pass.rows): void {
    pass.kernels.rmsNorm(activations.output, activations.rstd, x, this.gamma.data, rows, this.size, this.eps);
  }

  backward(pass: Pass, dx: FloatArray, dy: FloatArray, x: FloatArray, activations: NormActivations): void {
    const { data, gradient } = this.gamma;
    pass.kernels.rmsNormBackward(dx, gradient, dy, x, data, activations.rstd, pass.rows, this.size);
  }
}
