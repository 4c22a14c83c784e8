// Linear layer: y = x·Wᵀ (+ b).

import type { FloatArray } from '../tensor/dtype.ts';
import type { Parameter, ParameterRole, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** A weight W [O,I] as PyTorch lays it out. */
export class Linear {
  readonly weight: Parameter;
  /** b [O]; null without one. */
  readonly bias: Parameter | null;
  readonly inputs: number;
  readonly outputs: number;

  /** @param options `parts` are the rows of each matrix that is packed into W, one by default */
  constructor(
    store: ParameterStore,
    name: string,
    role: ParameterRole,
    inputs: number,
    outputs: number,
    options: { readonly parts?: readonly number[]; readonly hasBias?: boolean | undefined } = {},
  ) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.weight = store.declare(name, role, [outputs, inputs], options.parts);
    this.bias = options.hasBias ? store.declare(`${name}_bias`, 'bias', [outputs]) : null;
  }

  /** y [rows,O] = x [rows,I]·Wᵀ + b, or += with `accumulate`. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, accumulate = false, rows = pass.rows): void {
    const bias = this.bias?.data ?? null;
    const { bf16 } = this.weight;
    if (bf16) {
      pass.kernels.linearBf16(y, x, bf16, bias, rows, this.inputs, this.outputs, accumulate);
      return;
    }
    const half = pass.mixed?.of(this.weight);
    const kernels = half?.kernels ?? pass.kernels;
    const w = half?.weights ?? this.weight.data;
    kernels.linear(y, x, w, bias, rows, this.inputs, this.outputs, accumulate);
  }

  /** dx [N,I] = dy·W, or += with `accumulate`; dW += dyᵀ·x; db += Σ rows of dy. */
  backward(pass: Pass, dx: FloatArray, dy: FloatArray, x: FloatArray, accumulate = false): void {
    const { data, gradient } = this.weight;
    const half = pass.mixed?.of(this.weight);
    const kernels = half?.kernels ?? pass.kernels;
    const w = half?.weights ?? data;
    const db = this.bias?.gradient ?? null;
    kernels.linearBackward(dx, gradient, db, dy, x, w, pass.rows, this.inputs, this.outputs, accumulate);
  }
}
