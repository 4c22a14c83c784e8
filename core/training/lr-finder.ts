// The learning-rate range test (Smith 2017, "Cyclical learning rates for training neural networks"; the smoothing and the two
// suggestions are fastai's): the rate grows exponentially from step to step until the loss explodes. Nothing is written.

import { GemmoeError } from '../errors.ts';
import { nextTurn } from './evaluate.ts';
import { assembleRun, batchBuffers, type RunServices, trainerOptions } from './run-parts.ts';
import type { RunSettings } from './settings.ts';
import { Trainer } from './trainer.ts';

/** Weight of the past in the smoothed loss; fastai's 0.98 lags behind in so few steps. */
const SMOOTHING = 0.95;
/** The sweep ends when the loss is this many times the lowest smoothed one. */
const EXPLODED = 4;
/** Points at the beginning that say nothing yet: the smoothed loss is that of a few batches. */
const SKIPPED = 10;
/** The rate of the lowest loss is already too high: a tenth of it is usual. */
const BELOW_MINIMUM = 10;

export interface LrSweepOptions {
  /** Rates of the first and the last step. */
  readonly from: number;
  readonly to: number;
  readonly signal?: AbortSignal | undefined;
  /** Called after every step. */
  readonly onStep?: (point: LrPoint, step: number) => void;
}

/** One step of a sweep. */
export interface LrPoint {
  readonly learningRate: number;
  /** Nats per token, of the step's batch before the step. */
  readonly loss: number;
  /** Exponential mean of the losses so far. */
  readonly smoothed: number;
}

/** What a sweep found. */
export interface LrSweep {
  readonly points: readonly LrPoint[];
  /** True when the loss exploded before the last rate. */
  readonly exploded: boolean;
  readonly suggestion: LrSuggestion;
}

export interface LrSuggestion {
  /** Rate where the loss falls steepest, by the logarithm of the rate. */
  readonly steepest: number;
  /** Rate of the lowest loss; a training's peak rate has to stay well below. */
  readonly minimum: number;
  /** What to try: the steepest, but no more than a tenth of the minimum. */
  readonly learningRate: number;
}

/**
 * Trains `settings.steps` steps, each with a larger rate than the one before.
 * @throws GemmoeError for settings that cannot be, a sweep that found nothing, or when the signal stops it
 */
export async function findLearningRate(
  settings: RunSettings,
  services: RunServices,
  { from, to, signal, onStep }: LrSweepOptions,
): Promise<LrSweep> {
  checkRange(from, to, settings.steps);
  const run = await assembleRun(settings, services);
  try {
    const { model, optimizer, sampler } = run;
    const { batchSize, sequenceLength, steps } = run.settings;
    const rateOf = (step: number) => from * (to / from) ** ((step - 1) / (steps - 1));
    const trainer = new Trainer(model, optimizer, rateOf, { ...trainerOptions(run), skipSpikes: 0 });
    const { ids, targets, documentStarts } = batchBuffers(run.settings);
    const curve = new SweepCurve();
    for (let step = 1; step <= steps && !curve.hasExploded; step++) {
      if (signal?.aborted) throw new GemmoeError('usage', `the sweep was interrupted at step ${step}`);
      sampler.fill(step, ids, targets, documentStarts);
      const loss = lossOf(() => trainer.step(ids, targets, batchSize, sequenceLength, documentStarts));
      if (loss === undefined) return curve.result(true);
      const point = curve.add(rateOf(step), loss);
      onStep?.(point, step);
      await nextTurn();
    }
    return curve.result(curve.hasExploded);
  } finally {
    run.corpus.close();
  }
}

function checkRange(from: number, to: number, steps: number): void {
  if (from < to && steps > 2 * SKIPPED) return;
  throw new GemmoeError(
    'usage',
    `a sweep from ${from} to ${to} in ${steps} steps finds nothing`,
    `the first rate is below the last, and there are more than ${2 * SKIPPED} steps`,
  );
}

/** The loss of a step; undefined where training diverged. */
function lossOf(step: () => { readonly loss: number }): number | undefined {
  try {
    const { loss } = step();
    return Number.isFinite(loss) ? loss : undefined;
  } catch (error) {
    if (error instanceof GemmoeError && error.code === 'diverged') return undefined;
    throw error;
  }
}

/** Losses by rate, smoothed as they come. */
export class SweepCurve {
  private readonly points: LrPoint[] = [];
  private sum = 0;
  private weight = 0;
  private lowest = Infinity;

  add(learningRate: number, loss: number): LrPoint {
    this.sum += (1 - SMOOTHING) * (loss - this.sum);
    this.weight += (1 - SMOOTHING) * (1 - this.weight);
    const point = { learningRate, loss, smoothed: this.sum / this.weight };
    this.points.push(point);
    this.lowest = Math.min(this.lowest, point.smoothed);
    return point;
  }

  /** The loss of a batch counts, not the mean, which lags behind an explosion. */
  get hasExploded(): boolean {
    const last = this.points.at(-1);
    return last !== undefined && this.points.length > SKIPPED && last.loss > EXPLODED * this.lowest;
  }

  /** @throws GemmoeError when the loss never fell */
  result(exploded: boolean): LrSweep {
    return { points: this.points, exploded, suggestion: suggestionOf(this.points) };
  }
}

/** @throws GemmoeError when the loss never fell */
export function suggestionOf(points: readonly LrPoint[]): LrSuggestion {
  const known = points.slice(SKIPPED);
  const least = known.reduce((best, { smoothed }, i) => (smoothed < known[best].smoothed ? i : best), 0);
  if (known.length === 0 || least === 0) {
    throw new GemmoeError(
      'bad-data',
      `the loss never fell in ${points.length} steps`,
      'begin at a lower rate with --from-rate, or take more --steps',
    );
  }
  // the slope between the neighbours of a point; the rates are evenly spaced by their logarithm
  let steepest = 0;
  for (let i = 1; i < least; i++) if (slope(known, i) < slope(known, steepest)) steepest = i;
  const minimum = known[least].learningRate;
  const { learningRate } = known[steepest];
  return { steepest: learningRate, minimum, learningRate: Math.min(learningRate, minimum / BELOW_MINIMUM) };
}

function slope(points: readonly LrPoint[], i: number): number {
  const [before, after] = [Math.max(0, i - 1), Math.min(points.length - 1, i + 1)];
  return (points[after].smoothed - points[before].smoothed) / (after - before);
}
