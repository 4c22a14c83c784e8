// LayerNorm (Ba et al. 2016): y = (x - mean(x)) / sqrt(var(x) + eps) · γ + β.

import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { Norm, NormActivations } from './norm.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

export class LayerNorm implements Norm {
  private readonly gamma: Parameter;
  private readonly beta: Parameter;
  private readonly size: number;
  private readonly eps: number;

  constructor(store: ParameterStore, name: string, size: number, eps: number) {
    this.size = size;
    this.eps = eps;
    this.gamma = store.declare(name, 'norm', [size]);
    this.beta = store.declare(`${name}_bias`, 'bias', [size]);
  }

  plan(arena: Arena, rows: number): NormActivations {
    return { output: arena.floats(rows * this.size), rstd: arena.floats(rows), mean: arena.floats(rows) };
  }

  forward(pass: Pass, x: FloatArray, { output, mean, rstd }: NormActivations, rows = pass.rows): void {
    pass.kernels.layerNorm(output, mean, rstd, x, this.gamma.data, this.beta.data, rows, this.size, this.eps);
  }

  backward(pass: Pass, dx: FloatArray, dy: FloatArray, x: FloatArray, { mean, rstd }: NormActivations): void {
    const { gamma, beta, size } = this;
    pass.kernels.layerNormBackward(
      ...([dx, gamma.gradient, beta.gradient, dy, x, gamma.data, mean, rstd, pass.rows, size] as const),
    );
  }
}
