// Grouped-query attention with rope: softmax(Q·Kᵀ/√D)·V, query head h reading kv head floor(h / (H/KV)).

import type { AttentionShape } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import { type ModelConfig, windowOf } from './config.ts';
import { Linear } from './linear.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';
import { QkNorm, type QkNormActivations } from './qk-norm.ts';

/** What attention leaves for its backward pass. */
export interface AttentionActivations {
  /** [N, (H+2·KV)·D]: queries and keys after rope, then values. */
  readonly qkv: FloatArray;
  /** [N, H·D] */
  readonly output: FloatArray;
  /** [B·H·T] */
  readonly logSumExp: FloatArray;
  /** Null where queries and keys are not normalised. */
  readonly qkNorm: QkNormActivations | null;
  /** [N, (H+2·KV)·D] before clipping; empty where nothing is clipped. */
  readonly unclipped: FloatArray;
}

/** Buffers that only the backward pass needs. */
export interface AttentionScratch {
  readonly dOutput: FloatArray;
  readonly dQkv: FloatArray;
  /** [N, H·D] a second buffer for the norms of queries and keys; empty without them. */
  readonly dNormed: FloatArray;
}

export class Attention {
  /** One product for queries, keys and values: their rows stand below each other. */
  readonly qkv: Linear;
  readonly output: Linear;
  /** Null where queries and keys are not normalised. */
  private readonly qkNorm: QkNorm | null;
  private readonly config: ModelConfig;
  private readonly layer: number;
  private lastShape: AttentionShape | undefined;

  constructor(store: ParameterStore, name: string, config: ModelConfig, layer: number) {
    const { hiddenSize: C, numHeads: H, numKvHeads: KV, headDim: D } = config;
    this.config = config;
    this.layer = layer;
    const parts = [H * D, KV * D, KV * D];
    const qkv = { parts, hasBias: config.qkvBias };
    this.qkv = new Linear(store, `${name}.qkv`, 'attention', C, (H + 2 * KV) * D, qkv);
    this.output = new Linear(store, `${name}.output`, 'attention', H * D, C, { hasBias: config.outputBias });
    this.qkNorm = config.qkNorm ? new QkNorm(store, name, config, config.qkNorm) : null;
  }

  plan(arena: Arena, rows: number): AttentionActivations {
    return {
      qkv: arena.floats(rows * this.qkv.outputs),
      output: arena.floats(rows * this.output.inputs),
      logSumExp: arena.floats(rows * this.config.numHeads),
      qkNorm: this.qkNorm?.plan(arena, rows) ?? null,
      unclipped: arena.floats(this.config.clipQkv === undefined ? 0 : rows * this.qkv.outputs),
    };
  }

  planBackward(arena: Arena, rows: number): AttentionScratch {
    const heads = rows * this.output.inputs;
    return {
      dOutput: arena.floats(heads),
      dQkv: arena.floats(rows * this.qkv.outputs),
      dNormed: arena.floats(this.qkNorm ? heads : 0),
    };
  }

  /** y [N,C] += attention of x [N,C]. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, activations: AttentionActivations): void {
    const { kernels, cache, starts } = pass;
    const { qkv, output } = activations;
    const { keyOffset, valueOffset } = this.columns();
    this.qkv.forward(pass, qkv, x);
    // attention overwrites its output later: until then it is the norms' scratch
    if (this.qkNorm && activations.qkNorm) this.qkNorm.forward(pass, qkv, activations.qkNorm, output);
    this.clip(pass, qkv, activations.unclipped);
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
    const { dOutput, dQkv, dNormed } = scratch;
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
    const { clipQkv } = this.config;
    const count = pass.rows * this.qkv.outputs;
    if (clipQkv !== undefined) pass.kernels.clampBackward(dQkv, dQkv, activations.unclipped, clipQkv, count);
    if (this.qkNorm && activations.qkNorm) this.qkNorm.backward(pass, dQkv, activations.qkNorm, dOutput, dNormed);
    this.qkv.backward(pass, dx, dQkv, x);
  }

  /** Columns of the packed rows where keys and values start; queries start at 0. */
  private columns(): { keyOffset: number; valueOffset: number } {
    const { numHeads: H, numKvHeads: KV, headDim: D } = this.config;
    return { keyOffset: H * D, valueOffset: (H + KV) * D };
  }

  /** Holds queries, keys and values within the limit, where there is one; `unclipped` keeps them as they were. */
  private clip(pass: Pass, qkv: FloatArray, unclipped: FloatArray): void {
    const { clipQkv } = this.config;
    if (clipQkv === undefined) return;
    unclipped.set(qkv);
    pass.kernels.clamp(qkv, unclipped, clipQkv, pass.rows * this.qkv.outputs);
  }

  /** Rope on queries and keys at once: their heads are neighbours in a row. */
  private rotate(pass: Pass, packed: FloatArray, inverse: boolean): void {
    const { numHeads: H, numKvHeads: KV, headDim: D } = this.config;
    const { cos, sin } = pass.rope;
    const { kernels, positions, rows } = pass;
    const stride = this.qkv.outputs;
    if (this.config.ropeInterleaved) {
      kernels.ropeInterleaved(packed, 0, stride, cos, sin, positions, rows, H + KV, D, inverse);
    } else {
      kernels.rope(packed, 0, stride, cos, sin, positions, rows, H + KV, D, inverse);
    }
  }

  /** The shape of a pass; made anew only where it is another than before. */
  private shape(pass: Pass, keyStride: number, keyBatchStride: number): AttentionShape {
    const { numHeads: heads, numKvHeads: kvHeads, headDim, attentionMultiplier } = this.config;
    const { lastShape: last } = this;
    const isSame =
      last?.batch === pass.batch &&
      last.queries === pass.length &&
      last.keyStride === keyStride &&
      last.keyBatchStride === keyBatchStride &&
      last.firstKeys === (pass.documentStarts ?? undefined);
    if (isSame) return last;
    this.lastShape = {
      batch: pass.batch,
      queries: pass.length,
      heads,
      kvHeads,
      headDim,
      scale: attentionMultiplier ?? headDim ** -0.5,
      window: windowOf(this.config, this.layer),
      queryStride: this.qkv.outputs,
      keyStride,
      keyBatchStride,
      firstKeys: pass.documentStarts ?? undefined,
    };
    return this.lastShape;
  }
}
