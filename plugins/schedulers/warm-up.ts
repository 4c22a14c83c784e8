// Linear warm-up, shared by the schedules: step t = 1 … w has rate peak·t/w, so the peak is reached at step w and no step has
// rate 0.

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import type { Schedule, ScheduleContext } from '../../core/plugin.ts';

/** Default warm-up: this share of the run, but no more than so many steps. */
const DEFAULT_SHARE = 0.1;
const DEFAULT_STEPS = 100;

/** Option of every schedule. */
export const warmupSteps = z.int().nonnegative().optional();

/** Floor of a falling schedule, as a share of the peak. */
export const floor = z.number().min(0).max(1).default(0.1);

/** Warm-up steps that were asked for, or the default: a tenth of the run, at most 100. */
export function defaultWarmup(asked: number | undefined, totalSteps: number): number {
  return asked ?? Math.min(DEFAULT_STEPS, Math.floor(totalSteps * DEFAULT_SHARE));
}

/**
 * Warm-up, then `after(progress)` with progress 0 at the peak and 1 at the last step (and beyond it).
 * @throws GemmoeError when the warm-up is longer than the run
 */
export function withWarmup(
  name: string,
  warmup: number,
  { learningRate, totalSteps }: ScheduleContext,
  after: (progress: number) => number,
): Schedule {
  if (warmup > totalSteps) {
    throw new GemmoeError(
      'usage',
      `${name}: warmupSteps is ${warmup}, but the run has only ${totalSteps} steps`,
      'shorten the warm-up or lengthen the run',
    );
  }
  return (step) => {
    if (step <= warmup) return (learningRate * step) / warmup;
    return after(Math.min(1, (step - warmup) / (totalSteps - warmup)));
  };
}
