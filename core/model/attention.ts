// Grouped-query attention with rope: softmax(Q·Kᵀ/√D)·V, query head h reading kv head floor(h / (H/KV)).

import type { AttentionShape } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { ModelConfig } from './config.ts';
import { Linear } from './linear.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** What attention leaves for its backward pass. */
export interface AttentionActivations {
  /** [N, (H+2·KV)·D]: queries and keys after rope, then values. */
  readonly qkv: FloatArray;
  /** [N, H·D] */
  readonly output: FloatArray;
  /** [B·H·T] */
  readonly logSumExp: FloatArray;
}

/** Buffers that only the backward pass needs. */
export interface AttentionScratch {
  readonly dOutput: FloatArray;
  readonly dQkv: FloatArray;
}

export class Attention {
  /** One product for queries, keys and values: their rows stand below each other. */
  readonly qkv: Linear;
  readonly output: Linear;
  private readonly config: ModelConfig;
  private readonly layer: number;

  constructor(store: ParameterStore, name: string, config: ModelConfig, layer: number) {
    const { hiddenSize: C, numHeads: H, numKvHeads: KV, headDim: D } = config;
    this.config = config;
    this.layer = layer;
    this.qkv = new Linear(store, `${name}.qkv`, 'attention', C, (H + 2 * KV) * D, [H * D, KV * D, KV * D]);
    this.output = new Linear(store, `${name}.output`, 'attention', H * D, C);
  }

  plan(arena: Arena, rows: number): AttentionActivations {
    return {
      qkv: arena.floats(rows * this.qkv.outputs),
      output: arena.floats(rows * this.output.inputs),
      logSumExp: arena.floats(rows * this.config.numHeads),
    };
  }

  planBackward(arena: Arena, rows: number): AttentionScratch {
    return { dOutput: arena.floats(rows * this.output.inputs), dQkv: arena.floats(rows * this.qkv.outputs) };
  }

  /** y [N,C] += attention of x [N,C]. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, activations: AttentionActivations): void {
    const { kernels, cache, starts } = pass;
    const { qkv, output } = activations;
    const { keyOffset, valueOffset } = this.columns();
    this.qkv.forward(pass, qkv, x);
    this.rotate(pass, qkv, false);
    if (cache) {
      cache.store(this.layer, qkv, this.qkv.outputs, keyOffset, valueOffset, pass.length);
      const shape = this.shape(pass, cache.rowSize, cache.capacity * cache.rowSize);
      kernels.attention(output, null, qkv, 0, cache.keys[this.layer], 0, cache.values[this.layer], 0, starts, shape);
    } else {
      const shape = this.shape(pass, this.qkv.outputs, pass.length * this.qkv.outputs);
      kernels.attention(output, activations.logSumExp, qkv, 0, qkv, keyOffset, qkv, valueOffset, starts, shape);
    }
    this.output.forward(pass, y, output, true);
  }

  /** dx [N,C] = gradient with respect to x; the weights' gradients are added to. */
  backward(
    pass: Pass,
    dx: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    activations: AttentionActivations,
    scratch: AttentionScratch,
  ): void {
    const { qkv, output, logSumExp } = activations;
    const { dOutput, dQkv } = scratch;
    const { keyOffset, valueOffset } = this.columns();
    this.output.backward(pass, dOutput, dy, output);
    const shape = this.shape(pass, this.qkv.outputs, pass.length * this.qkv.outputs);
    pass.kernels.attentionBackward(
      dQkv,
      dQkv,
      dQkv,
      dOutput,
      output,
      logSumExp,
      qkv,
      0,
      qkv,
      keyOffset,
      qkv,
      valueOffset,
      shape,
    );
    this.rotate(pass, dQkv, true);
    this.qkv.backward(pass, dx, dQkv, x);
  }

  /** Columns of the packed rows where keys and values start; queries start at 0. */
  private columns(): { keyOffset: number; valueOffset: number } {
    const { numHeads: H, numKvHeads: KV, headDim: D } = this.config;
    return { keyOffset: H * D, valueOffset: (H + KV) * D };
  }

  /** Rope on queries and keys at once: their heads are neighbours in a row. */
  private rotate(pass: Pass, packed: FloatArray, inverse: boolean): void {
    const { numHeads: H, numKvHeads: KV, headDim: D } = this.config;
    const { cos, sin } = pass.rope;
    pass.kernels.rope(packed, 0, this.qkv.outputs, cos, sin, pass.positions, pass.rows, H + KV, D, inverse);
  }

  private shape(pass: Pass, keyStride: number, keyBatchStride: number): AttentionShape {
    const { numHeads: heads, numKvHeads: kvHeads, headDim } = this.config;
    return {
      batch: pass.batch,
      queries: pass.length,
      heads,
      kvHeads,
      headDim,
      scale: headDim ** -0.5,
      window: 0,
      queryStride: this.qkv.outputs,
      keyStride,
      keyBatchStride,
    };
  }
}
