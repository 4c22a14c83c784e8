// RMSNorm of queries and keys before rope: over each head with one weight [D] for all heads (Qwen 3), or over the whole
// projection (OLMoE).

import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { ModelConfig } from './config.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** What one of the two norms leaves for its backward pass. */
interface SideActivations {
  /** [N, heads·D] the queries, or the keys, as the projection gave them. */
  readonly input: FloatArray;
  /** One for each norm: [N·heads] or [N]. */
  readonly rstd: FloatArray;
}

/** What the norms leave for their backward pass. */
export interface QkNormActivations {
  readonly query: SideActivations;
  readonly key: SideActivations;
}

/** Where queries or keys stand in a packed row, and how they are normalised. */
interface Side {
  readonly gamma: Parameter;
  /** First column. */
  readonly column: number;
  /** Columns: heads·D. */
  readonly width: number;
  /** Elements that one norm is over. */
  readonly size: number;
}

/** The kernels take contiguous rows, so the columns of the packed matrix are copied out and in again. */
export class QkNorm {
  private readonly query: Side;
  private readonly key: Side;
  /** Elements of a packed row. */
  private readonly stride: number;
  private readonly eps: number;

  constructor(store: ParameterStore, name: string, config: ModelConfig, kind: 'head' | 'whole') {
    const { numHeads: H, numKvHeads: KV, headDim: D } = config;
    const side = (part: string, column: number, width: number): Side => {
      const size = kind === 'head' ? D : width;
      return { gamma: store.declare(`${name}.${part}_norm`, 'norm', [size]), column, width, size };
    };
    this.query = side('query', 0, H * D);
    this.key = side('key', H * D, KV * D);
    this.stride = (H + 2 * KV) * D;
    this.eps = config.normEps;
  }

  plan(arena: Arena, rows: number): QkNormActivations {
    const side = ({ width, size }: Side): SideActivations => ({
      input: arena.floats(rows * width),
      rstd: arena.floats((rows * width) / size),
    });
    return { query: side(this.query), key: side(this.key) };
  }

  /** Normalises queries and keys of packed rows [N, (H+2·KV)·D] in place; scratch [N, H·D] is overwritten. */
  forward(pass: Pass, packed: FloatArray, activations: QkNormActivations, scratch: FloatArray): void {
    for (const part of ['query', 'key'] as const) {
      const { gamma, column, width, size } = this[part];
      const { input, rstd } = activations[part];
      const norms = (pass.rows * width) / size;
      copyOut(input, packed, pass.rows, this.stride, column, width);
      pass.kernels.rmsNorm(scratch, rstd, input, gamma.data, norms, size, this.eps);
      copyIn(packed, scratch, pass.rows, this.stride, column, width);
    }
  }

  /** Turns the gradient of the normalised rows into that of the projection's, in place; both scratches [N, H·D] are overwritten. */
  backward(
    pass: Pass,
    dPacked: FloatArray,
    activations: QkNormActivations,
    dOutput: FloatArray,
    dInput: FloatArray,
  ): void {
    for (const part of ['query', 'key'] as const) {
      const { gamma, column, width, size } = this[part];
      const { input, rstd } = activations[part];
      const norms = (pass.rows * width) / size;
      copyOut(dOutput, dPacked, pass.rows, this.stride, column, width);
      dInput.fill(0, 0, pass.rows * width);
      pass.kernels.rmsNormBackward(dInput, gamma.gradient, dOutput, input, gamma.data, rstd, norms, size);
      copyIn(dPacked, dInput, pass.rows, this.stride, column, width);
    }
  }
}

/** out [N,width] = columns from `column` of packed [N,stride]. */
function copyOut(out: FloatArray, packed: FloatArray, N: number, stride: number, column: number, width: number): void {
  for (let n = 0; n < N; n++) {
    const from = n * stride + column;
    for (let i = 0; i < width; i++) out[n * width + i] = packed[from + i];
  }
}

/** Columns from `column` of packed [N,stride] = x [N,width]. */
function copyIn(packed: FloatArray, x: FloatArray, N: number, stride: number, column: number, width: number): void {
  for (let n = 0; n < N; n++) {
    const to = n * stride + column;
    for (let i = 0; i < width; i++) packed[to + i] = x[n * width + i];
  }
}
