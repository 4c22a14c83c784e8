// One optimizer step: forward, loss, backward (a micro-batch at a time), clip, update.

import { GemmoeError } from '../errors.ts';
import type { LossResult, TrainingOptions, Transformer } from '../model/transformer.ts';
import type { Optimizer, Schedule } from '../plugin.ts';
import { MicroBatches, targetsIn } from './accumulation.ts';
import { clipScale } from './clip.ts';

/** What one step did. */
export interface TrainingStep {
  readonly step: number;
  /** Mean cross-entropy over the step's targets, nats, without the auxiliary loss. */
  readonly loss: number;
  /** E·Σ f_e·P_e, the mean over the micro-batches; null for a dense model. */
  readonly auxLoss: number | null;
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
}

/** Trains a model: `new Trainer(model, optimizer, schedule).step(ids, targets, batch, length)`. */
export class Trainer {
  readonly model: Transformer;
  private readonly optimizer: Optimizer;
  private readonly schedule: Schedule;
  private readonly clipNorm: number;
  private readonly accumulate: number;
  private readonly checkpointEvery: number;
  private readonly microBatches: MicroBatches;
  private taken: number;

  constructor(model: Transformer, optimizer: Optimizer, schedule: Schedule, options: TrainerOptions = {}) {
    this.model = model;
    this.optimizer = optimizer;
    this.schedule = schedule;
    this.clipNorm = options.clipNorm ?? 0;
    this.accumulate = options.accumulate ?? 1;
    this.checkpointEvery = options.checkpointEvery ?? 0;
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
    const { lossSum, tokens, auxLoss } = this.accumulateGradients(ids, targets, batch, length);
    const loss = lossSum / tokens;
    const { parameters, kernels } = this.model;
    const gradientNorm = Math.sqrt(kernels.sumOfSquares(parameters.gradient));
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      parameters.gradient.fill(0);
      throw diverged(step, loss, gradientNorm, learningRate);
    }
    const momentum = this.schedule.momentum?.(step);
    this.optimizer.step({ step, learningRate, gradientScale: clipScale(gradientNorm, this.clipNorm), momentum });
    this.taken = step;
    return { step, loss, auxLoss, gradientNorm, learningRate, tokens };
  }

  /**
   * Adds up the gradients of the micro-batches. The cross-entropy is divided by the targets of the whole step, so that it is
   * the large batch's however the targets are spread. The auxiliary loss is each micro-batch's own, with equal shares (they
   * have equally many rows): it balances the load within every micro-batch, which is a little stricter than over all of them.
   */
  private accumulateGradients(ids: Int32Array, targets: Int32Array, batch: number, length: number): LossResult {
    const { model, accumulate, checkpointEvery } = this;
    const tokens = targetsIn(targets, accumulate * batch * length);
    if (tokens === 0) throw new GemmoeError('bad-data', 'no row of the step has a target', 'give at least one');
    const options: TrainingOptions = {
      tokenScale: 1 / tokens,
      auxScale: model.config.auxLossCoefficient / accumulate,
      checkpointEvery,
    };
    let lossSum = 0;
    let auxLoss: number | null = null;
    for (const micro of this.microBatches.of(ids, targets, batch * length)) {
      const result = model.forwardBackward(micro.ids, micro.targets, batch, length, options);
      lossSum += result.lossSum;
      if (result.auxLoss !== null) auxLoss = (auxLoss ?? 0) + result.auxLoss / accumulate;
    }
    return { lossSum, tokens, auxLoss };
  }
}

function diverged(step: number, loss: number, gradientNorm: number, learningRate: number): GemmoeError {
  return new GemmoeError(
    'diverged',
    `training diverged at step ${step}: loss ${loss}, gradient norm ${gradientNorm}, learning rate ${learningRate}`,
    'lower the learning rate, lengthen the warm-up, or clip the gradient',
  );
}
