// The whole model: ids [B,T] -> embedding -> blocks -> norm -> LM head -> logits [B,T,V], and its complete backward pass.

import { GemmoeError } from '../errors.ts';
import type { Kernels } from '../kernels.ts';
import { type ComputeType, ELEMENT_BYTES, type FloatArray } from '../tensor/dtype.ts';
import { measurePlan, Workspace } from '../tensor/workspace.ts';
import {
  expertCapacity,
  type JitterSource,
  type RoutingContext,
  type RoutingOptions,
  RoutingTotals,
} from './balancing.ts';
import { Block, type BlockActivations } from './block.ts';
import { checkCache, checkDocumentStarts, checkIds, countTargets } from './check-input.ts';
import { type ModelConfig, parseModelConfig } from './config.ts';
import { Embedding } from './embedding.ts';
import { Head } from './head.ts';
import { holdWeights } from './held-weights.ts';
import { initialiseParameters } from './initialise.ts';
import type { KvCache } from './kv-cache.ts';
import { expertLayers } from './layer-kinds.ts';
import { makeNorm } from './make-norm.ts';
import type { MixedPrecision } from './mixed-precision.ts';
import type { Norm } from './norm.ts';
import { ParameterStore, type WeightFormat } from './parameters.ts';
import type { Pass } from './pass.ts';
import {
  type InferencePlan,
  type Layers,
  planInference,
  planTraining,
  segmentLength,
  type TrainingPlan,
} from './plans.ts';
import { RopeTables } from './rope-tables.ts';
import { RouterStatistics } from './router.ts';

/** What a pass over a batch gives. */
export interface LossResult {
  /** Σ cross-entropy, nats, over the rows that have a target. */
  readonly lossSum: number;
  /** Rows that have a target. */
  readonly tokens: number;
  /** E·Σ f_e·P_e, not yet times its coefficient; null for a dense model. */
  readonly auxLoss: number | null;
  /** Mean over layers and rows of the routers' logsumexp², not yet times its weight; null where it has none. */
  readonly zLoss: number | null;
}

/** How a forward pass without gradients is to run. */
export interface ForwardOptions {
  /** Holds the tokens before `ids`, and afterwards `ids` too. */
  readonly cache?: KvCache;
  /** `all` (default) gives logits [B·T,V], `last` those of each sequence's last row [B,V]. */
  readonly logits?: 'all' | 'last';
}

/** How a training pass is to run. */
export interface TrainingOptions {
  /** Factor on Σ cross-entropy; 1 / tokens of the batch by default. Micro-batches pass 1 / tokens of the whole step. */
  readonly tokenScale?: number;
  /** Factor on the auxiliary loss; its coefficient by default. Micro-batches pass their share of it. */
  readonly auxScale?: number;
  /**
   * Activation checkpointing (Chen et al. 2016): the input of every n-th block is kept, what lies between is computed again in
   * the backward pass. The gradients are the same bits. 0 (default) keeps everything.
   */
  readonly checkpointEvery?: number;
  /** What the routers do in training alone; default nothing. Micro-batches pass their share of the z-loss's weight. */
  readonly routing?: RoutingOptions;
  /** Needed for jitter. */
  readonly jitter?: JitterSource;
  /** As for `evaluate`. */
  readonly documentStarts?: Int32Array | undefined;
  /** Which products run on 16-bit operands; default none. */
  readonly mixed?: MixedPrecision | undefined;
}

/** How a model's arrays are held. */
export interface ModelOptions {
  /** Element type of activations and weights; default `f32`. */
  readonly dtype?: ComputeType;
  /** `bf16` holds the matrices in half the memory, for use and not for training; default `floats`. */
  readonly weights?: WeightFormat;
}

/** What not every pass has. */
interface PassOptions {
  readonly routing?: Pass['routing'];
  readonly mixed?: Pass['mixed'];
  readonly documentStarts?: Int32Array | undefined;
}

export class Transformer {
  readonly config: ModelConfig;
  readonly kernels: Kernels;
  readonly parameters: ParameterStore;
  /** Load of every expert in the last pass; null for a dense model. */
  readonly routing: RouterStatistics | null;
  /** What the routers did in the training passes since its last reset; null for a dense model. */
  readonly routingTotals: RoutingTotals | null;
  private readonly workspace: Workspace;
  private readonly rope: RopeTables;
  private readonly embedding: Embedding;
  private readonly blocks: readonly Block[];
  private readonly finalNorm: Norm;
  private readonly head: Head;
  private readonly routedLayers: readonly number[];
  private release: (() => void) | undefined;

  /** A model of zero weights, allocated at their first use; fill them with `initialise` or from a file. */
  constructor(config: ModelConfig, kernels: Kernels, options: ModelOptions = {}) {
    const dtype = options.dtype ?? 'f32';
    this.config = parseModelConfig(config);
    this.kernels = kernels;
    this.workspace = new Workspace(dtype);
    this.rope = new RopeTables(config, dtype);
    this.routing = config.numExperts > 1 ? new RouterStatistics(config) : null;
    this.routingTotals = config.numExperts > 1 ? new RoutingTotals(config) : null;
    const store = new ParameterStore(dtype, options.weights);
    this.parameters = store;
    this.embedding = new Embedding(store, 'embedding', config.vocabSize, config.hiddenSize, config.embeddingMultiplier);
    this.blocks = Array.from({ length: config.numLayers }, (_, layer) => new Block(store, config, layer));
    this.finalNorm = makeNorm(store, 'final_norm', config);
    this.head = new Head(store, config, this.embedding.table);
    this.routedLayers = expertLayers(config);
  }

  get dtype(): ComputeType {
    return this.parameters.dtype;
  }

  /** Bytes of activations held. */
  get activationBytes(): number {
    return this.workspace.bytes;
  }

  /** Bytes of activations that a training pass of this shape needs, all blocks' kept or every n-th one's input. */
  trainingBytes(batch: number, length: number, checkpointEvery = 0, hasJitter = false): number {
    const segment = segmentLength(checkpointEvery, this.blocks.length);
    const shape = { batch, length, segment, hasJitter };
    const size = measurePlan((arena) => planTraining(arena, this.layers, shape));
    return size.floats * ELEMENT_BYTES[this.dtype] + size.ints * 4;
  }

  /**
   * Packs the weights for forward passes of few rows, at the price of a second copy of them. They must not be changed until
   * `releaseWeights`; training lets go of them by itself. The logits are the same bits.
   */
  holdWeights(): void {
    this.release ??= holdWeights(this.parameters, this.kernels, this.config.tieEmbeddings);
  }

  releaseWeights(): void {
    this.release?.();
    this.release = undefined;
  }

  /** Random weights, the same for the same seed on every machine. */
  initialise(seed: number): void {
    this.releaseWeights();
    initialiseParameters(this.parameters, this.kernels, this.config.numLayers, seed);
  }

  /**
   * Logits [B·T,V], or [B,V] with `logits: 'last'`; the array is valid until the model's next pass.
   * @throws GemmoeError for ids outside the vocabulary, sequences beyond the longest, a cache of another shape or full
   */
  forward(ids: Int32Array, batch: number, length: number, options: ForwardOptions = {}): FloatArray {
    return this.infer(ids, batch, length, options.cache ?? null, options.logits ?? 'all').logits;
  }

  /**
   * The loss without gradients.
   * @param documentStarts [B·T] the place in its sequence where the document of each row begins: attention does not reach
   *   before it, and positions count from it; absent where every sequence is one document
   */
  evaluate(
    ids: Int32Array,
    targets: Int32Array,
    batch: number,
    length: number,
    documentStarts?: Int32Array,
  ): LossResult {
    const rows = batch * length;
    const tokens = countTargets(targets, rows, this.config.vocabSize);
    const { logits } = this.infer(ids, batch, length, null, 'all', documentStarts);
    const lossSum = this.kernels.crossEntropy(null, logits, targets, rows, this.config.vocabSize, 0);
    return { lossSum, tokens, auxLoss: this.routing?.auxiliaryLoss() ?? null, zLoss: null };
  }

  /**
   * Forward and backward: adds to every parameter's gradient that of `tokenScale·Σ cross-entropy + auxScale·auxLoss`. The
   * defaults make it the mean over tokens plus the configured share of the auxiliary loss.
   * @throws GemmoeError for a batch without any target, unless `tokenScale` says that others of its step have one
   */
  forwardBackward(
    ids: Int32Array,
    targets: Int32Array,
    batch: number,
    length: number,
    options: TrainingOptions = {},
  ): LossResult {
    this.releaseWeights();
    checkIds(this.config, ids, batch, length, 0);
    const rows = batch * length;
    const tokens = countTargets(targets, rows, this.config.vocabSize);
    if (tokens === 0 && options.tokenScale === undefined) {
      throw new GemmoeError('bad-data', 'no row of the batch has a target', 'give at least one');
    }
    const segment = segmentLength(options.checkpointEvery ?? 0, this.blocks.length);
    const hasJitter = this.routing !== null && (options.routing?.jitter ?? 0) > 0;
    const plan = this.workspace.plan(`training ${batch}x${length}, every ${segment}, ${hasJitter}`, (arena) =>
      planTraining(arena, this.layers, { batch, length, segment, hasJitter }),
    );
    const routing = this.routingContext(plan, rows, options);
    const training = { routing, mixed: options.mixed ?? null, documentStarts: options.documentStarts };
    const pass = this.preparePass(plan.positions, plan.starts, batch, length, null, training);
    this.parameters.ensureGradients();
    this.forwardThroughBlocks(pass, plan, ids);
    const auxLoss = this.routing?.auxiliaryLoss() ?? null;
    const auxScale = options.auxScale ?? this.config.auxLossCoefficient;
    for (const layer of this.routedLayers) {
      this.routing?.auxiliaryGradient(plan.dProbabilities[layer], layer, auxScale);
    }
    const lossSum = this.headForwardBackward(pass, plan, targets, options.tokenScale ?? 1 / tokens);
    this.backwardThroughBlocks(pass, plan, ids, segment);
    const zLoss = routing && routing.zScale !== 0 ? routing.zSum / (rows * this.routedLayers.length) : null;
    return { lossSum, tokens, auxLoss, zLoss };
  }

  /** Moves every layer's selection bias against the load of the passes since the totals' last reset. */
  updateSelectionBias(rate: number): void {
    for (const [layer, block] of this.blocks.entries()) {
      const bias = block.router?.bias;
      if (bias) this.routingTotals?.balance(layer, bias, rate);
    }
  }

  /** Spread (largest less smallest) of each layer's selection bias; empty where there is none. */
  selectionBiasSpread(): number[] {
    return this.blocks.flatMap(({ router }) =>
      router?.bias ? [Math.max(...router.bias) - Math.min(...router.bias)] : [],
    );
  }

  private infer(
    ids: Int32Array,
    batch: number,
    length: number,
    cache: KvCache | null,
    wanted: 'all' | 'last',
    documentStarts?: Int32Array,
  ): InferencePlan {
    checkIds(this.config, ids, batch, length, cache?.length ?? 0);
    if (cache) checkCache(this.config, cache, batch, length);
    const { hiddenSize: C } = this.config;
    const outputs = wanted === 'all' ? batch * length : batch;
    const plan = this.workspace.plan(`inference ${batch}x${length} ${wanted}`, (arena) =>
      planInference(arena, this.layers, batch, length, outputs),
    );
    const pass = this.preparePass(plan.positions, plan.starts, batch, length, cache, { documentStarts });
    this.embedding.forward(pass, plan.stream, ids);
    for (const [layer, block] of this.blocks.entries()) {
      block.forward(pass, plan.stream, plan.stream, plan.blocks[layer]);
      this.recordRouting(layer, plan.blocks[layer], pass.rows);
    }
    cache?.advance(length);
    let selected = plan.stream;
    if (wanted === 'last') {
      selected = plan.last;
      copyLastRows(selected, plan.stream, batch, length, C);
    }
    this.finalNorm.forward(pass, selected, plan.finalNorm, outputs);
    this.head.forward(pass, plan.logits, plan.finalNorm.output, outputs);
    return plan;
  }

  private forwardThroughBlocks(pass: Pass, plan: TrainingPlan, ids: Int32Array): void {
    this.embedding.forward(pass, plan.streams[0], ids);
    for (let layer = 0; layer < this.blocks.length; layer++) {
      this.blocks[layer].forward(pass, plan.streams[layer + 1], plan.streams[layer], plan.blocks[layer]);
      this.recordRouting(layer, plan.blocks[layer], pass.rows);
      this.addToTotals(pass, layer, plan.blocks[layer]);
    }
  }

  /** Logits, loss and the gradient of the last stream; the logits' gradient takes the logits' place. */
  private headForwardBackward(pass: Pass, plan: TrainingPlan, targets: Int32Array, tokenScale: number): number {
    const { finalNorm, logits, dNorm, dStream } = plan;
    const stream = plan.streams[this.blocks.length];
    this.finalNorm.forward(pass, stream, finalNorm);
    this.head.forward(pass, logits, finalNorm.output);
    const lossSum = this.head.lossBackward(pass, dNorm, logits, finalNorm.output, targets, tokenScale);
    dStream.fill(0);
    this.finalNorm.backward(pass, dStream, dNorm, stream, finalNorm);
    return lossSum;
  }

  private backwardThroughBlocks(pass: Pass, plan: TrainingPlan, ids: Int32Array, segment: number): void {
    const count = this.blocks.length;
    for (let layer = count - 1; layer >= 0; layer--) {
      // the last segment is still there; the others' activations have been overwritten by it
      if ((layer + 1) % segment === 0 && layer + 1 < count) this.recompute(pass, plan, layer + 1 - segment, layer + 1);
      this.blocks[layer].backward(
        pass,
        plan.dStream,
        plan.streams[layer],
        this.routing ? plan.dProbabilities[layer] : null,
        plan.blocks[layer],
        plan.scratch[layer],
      );
    }
    this.embedding.backward(pass, plan.dStream, ids);
  }

  /** The forward pass of blocks `first` … `end - 1` once more, for their activations; the routing is not counted again. */
  private recompute(pass: Pass, plan: TrainingPlan, first: number, end: number): void {
    for (let layer = first; layer < end; layer++) {
      this.blocks[layer].forward(pass, plan.streams[layer + 1], plan.streams[layer], plan.blocks[layer]);
    }
  }

  private preparePass(
    positions: Int32Array,
    starts: Int32Array,
    batch: number,
    length: number,
    cache: KvCache | null,
    { routing = null, mixed = null, documentStarts }: PassOptions,
  ): Pass {
    const start = cache?.length ?? 0;
    starts.fill(start);
    if (documentStarts) checkDocumentStarts(documentStarts, batch, length);
    for (let n = 0; n < positions.length; n++) positions[n] = start + (n % length) - (documentStarts?.[n] ?? 0);
    this.rope.ensure(start + length);
    const { kernels, rope } = this;
    const rows = batch * length;
    const given = documentStarts ?? null;
    return { kernels, batch, length, rows, positions, starts, cache, rope, routing, mixed, documentStarts: given };
  }

  private routingContext(plan: TrainingPlan, rows: number, options: TrainingOptions): RoutingContext | null {
    const { routing, jitter } = options;
    if (!this.routing || !routing) return null;
    if (plan.jittered && !jitter) throw new GemmoeError('internal', 'jitter was asked for without a source of noise');
    const zScale = routing.zLoss / (rows * this.routedLayers.length);
    return { options: routing, source: jitter ?? null, jittered: plan.jittered, zScale, zSum: 0 };
  }

  private get layers(): Layers {
    const { config, blocks, finalNorm } = this;
    return { config, blocks, finalNorm };
  }

  private recordRouting(layer: number, activations: BlockActivations, rows: number): void {
    const { router } = activations.feedForward;
    if (router) this.routing?.record(layer, router, rows);
  }

  private addToTotals({ rows, routing }: Pass, layer: number, { feedForward }: BlockActivations): void {
    if (!feedForward.router || !this.routingTotals) return;
    const { numExperts: E, topK: K } = this.config;
    const factor = routing?.options.capacityFactor ?? 0;
    const capacity = factor > 0 ? expertCapacity(factor, rows, K, E) : rows;
    this.routingTotals.add(layer, feedForward.routing, feedForward.router.probabilities, rows, capacity);
  }
}

/** The last of every `length` rows of `stream`. */
function copyLastRows(out: FloatArray, stream: FloatArray, batch: number, length: number, C: number): void {
  for (let b = 0; b < batch; b++) {
    const from = ((b + 1) * length - 1) * C;
    for (let i = 0; i < C; i++) out[b * C + i] = stream[from + i];
  }
}
