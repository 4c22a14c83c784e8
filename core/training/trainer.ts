// One optimizer step: forward, loss, backward, clip, update.

import { GemmoeError } from '../errors.ts';
import type { Transformer } from '../model/transformer.ts';
import type { Optimizer, Schedule } from '../plugin.ts';
import { clipScale } from './clip.ts';

/** What one step did. */
export interface TrainingStep {
  readonly step: number;
  /** Mean cross-entropy over the batch's targets, nats, without the auxiliary loss. */
  readonly loss: number;
  /** E·Σ f_e·P_e; null for a dense model. */
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
}

/** Trains a model: `new Trainer(model, optimizer, schedule).step(ids, targets, batch, length)`. */
export class Trainer {
  readonly model: Transformer;
  private readonly optimizer: Optimizer;
  private readonly schedule: Schedule;
  private readonly clipNorm: number;
  private taken: number;

  constructor(model: Transformer, optimizer: Optimizer, schedule: Schedule, options: TrainerOptions = {}) {
    this.model = model;
    this.optimizer = optimizer;
    this.schedule = schedule;
    this.clipNorm = options.clipNorm ?? 0;
    this.taken = options.step ?? 0;
  }

  /** Steps taken so far. */
  get steps(): number {
    return this.taken;
  }

  /**
   * Trains on `ids` and `targets` [batch·length].
   * @throws GemmoeError (diverged) when loss or gradient is not finite; the weights are then those before the step
   */
  step(ids: Int32Array, targets: Int32Array, batch: number, length: number): TrainingStep {
    const step = this.taken + 1;
    const learningRate = this.schedule(step);
    const { lossSum, tokens, auxLoss } = this.model.forwardBackward(ids, targets, batch, length);
    const loss = lossSum / tokens;
    const { parameters, kernels } = this.model;
    const gradientNorm = Math.sqrt(kernels.sumOfSquares(parameters.gradient));
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      parameters.gradient.fill(0);
      throw diverged(step, loss, gradientNorm, learningRate);
    }
    this.optimizer.step({ step, learningRate, gradientScale: clipScale(gradientNorm, this.clipNorm) });
    this.taken = step;
    return { step, loss, auxLoss, gradientNorm, learningRate, tokens };
  }
}

function diverged(step: number, loss: number, gradientNorm: number, learningRate: number): GemmoeError {
  return new GemmoeError(
    'diverged',
    `training diverged at step ${step}: loss ${loss}, gradient norm ${gradientNorm}, learning rate ${learningRate}`,
    'lower the learning rate, lengthen the warm-up, or clip the gradient',
  );
}
