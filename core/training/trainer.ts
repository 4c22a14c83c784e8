// One optimizer step: forward, loss, backward (a micro-batch at a time), clip, update.

import { GemmoeError } from '../errors.ts';
import { type LayerRouting, PLAIN_ROUTING, type RoutingOptions } from '../model/balancing.ts';
import { MixedPrecision, type MixedPrecisionOptions } from '../model/mixed-precision.ts';
import type { LoraAdapter } from '../model/lora.ts';
import type { ParameterStore } from '../model/parameters.ts';
import type { LossResult, Transformer } from '../model/transformer.ts';
import type { Optimizer, Schedule } from '../plugin.ts';
import { Random } from '../random.ts';
import { type MicroBatch, MicroBatches, targetsIn } from './accumulation.ts';
import { clipScale } from './clip.ts';
import { LossScaler, type LossScaleState } from './loss-scale.ts';
import { SpikeDetector, type SpikeState } from './spikes.ts';

/** What one step did. */
export interface TrainingStep {
  readonly step: number;
  /** Mean cross-entropy over the step's targets, nats, without the auxiliary loss. */
  readonly loss: number;
  /** E·Σ f_e·P_e, the mean over the micro-batches; null for a dense model. */
  readonly auxLoss: number | null;
  /** Mean over layers and rows of the routers' logsumexp²; null where it has no weight. */
  readonly zLoss: number | null;
  /** What each layer's router did, all micro-batches together; empty for a dense model. */
  readonly routing: readonly LayerRouting[];
  /** Before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
  /** Tokens that had a target. */
  readonly tokens: number;
  /**
   * True where the weights are those before the step: float16 overflowed, and loss and gradient norm may be infinite or NaN, or
   * the step was a spike.
   */
  readonly skipped: boolean;
  /** True where loss or gradient norm stood out too far, and `skipSpikes` is on. */
  readonly spike: boolean;
  /** Factor on the loss in this step; null where it is not scaled. */
  readonly lossScale: number | null;
}

/** What going on needs of a trainer, besides weights, optimizer and the number of steps. */
export interface TrainerState {
  /** Steps that overflowed or were spikes, of all that were taken: the optimizer did not see them. */
  readonly skipped: number;
  readonly lossScale: LossScaleState;
  /** Absent where spikes are not looked for. */
  readonly spikes?: SpikeState | undefined;
}

export interface TrainerOptions {
  /** Largest global gradient norm; 0 (default) switches clipping off. */
  readonly clipNorm?: number;
  /** Steps already taken, when training goes on from a checkpoint. */
  readonly step?: number;
  /** Micro-batches of a step; default 1. */
  readonly accumulate?: number;
  /** Keep the input of every n-th block and compute the rest again in the backward pass; 0 (default) keeps everything. */
  readonly checkpointEvery?: number;
  /** What the routers do in training alone; default nothing. */
  readonly routing?: RoutingOptions;
  /** How far a step moves the selection biases against the load; 0 (default) leaves them. */
  readonly biasRate?: number;
  /** Of the jitter's noise; default 1. */
  readonly seed?: number;
  /** Products on 16-bit operands; default none. */
  readonly precision?: MixedPrecisionOptions | undefined;
  /** Factor on the loss with precision `fp16`: fixed, or `dynamic` (default). */
  readonly lossScale?: number | 'dynamic';
  /** Standard deviations above the mean of the last 128 steps that loss or gradient norm may reach; 0 (default) takes every step. */
  readonly skipSpikes?: number;
  /** That of the checkpoint that training goes on from. */
  readonly state?: TrainerState | undefined;
  /** Trains this adapter of the model, which is merged, and nothing else; the optimizer is that of its store. */
  readonly adapter?: LoraAdapter | undefined;
}

/** Trains a model: `new Trainer(model, optimizer, schedule).step(ids, targets, batch, length)`. */
export class Trainer {
  readonly model: Transformer;
  private readonly optimizer: Optimizer;
  private readonly schedule: Schedule;
  private readonly clipNorm: number;
  private readonly accumulate: number;
  private readonly checkpointEvery: number;
  private readonly routing: RoutingOptions;
  private readonly biasRate: number;
  private readonly random: Random;
  private readonly mixed: MixedPrecision | undefined;
  /** Only where gradients pass through float16. */
  private readonly scaler: LossScaler | undefined;
  private readonly spikes: SpikeDetector | undefined;
  private readonly adapter: LoraAdapter | undefined;
  /** What the optimizer moves. */
  private readonly trained: ParameterStore;
  private skipped: number;
  private readonly microBatches: MicroBatches;
  private taken: number;

  constructor(model: Transformer, optimizer: Optimizer, schedule: Schedule, options: TrainerOptions = {}) {
    this.model = model;
    this.optimizer = optimizer;
    this.schedule = schedule;
    this.clipNorm = options.clipNorm ?? 0;
    this.accumulate = options.accumulate ?? 1;
    this.checkpointEvery = options.checkpointEvery ?? 0;
    this.routing = options.routing ?? PLAIN_ROUTING;
    this.biasRate = options.biasRate ?? 0;
    this.random = new Random(options.seed ?? 1, 'router jitter');
    this.microBatches = new MicroBatches(this.accumulate);
    this.taken = options.step ?? 0;
    const { precision, state, adapter } = options;
    this.adapter = adapter;
    this.trained = adapter?.store ?? model.parameters;
    adapter?.merge();
    this.mixed = precision && new MixedPrecision(model.parameters, model.kernels, precision);
    this.scaler =
      precision?.format === 'fp16' ? new LossScaler(options.lossScale ?? 'dynamic', state?.lossScale) : undefined;
    this.spikes = options.skipSpikes ? new SpikeDetector(options.skipSpikes, state?.spikes) : undefined;
    this.skipped = state?.skipped ?? 0;
  }

  /** Steps taken so far. */
  get steps(): number {
    return this.taken;
  }

  /** What a checkpoint keeps of it. */
  get state(): TrainerState {
    const lossScale = (this.scaler ?? new LossScaler(1)).snapshot();
    return { skipped: this.skipped, lossScale, ...(this.spikes && { spikes: this.spikes.snapshot() }) };
  }

  /**
   * Trains on `ids` and `targets` [accumulate·batch·length], `batch` sequences at a time.
   * @param documentStarts see Transformer.evaluate
   * @throws GemmoeError (diverged) when loss or gradient is not finite, in float16 when scaling the loss does not help; the
   *   weights are then those before the step
   */
  step(ids: Int32Array, targets: Int32Array, batch: number, length: number, documentStarts?: Int32Array): TrainingStep {
    const step = this.taken + 1;
    const learningRate = this.schedule(step);
    const lossScale = this.scaler?.scale ?? 1;
    const { lossSum, tokens, auxLoss, zLoss } = this.accumulateGradients(
      this.microBatches.of(ids, targets, batch * length, documentStarts),
      targetsIn(targets, this.accumulate * batch * length),
      batch,
      length,
      lossScale,
    );
    const loss = lossSum / tokens;
    this.adapter?.takeGradients();
    const { gradient } = this.trained;
    const gradientNorm = Math.sqrt(this.model.kernels.sumOfSquares(gradient)) / lossScale;
    const overflowed = !Number.isFinite(loss) || !Number.isFinite(gradientNorm);
    if (overflowed && !this.scaler) {
      gradient.fill(0);
      throw diverged(step, loss, gradientNorm, learningRate);
    }
    const spike = !overflowed && (this.spikes?.isSpike(loss, gradientNorm) ?? false);
    const skipped = overflowed || spike;
    if (skipped) {
      gradient.fill(0);
      if (overflowed) this.scaler?.overflowed(step);
      else this.scaler?.succeeded();
      this.skipped++;
    } else {
      this.update(step, learningRate, clipScale(gradientNorm, this.clipNorm) / lossScale);
    }
    this.taken = step;
    const routing = this.model.routingTotals?.layers() ?? [];
    const scaled = this.scaler ? lossScale : null;
    return {
      step,
      loss,
      auxLoss,
      zLoss,
      routing,
      gradientNorm,
      learningRate,
      tokens,
      skipped,
      spike,
      lossScale: scaled,
    };
  }

  /** Moves weights and biases by gradients that are finite. */
  private update(step: number, learningRate: number, gradientScale: number): void {
    this.scaler?.succeeded();
    if (this.biasRate > 0) this.model.updateSelectionBias(this.biasRate);
    const momentum = this.schedule.momentum?.(step);
    // bias corrections count the steps that moved the weights
    this.optimizer.step({ step: step - this.skipped, learningRate, gradientScale, momentum });
    this.adapter?.merge();
  }

  /**
   * Adds up the gradients of the micro-batches. The cross-entropy is divided by the targets of the whole step, so that it is
   * the large batch's however the targets are spread. Auxiliary and z-loss are each micro-batch's own, with equal shares (they
   * have equally many rows): the first balances the load within every micro-batch, a little stricter than over all of them.
   */
  private accumulateGradients(
    microBatches: readonly MicroBatch[],
    tokens: number,
    batch: number,
    length: number,
    lossScale: number,
  ): LossResult {
    const { model, accumulate, checkpointEvery, random, mixed } = this;
    if (tokens === 0) throw new GemmoeError('bad-data', 'no row of the step has a target', 'give at least one');
    const tokenScale = lossScale / tokens;
    const auxScale = (lossScale * model.config.auxLossCoefficient) / accumulate;
    const ownZLoss = (lossScale * this.routing.zLoss) / accumulate;
    const routing = ownZLoss === this.routing.zLoss ? this.routing : { ...this.routing, zLoss: ownZLoss };
    const step = this.taken + 1;
    mixed?.refresh();
    model.routingTotals?.reset();
    let lossSum = 0;
    let auxLoss: number | null = null;
    let zLoss: number | null = null;
    for (let pass = 0; pass < microBatches.length; pass++) {
      const { ids, targets, documentStarts } = microBatches[pass];
      const jitter = { random, step, pass };
      const options = { tokenScale, auxScale, checkpointEvery, routing, mixed, jitter, documentStarts };
      const result = model.forwardBackward(ids, targets, batch, length, options);
      lossSum += result.lossSum;
      auxLoss = plus(auxLoss, result.auxLoss, accumulate);
      zLoss = plus(zLoss, result.zLoss, accumulate);
    }
    return { lossSum, tokens, auxLoss, zLoss };
  }
}

/** sum + value / count; null where there is no value. */
function plus(sum: number | null, value: number | null, count: number): number | null {
  return value === null ? null : (sum ?? 0) + value / count;
}

function diverged(step: number, loss: number, gradientNorm: number, learningRate: number): GemmoeError {
  return new GemmoeError(
    'diverged',
    `training diverged at step ${step}: loss ${loss}, gradient norm ${gradientNorm}, learning rate ${learningRate}`,
    'lower the learning rate, lengthen the warm-up, or clip the gradient',
  );
}
