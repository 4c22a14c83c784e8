// The feed-forward half of a block: a router and its experts, or one expert without a router, with biases or without.

import type { ExpertsSaved, Routing } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import { BiasedMlp, type BiasedMlpSaved } from './biased-mlp.ts';
import type { ModelConfig } from './config.ts';
import { Experts } from './experts.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';
import { planRouting, Router, type RouterActivations } from './router.ts';

/** What the feed-forward half leaves for its backward pass. */
export interface FeedForwardActivations {
  /** Null in a dense model. */
  readonly router: RouterActivations | null;
  readonly routing: Routing;
  /** Null where the layer has biases. */
  readonly experts: ExpertsSaved | null;
  readonly biased: BiasedMlpSaved | null;
}

/** Buffers that only the backward pass needs. */
export interface FeedForwardScratch {
  readonly experts: ExpertsSaved | null;
  readonly biased: BiasedMlpSaved | null;
  readonly dWeights: FloatArray;
  readonly dLogits: FloatArray;
}

export class FeedForward {
  readonly router: Router | null;
  private readonly experts: Experts | null;
  private readonly biased: BiasedMlp | null;
  private readonly config: ModelConfig;

  constructor(store: ParameterStore, name: string, config: ModelConfig, layer: number) {
    this.config = config;
    this.router = config.numExperts > 1 ? new Router(store, `${name}.router`, config, layer) : null;
    this.experts = config.mlpBias ? null : new Experts(store, `${name}.experts`, config);
    this.biased = config.mlpBias ? new BiasedMlp(store, `${name}.experts`, config) : null;
  }

  plan(arena: Arena, rows: number): FeedForwardActivations {
    const router = this.router?.plan(arena, rows) ?? null;
    const single = { numExperts: 1, topK: 1, renormalise: false };
    return {
      router,
      routing: router?.routing ?? planRouting(arena, rows, single),
      experts: this.experts?.plan(arena, rows) ?? null,
      biased: this.biased?.plan(arena, rows) ?? null,
    };
  }

  planBackward(arena: Arena, rows: number): FeedForwardScratch {
    return {
      experts: this.experts?.plan(arena, rows) ?? null,
      biased: this.biased?.plan(arena, rows) ?? null,
      dWeights: arena.floats(rows * this.config.topK),
      dLogits: arena.floats(rows * this.config.numExperts),
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
    const { routing, experts, biased } = activations;
    if (this.experts && experts && scratch.experts) {
      this.experts.backward(pass, dx, scratch.dWeights, dy, routing, experts, scratch.experts);
    }
    if (this.biased && biased && scratch.biased) this.biased.backward(pass, dx, dy, x, biased, scratch.biased);
    if (this.router && activations.router) {
      this.router.backward(pass, dx, scratch.dWeights, dProbabilities, x, activations.router, scratch.dLogits);
    }
  }
}

function routeToTheOnlyExpert(routing: Routing, rows: number): void {
  routing.experts.fill(0);
  routing.weights.fill(1);
  routing.offsets[0] = 0;
  routing.offsets[1] = rows;
  for (let n = 0; n < rows; n++) routing.rows[n] = routing.slots[n] = n;
}
