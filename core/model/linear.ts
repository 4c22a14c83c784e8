// Linear layer: y = x·Wᵀ.

import type { FloatArray } from '../tensor/dtype.ts';
import type { Parameter, ParameterRole, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** A weight W [O,I] as PyTorch lays it out. */
export class Linear {
  readonly weight: Parameter;
  readonly inputs: number;
  readonly outputs: number;

  /** @param parts rows of each matrix that is packed into W, one by default */
  constructor(
    store: ParameterStore,
    name: string,
    role: ParameterRole,
    inputs: number,
    outputs: number,
    parts?: readonly number[],
  ) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.weight = store.declare(name, role, [outputs, inputs], parts);
  }

  /** y [rows,O] = x [rows,I]·Wᵀ, or += with `accumulate`. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, accumulate = false, rows = pass.rows): void {
    const half = pass.mixed?.of(this.weight);
    const kernels = half?.kernels ?? pass.kernels;
    kernels.linear(y, x, half?.weights ?? this.weight.data, null, rows, this.inputs, this.outputs, accumulate);
  }

  /** dx [N,I] = dy·W, or += with `accumulate`; dW += dyᵀ·x. */
  backward(pass: Pass, dx: FloatArray, dy: FloatArray, x: FloatArray, accumulate = false): void {
    const { data, gradient } = this.weight;
    const half = pass.mixed?.of(this.weight);
    const kernels = half?.kernels ?? pass.kernels;
    const w = half?.weights ?? data;
    kernels.linearBackward(dx, gradient, null, dy, x, w, pass.rows, this.inputs, this.outputs, accumulate);
  }
}
