// The LM head: logits [N,V] = (x·Wᵀ + b) / divisor, W its own or the embedding table.

import type { FloatArray } from '../tensor/dtype.ts';
import type { ModelConfig } from './config.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

export class Head {
  private readonly weight: Parameter;
  /** [V]; null without one. */
  private readonly bias: Parameter | null;
  private readonly hiddenSize: number;
  private readonly vocabSize: number;
  private readonly divisor: number;

  constructor(store: ParameterStore, config: ModelConfig, table: Parameter) {
    const { vocabSize, hiddenSize, tieEmbeddings, headBias, logitsDivisor = 1 } = config;
    this.hiddenSize = hiddenSize;
    this.vocabSize = vocabSize;
    this.divisor = logitsDivisor;
    this.weight = tieEmbeddings ? table : store.declare('head', 'head', [vocabSize, hiddenSize]);
    this.bias = headBias ? store.declare('head_bias', 'bias', [vocabSize]) : null;
  }

  /** logits [rows,V] of x [rows,C]. */
  forward(pass: Pass, logits: FloatArray, x: FloatArray, rows = pass.rows): void {
    const { hiddenSize: C, vocabSize: V } = this;
    const bias = this.bias?.data ?? null;
    const { bf16 } = this.weight;
    if (bf16) {
      pass.kernels.linearBf16(logits, x, bf16, bias, rows, C, V, false);
    } else {
      const { products, weights } = this.operands(pass);
      products.linear(logits, x, weights, bias, rows, C, V, false);
    }
    if (this.divisor !== 1) pass.kernels.scale(logits, logits, 1 / this.divisor, rows * V);
  }

  /**
   * Returns Σ cross-entropy of logits [N,V], and gives dx [N,C] = the gradient of `tokenScale` times it; dW and db are added to.
   * The logits' gradient takes the logits' place.
   */
  lossBackward(
    pass: Pass,
    dx: FloatArray,
    logits: FloatArray,
    x: FloatArray,
    targets: Int32Array,
    tokenScale: number,
  ): number {
    const { products, weights } = this.operands(pass);
    const { hiddenSize: C, vocabSize: V, weight, bias } = this;
    // of the logits before they were divided
    const scale = tokenScale / this.divisor;
    const lossSum = pass.kernels.crossEntropy(logits, logits, targets, pass.rows, V, scale);
    const db = bias?.gradient ?? null;
    products.linearBackward(dx, weight.gradient, db, logits, x, weights, pass.rows, C, V, false);
    return lossSum;
  }

  private operands(pass: Pass) {
    const half = pass.mixed?.of(this.weight);
    return { products: half?.kernels ?? pass.kernels, weights: half?.weights ?? this.weight.data };
  }
}
