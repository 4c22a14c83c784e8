// One pre-norm transformer block: h = x + r·attention(norm(x)); out = h + r·feedForward(norm(h)), r = 1 but in Granite.

import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import { Attention, type AttentionActivations, type AttentionScratch } from './attention.ts';
import type { ModelConfig } from './config.ts';
import { FeedForward, type FeedForwardActivations, type FeedForwardScratch } from './feed-forward.ts';
import { makeNorm } from './make-norm.ts';
import type { Norm, NormActivations } from './norm.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';
import type { Router } from './router.ts';

/** What a block leaves for its backward pass. */
export interface BlockActivations {
  readonly attentionNorm: NormActivations;
  readonly attention: AttentionActivations;
  /** [N,C] the residual stream between the two halves. */
  readonly middle: FloatArray;
  readonly feedForwardNorm: NormActivations;
  readonly feedForward: FeedForwardActivations;
}

/** Backward buffers; one set serves all blocks in turn. */
export interface BlockScratch {
  readonly dNorm: FloatArray;
  /** [N,C] the gradient of a half's output where it is not that of the stream; empty where r = 1. */
  readonly dBranch: FloatArray;
  readonly attention: AttentionScratch;
  readonly feedForward: FeedForwardScratch;
}

export class Block {
  private readonly attentionNorm: Norm;
  private readonly attention: Attention;
  private readonly feedForwardNorm: Norm;
  private readonly feedForward: FeedForward;
  private readonly hiddenSize: number;
  /** r: factor on what either half adds to the stream. */
  private readonly multiplier: number;

  constructor(store: ParameterStore, config: ModelConfig, layer: number) {
    const name = `layers.${layer}`;
    this.hiddenSize = config.hiddenSize;
    this.multiplier = config.residualMultiplier ?? 1;
    this.attentionNorm = makeNorm(store, `${name}.attention_norm`, config);
    this.attention = new Attention(store, `${name}.attention`, config, layer);
    this.feedForwardNorm = makeNorm(store, `${name}.feed_forward_norm`, config);
    this.feedForward = new FeedForward(store, name, config, layer);
  }

  /** Null in a dense layer. */
  get router(): Router | null {
    return this.feedForward.router;
  }

  plan(arena: Arena, rows: number): BlockActivations {
    return {
      attentionNorm: this.attentionNorm.plan(arena, rows),
      attention: this.attention.plan(arena, rows),
      middle: arena.floats(rows * this.hiddenSize),
      feedForwardNorm: this.feedForwardNorm.plan(arena, rows),
      feedForward: this.feedForward.plan(arena, rows),
    };
  }

  planBackward(arena: Arena, rows: number): BlockScratch {
    return {
      dNorm: arena.floats(rows * this.hiddenSize),
      dBranch: arena.floats(this.multiplier === 1 ? 0 : rows * this.hiddenSize),
      attention: this.attention.planBackward(arena, rows),
      feedForward: this.feedForward.planBackward(arena, rows),
    };
  }

  /** output [N,C] of input [N,C]; they may be one buffer when no backward pass follows. */
  forward(pass: Pass, output: FloatArray, input: FloatArray, activations: BlockActivations): void {
    const { attentionNorm, middle, feedForwardNorm } = activations;
    this.attentionNorm.forward(pass, input, attentionNorm);
    this.begin(middle, input);
    this.attention.forward(pass, middle, attentionNorm.output, activations.attention);
    this.finish(pass, middle, input);
    this.feedForwardNorm.forward(pass, middle, feedForwardNorm);
    this.begin(output, middle);
    this.feedForward.forward(pass, output, feedForwardNorm.output, activations.feedForward);
    this.finish(pass, output, middle);
  }

  /** Turns dx [N,C], the gradient of the block's output, into that of its input. */
  backward(
    pass: Pass,
    dx: FloatArray,
    input: FloatArray,
    dProbabilities: FloatArray | null,
    activations: BlockActivations,
    scratch: BlockScratch,
  ): void {
    const { attentionNorm, middle, feedForwardNorm } = activations;
    const { dNorm } = scratch;
    this.feedForward.backward(
      pass,
      dNorm,
      this.ofBranch(pass, dx, scratch),
      feedForwardNorm.output,
      dProbabilities,
      activations.feedForward,
      scratch.feedForward,
    );
    this.feedForwardNorm.backward(pass, dx, dNorm, middle, feedForwardNorm);
    const dy = this.ofBranch(pass, dx, scratch);
    this.attention.backward(pass, dNorm, dy, attentionNorm.output, activations.attention, scratch.attention);
    this.attentionNorm.backward(pass, dx, dNorm, input, attentionNorm);
  }

  /** What a half adds to: the stream itself, or zeros where its output is to be scaled first. */
  private begin(output: FloatArray, input: FloatArray): void {
    if (this.multiplier === 1) output.set(input);
    else output.fill(0);
  }

  /** output = input + r·(what the half added). */
  private finish({ kernels, rows }: Pass, output: FloatArray, input: FloatArray): void {
    if (this.multiplier === 1) return;
    kernels.scale(output, output, this.multiplier, rows * this.hiddenSize);
    kernels.add(output, input, rows * this.hiddenSize);
  }

  /** The gradient of a half's output, given that of the stream. */
  private ofBranch({ kernels, rows }: Pass, dx: FloatArray, { dBranch }: BlockScratch): FloatArray {
    if (this.multiplier === 1) return dx;
    kernels.scale(dBranch, dx, this.multiplier, rows * this.hiddenSize);
    return dBranch;
  }
}
