// How routing is kept balanced and watched besides the auxiliary loss: what training adds to the routers (z-loss, jitter,
// capacity), the bias that replaces the auxiliary loss, and what a step's routing looked like.

import type { Routing } from '../kernels.ts';
import type { Random } from '../random.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { ModelConfig } from './config.ts';
import { expertLayers } from './layer-kinds.ts';

/** What routers do in a training pass that they do not do when the model is used. */
export interface RoutingOptions {
  /** Weight of the router z-loss: the mean over layers and rows of logsumexp(logits)² (Zoph et al. 2022); 0 for none. */
  readonly zLoss: number;
  /** ε: a router's input is multiplied by noise uniform on [1-ε, 1+ε) (Fedus et al. 2021); 0 for none. */
  readonly jitter: number;
  /**
   * An expert takes at most ceil(factor·K·N/E) of the rows of a pass; what comes after gets nothing from it. 0 drops nothing.
   */
  readonly capacityFactor: number;
}

export const PLAIN_ROUTING: RoutingOptions = { zLoss: 0, jitter: 0, capacityFactor: 0 };

/** The jitter's random numbers: element i of layer l in the n-th pass of a step is a function of (step, n, l, i) alone. */
export interface JitterSource {
  readonly random: Random;
  readonly step: number;
  /** Number of the micro-batch within the step. */
  readonly pass: number;
}

/** Training's side of a `Pass`. */
export interface RoutingContext {
  readonly options: RoutingOptions;
  readonly source: JitterSource | null;
  /** Buffers [N,C] for a jittered input and for its gradient; null without jitter. */
  readonly jittered: { readonly input: FloatArray; readonly gradient: FloatArray } | null;
  /** Factor on a row's z-loss: weight, share of the micro-batch, mean over layers and rows. */
  readonly zScale: number;
  /** Σ logsumexp² over the rows and layers whose backward pass is done. */
  zSum: number;
}

/** Blocks of four values between the noise of two layers, and layers between two passes: 2^14 passes fit a counter's 2^53. */
const LAYER_STRIDE = 2 ** 28;
const PASS_STRIDE = 2 ** 11;

/** noise [count]: the same for the same step, pass and layer. */
export function fillJitter(
  noise: FloatArray,
  count: number,
  epsilon: number,
  source: JitterSource,
  layer: number,
): void {
  const first = (source.pass * PASS_STRIDE + layer) * LAYER_STRIDE;
  source.random.fillUniform(noise, count, 1 - epsilon, 1 + epsilon, source.step, first);
}

/** Rows that an expert takes of N tokens with K choices each: ceil(factor·K·N/E), at least 1. */
export function expertCapacity(factor: number, N: number, K: number, E: number): number {
  return Math.max(1, Math.ceil((factor * K * N) / E));
}

/**
 * Sets the weight of every (token, choice) beyond an expert's capacity to 0: its residual stream passes the expert by, the other
 * choices keep their weights. Earlier tokens come first, so what a token gets does not depend on those after it.
 * `taken` [E] is scratch.
 */
export function limitCapacity(routing: Routing, M: number, capacity: number, taken: Int32Array): void {
  const { experts, weights } = routing;
  taken.fill(0);
  for (let i = 0; i < M; i++) if (++taken[experts[i]] > capacity) weights[i] = 0;
}

/** dWeights [M] of dropped choices become 0: their weight is the constant 0. */
export function dropGradients(dWeights: FloatArray, weights: FloatArray, M: number): void {
  for (let i = 0; i < M; i++) if (weights[i] === 0) dWeights[i] = 0;
}

/**
 * bias_e += rate·sign(mean load - load_e), less the mean of these moves so that the biases do not drift together
 * (Wang et al. 2024; recentred as torchtitan does).
 */
export function updateSelectionBias(bias: FloatArray, picks: ArrayLike<number>, rate: number): void {
  const E = bias.length;
  let total = 0;
  for (let e = 0; e < E; e++) total += picks[e];
  let drift = 0;
  for (let e = 0; e < E; e++) drift += Math.sign(total / E - picks[e]) / E;
  for (let e = 0; e < E; e++) bias[e] += rate * (Math.sign(total / E - picks[e]) - drift);
}

/** What one layer's router did in a step. */
export interface LayerRouting {
  /** Routed rows: tokens times choices. */
  readonly rows: number;
  /** Share of the routed rows that each expert was chosen for, drops included; sums to 1. */
  readonly load: readonly number[];
  /** Mean over rows of -Σ p·ln p, nats: ln E is undecided, 0 is certain. */
  readonly entropy: number;
  /** Share of the routed rows that were beyond an expert's capacity. */
  readonly dropped: number;
  /** Experts that no row chose. */
  readonly dead: number;
}

/** Adds up what the routers do over the passes of a step, of the layers that have one: L of them. */
export class RoutingTotals {
  /** Their numbers. */
  private readonly numbers: readonly number[];
  private readonly numExperts: number;
  /** [L,E] */
  private readonly picks: Float64Array;
  /** [L] sums over rows. */
  private readonly entropy: Float64Array;
  /** [L] routed rows. */
  private readonly dropped: Float64Array;
  /** [L] */
  private readonly rows: Float64Array;

  constructor(config: ModelConfig) {
    const { numExperts } = config;
    this.numbers = expertLayers(config);
    const numLayers = this.numbers.length;
    this.numExperts = numExperts;
    this.picks = new Float64Array(numLayers * numExperts);
    this.entropy = new Float64Array(numLayers);
    this.dropped = new Float64Array(numLayers);
    this.rows = new Float64Array(numLayers);
  }

  /** Begins a new step. */
  reset(): void {
    this.picks.fill(0);
    this.entropy.fill(0);
    this.dropped.fill(0);
    this.rows.fill(0);
  }

  /** Adds a pass of `layer`: `rows` tokens, experts taking `capacity` of them at most. */
  add(layer: number, routing: Routing, probabilities: FloatArray, rows: number, capacity: number): void {
    const E = this.numExperts;
    const place = this.numbers.indexOf(layer);
    for (let e = 0; e < E; e++) {
      const picks = routing.offsets[e + 1] - routing.offsets[e];
      this.picks[place * E + e] += picks;
      this.dropped[place] += Math.max(0, picks - capacity);
    }
    let entropy = 0;
    for (let i = 0; i < rows * E; i++)
      if (probabilities[i] > 0) entropy -= probabilities[i] * Math.log(probabilities[i]);
    this.entropy[place] += entropy;
    this.rows[place] += rows;
  }

  /** Moves the bias [E] of `layer` against the load of the step. */
  balance(layer: number, bias: FloatArray, rate: number): void {
    updateSelectionBias(bias, this.picksOf(this.numbers.indexOf(layer)), rate);
  }

  /** The step so far, layer by layer of those that have experts. */
  layers(): LayerRouting[] {
    const layers: LayerRouting[] = [];
    for (let place = 0; place < this.numbers.length; place++) layers.push(this.layerAt(place));
    return layers;
  }

  // in plain loops: it is asked for at every step, and each list on the way would be garbage
  private layerAt(place: number): LayerRouting {
    const E = this.numExperts;
    const first = place * E;
    let total = 0;
    let dead = 0;
    for (let e = 0; e < E; e++) {
      total += this.picks[first + e];
      if (this.picks[first + e] === 0) dead++;
    }
    const load: number[] = [];
    for (let e = 0; e < E; e++) load.push(this.picks[first + e] / total);
    const entropy = this.entropy[place] / this.rows[place];
    return { rows: total, load, entropy, dropped: this.dropped[place] / total, dead };
  }

  private picksOf(place: number): number[] {
    const E = this.numExperts;
    return Array.from({ length: E }, (_, e) => this.picks[place * E + e]);
  }
}
