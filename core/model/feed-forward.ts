// The feed-forward half of a block: a router and its experts, with a shared one beside them or none; or one expert without a
// router, with biases or without.

import type { ExpertsSaved, Routing } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import { BiasedMlp, type BiasedMlpSaved } from './biased-mlp.ts';
import type { ModelConfig } from './config.ts';
import { Experts, routeToTheOnlyExpert, SINGLE } from './experts.ts';
import { isDense, widthOf } from './layer-kinds.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';
import { planRouting, Router, type RouterActivations } from './router.ts';
import { SharedExpert, type SharedExpertActivations, type SharedExpertScratch } from './shared-expert.ts';

/** What the feed-forward half leaves for its backward pass. */
export interface FeedForwardActivations {
  /** Null in a dense layer. */
  readonly router: RouterActivations | null;
  readonly routing: Routing;
  /** Null where the layer has biases. */
  readonly experts: ExpertsSaved | null;
  readonly biased: BiasedMlpSaved | null;
  readonly shared: SharedExpertActivations | null;
}

/** Buffers that only the backward pass needs. */
export interface FeedForwardScratch {
  readonly experts: ExpertsSaved | null;
  readonly biased: BiasedMlpSaved | null;
  readonly shared: SharedExpertScratch | null;
  readonly dWeights: FloatArray;
  readonly dLogits: FloatArray;
}

export class FeedForward {
  readonly router: Router | null;
  private readonly experts: Experts | null;
  private readonly biased: BiasedMlp | null;
  private readonly shared: SharedExpert | null;
  /** E and K of this layer. */
  private readonly sizes: Pick<ModelConfig, 'numExperts' | 'topK'>;

  constructor(store: ParameterStore, name: string, config: ModelConfig, layer: number) {
    const { hiddenSize, sharedWidth, sharedGate = false } = config;
    const dense = isDense(config, layer);
    this.sizes = dense ? SINGLE : config;
    this.router = dense ? null : new Router(store, `${name}.router`, config, layer);
    const { numExperts, topK } = this.sizes;
    const shape = { hiddenSize, numExperts, topK, expertWidth: widthOf(config, layer) };
    this.experts = config.mlpBias ? null : new Experts(store, `${name}.experts`, shape);
    this.biased = config.mlpBias ? new BiasedMlp(store, `${name}.experts`, config) : null;
    const hasShared = !dense && sharedWidth !== undefined;
    this.shared = hasShared ? new SharedExpert(store, name, hiddenSize, sharedWidth, sharedGate) : null;
  }

  plan(arena: Arena, rows: number): FeedForwardActivations {
    const router = this.router?.plan(arena, rows) ?? null;
    return {
      router,
      routing: router?.routing ?? planRouting(arena, rows, SINGLE),
      experts: this.experts?.plan(arena, rows) ?? null,
      biased: this.biased?.plan(arena, rows) ?? null,
      shared: this.shared?.plan(arena, rows) ?? null,
    };
  }

  planBackward(arena: Arena, rows: number): FeedForwardScratch {
    return {
      experts: this.experts?.plan(arena, rows) ?? null,
      biased: this.biased?.plan(arena, rows) ?? null,
      shared: this.shared?.planBackward(arena, rows) ?? null,
      dWeights: arena.floats(rows * this.sizes.topK),
      dLogits: arena.floats(rows * this.sizes.numExperts),
    };
  }

  /** y [N,C] += feed-forward of x [N,C]. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, activations: FeedForwardActivations): void {
    if (this.router && activations.router) this.router.forward(pass, x, activations.router);
    else routeToTheOnlyExpert(activations.routing, pass.rows);
    if (this.experts && activations.experts) {
      this.experts.forward(pass, y, x, activations.routing, activations.experts);
    }
    if (this.biased && activations.biased) this.biased.forward(pass, y, x, activations.biased);
    if (this.shared && activations.shared) this.shared.forward(pass, y, x, activations.shared);
  }

  /** dx [N,C] = gradient with respect to x, given the auxiliary loss's gradient dProbabilities [E]. */
  backward(
    pass: Pass,
    dx: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    dProbabilities: FloatArray | null,
    activations: FeedForwardActivations,
    scratch: FeedForwardScratch,
  ): void {
    const { routing, experts, biased, shared } = activations;
    if (this.experts && experts && scratch.experts) {
      this.experts.backward(pass, dx, scratch.dWeights, dy, routing, experts, scratch.experts);
    }
    if (this.biased && biased && scratch.biased) this.biased.backward(pass, dx, dy, x, biased, scratch.biased);
    if (this.router && activations.router) {
      this.router.backward(pass, dx, scratch.dWeights, dProbabilities, x, activations.router, scratch.dLogits);
    }
    if (this.shared && shared && scratch.shared) this.shared.backward(pass, dx, dy, x, shared, scratch.shared);
  }
}
