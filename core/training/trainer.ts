// One optimizer step: forward, loss, backward (a micro-batch at a time), clip, update.

import { GemmoeError } from '../errors.ts';
import { type LayerRouting, PLAIN_ROUTING, type RoutingOptions } from '../model/balancing.ts';
import type { LossResult, TrainingOptions, Transformer } from '../model/transformer.ts';
import type { Optimizer, Schedule } from '../plugin.ts';
import { Random } from '../random.ts';
import { MicroBatches, targetsIn } from './accumulation.ts';
import { clipScale } from './clip.ts';

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
  }

  /** Steps taken so far. */
  get steps(): number {
    return this.taken;
  }

  /**
   * Trains on `ids` and `targets` [accumulate·batch·length], `batch` sequences at a time.
   * @throws GemmoeError (diverged) when loss or gradient is not finite; the weights are then those before the step
   */
  step(ids: Int32Array, targets: Int32Array, batch: number, length: number): TrainingStep {
    const step = this.taken + 1;
    const learningRate = this.schedule(step);
    const { lossSum, tokens, auxLoss, zLoss } = this.accumulateGradients(ids, targets, batch, length);
    const loss = lossSum / tokens;
    const { parameters, kernels } = this.model;
    const gradientNorm = Math.sqrt(kernels.sumOfSquares(parameters.gradient));
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      parameters.gradient.fill(0);
      throw diverged(step, loss, gradientNorm, learningRate);
    }
    if (this.biasRate > 0) this.model.updateSelectionBias(this.biasRate);
    const momentum = this.schedule.momentum?.(step);
    this.optimizer.step({ step, learningRate, gradientScale: clipScale(gradientNorm, this.clipNorm), momentum });
    this.taken = step;
    const routing = this.model.routingTotals?.layers() ?? [];
    return { step, loss, auxLoss, zLoss, routing, gradientNorm, learningRate, tokens };
  }

  /**
   * Adds up the gradients of the micro-batches. The cross-entropy is divided by the targets of the whole step, so that it is
   * the large batch's however the targets are spread. Auxiliary and z-loss are each micro-batch's own, with equal shares (they
   * have equally many rows): the first balances the load within every micro-batch, a little stricter than over all of them.
   */
  private accumulateGradients(ids: Int32Array, targets: Int32Array, batch: number, length: number): LossResult {
    const { model, accumulate, checkpointEvery, random } = this;
    const tokens = targetsIn(targets, accumulate * batch * length);
    if (tokens === 0) throw new GemmoeError('bad-data', 'no row of the step has a target', 'give at least one');
    const options: TrainingOptions = {
      tokenScale: 1 / tokens,
      auxScale: model.config.auxLossCoefficient / accumulate,
      checkpointEvery,
      routing: { ...this.routing, zLoss: this.routing.zLoss / accumulate },
    };
    model.routingTotals?.reset();
    let lossSum = 0;
    let auxLoss: number | null = null;
    let zLoss: number | null = null;
    for (const [pass, micro] of this.microBatches.of(ids, targets, batch * length).entries()) {
      const jitter = { random, step: this.taken + 1, pass };
      const result = model.forwardBackward(micro.ids, micro.targets, batch, length, { ...options, jitter });
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
