// Top-k router: softmax over all experts, the k largest, divided by their sum; and the load-balancing loss
// (Fedus et al. 2021; k picks as in Mixtral): aux = E·Σ_e f_e·P_e, where P_e is the mean probability of expert e and f_e the
// picks of e per token, so Σ f_e = K and aux = K when the load is even.

import type { RouterOptions, Routing } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { ModelConfig } from './config.ts';
import { Linear } from './linear.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** What the router leaves for its backward pass and for the auxiliary loss. */
export interface RouterActivations {
  /** [N,E] */
  readonly logits: FloatArray;
  /** [N,E] */
  readonly probabilities: FloatArray;
  readonly routing: Routing;
}

export class Router {
  readonly gate: Linear;
  readonly options: RouterOptions;

  constructor(store: ParameterStore, name: string, config: ModelConfig) {
    this.gate = new Linear(store, name, 'router', config.hiddenSize, config.numExperts);
    this.options = { numExperts: config.numExperts, topK: config.topK, renormalise: true };
  }

  plan(arena: Arena, rows: number): RouterActivations {
    const { numExperts: E } = this.options;
    return {
      logits: arena.floats(rows * E),
      probabilities: arena.floats(rows * E),
      routing: planRouting(arena, rows, this.options),
    };
  }

  /** Chooses experts and weights for each row of x [N,C]. */
  forward(pass: Pass, x: FloatArray, activations: RouterActivations): void {
    const { logits, probabilities, routing } = activations;
    this.gate.forward(pass, logits, x);
    pass.kernels.router(probabilities, routing.weights, routing.experts, logits, pass.rows, this.options);
    pass.kernels.dispatch(routing, pass.rows, this.options);
  }

  /**
   * dx [N,C] += …, dW += …, from dWeights [N,K] and dProbabilities [E] (see `auxGradient`); dLogits [N,E] is scratch.
   */
  backward(
    pass: Pass,
    dx: FloatArray,
    dWeights: FloatArray,
    dProbabilities: FloatArray | null,
    x: FloatArray,
    activations: RouterActivations,
    dLogits: FloatArray,
  ): void {
    const { probabilities, routing } = activations;
    pass.kernels.routerBackward(
      dLogits,
      dWeights,
      dProbabilities,
      probabilities,
      routing.weights,
      routing.experts,
      pass.rows,
      this.options,
    );
    this.gate.backward(pass, dx, dLogits, x, true);
  }
}

/** Buffers of a routing of `rows` tokens. */
export function planRouting(arena: Arena, rows: number, options: RouterOptions): Routing {
  const routed = rows * options.topK;
  return {
    experts: arena.ints(routed),
    weights: arena.floats(routed),
    offsets: arena.ints(options.numExperts + 1),
    rows: arena.ints(routed),
    slots: arena.ints(routed),
  };
}

/**
 * How the load spreads over the experts of every layer in one pass, and the load-balancing loss of it. Layers are taken one
 * by one (the mean of their losses) or pooled (f and P are means over the rows of all layers, as Hugging Face has it).
 */
export class RouterStatistics {
  private readonly numLayers: number;
  private readonly numExperts: number;
  private readonly isPooled: boolean;
  /** [L,E] picks. */
  private readonly picks: Float64Array;
  /** [L,E] sums of probabilities. */
  private readonly probabilities: Float64Array;
  private rows = 0;

  constructor({ numLayers, numExperts, auxLossReduction }: ModelConfig) {
    this.numLayers = numLayers;
    this.numExperts = numExperts;
    this.isPooled = auxLossReduction === 'pooled';
    this.picks = new Float64Array(numLayers * numExperts);
    this.probabilities = new Float64Array(numLayers * numExperts);
  }

  /** Takes over what the router of `layer` did with `rows` rows. */
  record(layer: number, activations: RouterActivations, rows: number): void {
    const E = this.numExperts;
    const { routing, probabilities } = activations;
    this.rows = rows;
    this.probabilities.fill(0, layer * E, (layer + 1) * E);
    for (let e = 0; e < E; e++) this.picks[layer * E + e] = routing.offsets[e + 1] - routing.offsets[e];
    for (let n = 0; n < rows; n++) {
      for (let e = 0; e < E; e++) this.probabilities[layer * E + e] += probabilities[n * E + e];
    }
  }

  /** aux = E·Σ_e f_e·P_e; K when the load is even. */
  auxiliaryLoss(): number {
    let loss = 0;
    for (let layer = 0; layer < this.numLayers; layer++) {
      for (let e = 0; e < this.numExperts; e++) {
        loss += this.mean(this.picks, layer, e) * this.mean(this.probabilities, layer, e);
      }
    }
    return (this.numExperts * loss) / this.numLayers;
  }

  /**
   * dProbabilities [E] = scale · d aux / d probabilities of any one row of `layer`: picks are counts and have no gradient, so
   * it is E·f_e / (layers·rows), the same for every row.
   */
  auxiliaryGradient(dProbabilities: FloatArray, layer: number, scale: number): void {
    for (let e = 0; e < this.numExperts; e++) {
      dProbabilities[e] = (scale * this.numExperts * this.mean(this.picks, layer, e)) / (this.numLayers * this.rows);
    }
  }

  /** Share of the routed rows of `layer` that each expert got; sums to 1. */
  load(layer: number): number[] {
    const picks = this.picks.subarray(layer * this.numExperts, (layer + 1) * this.numExperts);
    const total = picks.reduce((sum, count) => sum + count, 0);
    return Array.from(picks, (count) => count / total);
  }

  /** Per row, of the layer or of all layers. */
  private mean(table: Float64Array, layer: number, expert: number): number {
    if (!this.isPooled) return table[layer * this.numExperts + expert] / this.rows;
    let sum = 0;
    for (let i = expert; i < table.length; i += this.numExperts) sum += table[i];
    return sum / (this.numLayers * this.rows);
  }
}
