// Top-k router: softmax over all experts, the k largest, divided by their sum or not (or two of them by sparsemixer); and the load-balancing loss
// (Fedus et al. 2021; k picks as in Mixtral): aux = E·Σ_e f_e·P_e, where P_e is the mean probability of expert e and f_e the
// picks of e per token, so Σ f_e = K and aux = K when the load is even.

import type { RouterOptions, Routing, SparseMixerOptions } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { ModelConfig } from './config.ts';
import { dropGradients, expertCapacity, fillJitter, limitCapacity } from './balancing.ts';
import { expertLayers } from './layer-kinds.ts';
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
  /** [E] what the choice is biased by; see `updateSelectionBias`. */
  readonly bias: FloatArray | null;
  readonly options: RouterOptions;
  /** Null where the k largest probabilities are chosen. */
  private readonly sparseMixer: SparseMixerOptions | null;
  private readonly layer: number;
  /** [E] scratch */
  private readonly taken: Int32Array;

  constructor(store: ParameterStore, name: string, config: ModelConfig, layer: number) {
    this.layer = layer;
    this.bias = config.selectionBias ? store.declareBuffer(`${name}_bias`, [config.numExperts]).data : null;
    this.taken = new Int32Array(config.numExperts);
    this.gate = new Linear(store, name, 'router', config.hiddenSize, config.numExperts);
    const { numExperts, topK, renormalise = true, renormaliseFloor: smallestSum, sparseMixer: jitter } = config;
    this.options = { numExperts, topK, renormalise, smallestSum };
    this.sparseMixer = jitter === undefined ? null : { numExperts, jitter };
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
    const { logits, routing } = activations;
    const { kernels, rows } = pass;
    const { numExperts: E, topK: K } = this.options;
    this.gate.forward(pass, logits, this.gateInput(pass, x));
    this.choose(pass, activations);
    const capacityFactor = pass.routing?.options.capacityFactor ?? 0;
    if (capacityFactor > 0) {
      limitCapacity(routing, rows * K, expertCapacity(capacityFactor, rows, K, E), this.taken);
    }
    kernels.dispatch(routing, rows, this.options);
  }

  /** Probabilities, experts and weights of the logits. */
  private choose({ kernels, rows }: Pass, { logits, probabilities, routing }: RouterActivations): void {
    const { weights, experts } = routing;
    if (this.sparseMixer) {
      kernels.sparseMixer(probabilities, weights, experts, logits, rows, this.sparseMixer);
    } else if (this.bias) {
      kernels.softmax(probabilities, logits, rows, this.options.numExperts);
      kernels.chooseExperts(weights, experts, probabilities, this.bias, rows, this.options);
    } else {
      kernels.router(probabilities, weights, experts, logits, rows, this.options);
    }
  }

  /**
   * dx [N,C] += …, dW += …, from dWeights [N,K] and dProbabilities [E] (see `auxGradient`); dWeights and dLogits [N,E] are
   * scratch afterwards.
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
    const { probabilities, routing, logits } = activations;
    const { kernels, rows } = pass;
    const context = pass.routing;
    if (context && context.options.capacityFactor > 0) {
      dropGradients(dWeights, routing.weights, rows * this.options.topK);
    }
    const { weights, experts } = routing;
    const { sparseMixer, options } = this;
    if (sparseMixer) {
      kernels.sparseMixerBackward(dLogits, dWeights, dProbabilities, probabilities, logits, experts, rows, sparseMixer);
    } else {
      kernels.routerBackward(dLogits, dWeights, dProbabilities, probabilities, weights, experts, rows, options);
    }
    if (context && context.zScale !== 0) {
      context.zSum += kernels.zLoss(dLogits, logits, rows, this.options.numExperts, context.zScale);
    }
    this.gateBackward(pass, dx, dLogits, x);
  }

  /** x, or x times its noise. */
  private gateInput(pass: Pass, x: FloatArray): FloatArray {
    const { jittered, source, options } = pass.routing ?? {};
    if (!jittered || !source) return x;
    const count = pass.rows * this.gate.inputs;
    fillJitter(jittered.input, count, options?.jitter ?? 0, source, this.layer);
    for (let i = 0; i < count; i++) jittered.input[i] *= x[i];
    return jittered.input;
  }

  /** dx += the gradient through the gate; the noise is drawn again, once for the weights' gradient and once for x's. */
  private gateBackward(pass: Pass, dx: FloatArray, dLogits: FloatArray, x: FloatArray): void {
    const { jittered, source, options } = pass.routing ?? {};
    if (!jittered || !source) return this.gate.backward(pass, dx, dLogits, x, true);
    const count = pass.rows * this.gate.inputs;
    this.gate.backward(pass, jittered.gradient, dLogits, this.gateInput(pass, x));
    fillJitter(jittered.input, count, options?.jitter ?? 0, source, this.layer);
    for (let i = 0; i < count; i++) dx[i] += jittered.gradient[i] * jittered.input[i];
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
 * How the load spreads over the experts of every layer that has some in one pass, and the load-balancing loss of it. Layers are taken one
 * by one (the mean of their losses) or pooled (f and P are means over the rows of all layers, as Hugging Face has it).
 */
export class RouterStatistics {
  /** Numbers of the layers that have experts; L of them. */
  private readonly layers: readonly number[];
  private readonly numExperts: number;
  private readonly isPooled: boolean;
  /** [L,E] picks. */
  private readonly picks: Float64Array;
  /** [L,E] sums of probabilities. */
  private readonly probabilities: Float64Array;
  private rows = 0;

  constructor(config: ModelConfig) {
    const { numExperts, auxLossReduction } = config;
    this.layers = expertLayers(config);
    this.numExperts = numExperts;
    this.isPooled = auxLossReduction === 'pooled';
    this.picks = new Float64Array(this.layers.length * numExperts);
    this.probabilities = new Float64Array(this.layers.length * numExperts);
  }

  /** Takes over what the router of `layer` did with `rows` rows. */
  record(layer: number, activations: RouterActivations, rows: number): void {
    const E = this.numExperts;
    const first = this.layers.indexOf(layer) * E;
    const { routing, probabilities } = activations;
    this.rows = rows;
    this.probabilities.fill(0, first, first + E);
    for (let e = 0; e < E; e++) this.picks[first + e] = routing.offsets[e + 1] - routing.offsets[e];
    for (let n = 0; n < rows; n++) {
      for (let e = 0; e < E; e++) this.probabilities[first + e] += probabilities[n * E + e];
    }
  }

  /** aux = E·Σ_e f_e·P_e; K when the load is even. */
  auxiliaryLoss(): number {
    let loss = 0;
    for (let place = 0; place < this.layers.length; place++) {
      for (let e = 0; e < this.numExperts; e++) {
        loss += this.mean(this.picks, place, e) * this.mean(this.probabilities, place, e);
      }
    }
    return (this.numExperts * loss) / this.layers.length;
  }

  /**
   * dProbabilities [E] = scale · d aux / d probabilities of any one row of `layer`: picks are counts and have no gradient, so
   * it is E·f_e / (layers·rows), the same for every row.
   */
  auxiliaryGradient(dProbabilities: FloatArray, layer: number, scale: number): void {
    const place = this.layers.indexOf(layer);
    const share = (scale * this.numExperts) / (this.layers.length * this.rows);
    for (let e = 0; e < this.numExperts; e++) dProbabilities[e] = share * this.mean(this.picks, place, e);
  }

  /** Share of the routed rows of `layer` that each expert got; sums to 1. */
  load(layer: number): number[] {
    const first = this.layers.indexOf(layer) * this.numExperts;
    const picks = this.picks.subarray(first, first + this.numExperts);
    const total = picks.reduce((sum, count) => sum + count, 0);
    return Array.from(picks, (count) => count / total);
  }

  /** Per row, of the layer that is the `place`-th with experts or of all of them. */
  private mean(table: Float64Array, place: number, expert: number): number {
    if (!this.isPooled) return table[place * this.numExperts + expert] / this.rows;
    let sum = 0;
    for (let i = expert; i < table.length; i += this.numExperts) sum += table[i];
    return sum / (this.layers.length * this.rows);
  }
}
