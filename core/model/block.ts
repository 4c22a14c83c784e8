// One pre-norm transformer block: h = x + attention(norm(x)); out = h + feedForward(norm(h)).

import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import { Attention, type AttentionActivations, type AttentionScratch } from './attention.ts';
import type { ModelConfig } from './config.ts';
import { FeedForward, type FeedForwardActivations, type FeedForwardScratch } from './feed-forward.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';
import { type NormActivations, RmsNorm } from './rms-norm.ts';
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
  readonly attention: AttentionScratch;
  readonly feedForward: FeedForwardScratch;
}

export class Block {
  private readonly attentionNorm: RmsNorm;
  private readonly attention: Attention;
  private readonly feedForwardNorm: RmsNorm;
  private readonly feedForward: FeedForward;
  private readonly hiddenSize: number;

  constructor(store: ParameterStore, config: ModelConfig, layer: number) {
    const name = `layers.${layer}`;
    const { hiddenSize, normEps } = config;
    this.hiddenSize = hiddenSize;
    this.attentionNorm = new RmsNorm(store, `${name}.attention_norm`, hiddenSize, normEps);
    this.attention = new Attention(store, `${name}.attention`, config, layer);
    this.feedForwardNorm = new RmsNorm(store, `${name}.feed_forward_norm`, hiddenSize, normEps);
    this.feedForward = new FeedForward(store, name, config, layer);
  }

  /** Null in a dense model. */
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
      attention: this.attention.planBackward(arena, rows),
      feedForward: this.feedForward.planBackward(arena, rows),
    };
  }

  /** output [N,C] of input [N,C]; they may be one buffer when no backward pass follows. */
  forward(pass: Pass, output: FloatArray, input: FloatArray, activations: BlockActivations): void {
    const { attentionNorm, middle, feedForwardNorm } = activations;
    this.attentionNorm.forward(pass, input, attentionNorm);
    middle.set(input);
    this.attention.forward(pass, middle, attentionNorm.output, activations.attention);
    this.feedForwardNorm.forward(pass, middle, feedForwardNorm);
    output.set(middle);
    this.feedForward.forward(pass, output, feedForwardNorm.output, activations.feedForward);
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
      dx,
      feedForwardNorm.output,
      dProbabilities,
      activations.feedForward,
      scratch.feedForward,
    );
    this.feedForwardNorm.backward(pass, dx, dNorm, middle, feedForwardNorm);
    this.attention.backward(pass, dNorm, dx, attentionNorm.output, activations.attention, scratch.attention);
    this.attentionNorm.backward(pass, dx, dNorm, input, attentionNorm);
  }
}
