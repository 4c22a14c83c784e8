// Linear warm-up over w steps, shared by the schedules. Programs differ by one step in how they count it; `warmupRule` chooses.
//
// | rule    | step t = 1 … w | after it, progress from 0 to 1    | as in                                        |
// | full    | peak·t/w       | (t - w)/(T - w): ends at step T   | torchtitan, llm.c, nanochat; the default     |
// | nanogpt | peak·t/(w + 1) | (t - 1 - w)/(T - w)               | nanoGPT                                      |
// | zero    | peak·(t - 1)/w | (t - 1 - w)/(T - w)               | litgpt, OLMo-core, transformers' schedules   |

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import type { Schedule, ScheduleContext } from '../../core/plugin.ts';

/** Default warm-up: this share of the run, but no more than so many steps. */
const DEFAULT_SHARE = 0.1;
const DEFAULT_STEPS = 100;

const WARMUP_RULES = ['full', 'nanogpt', 'zero'] as const;

/** Options of every schedule that has a warm-up. */
export const warmupOptions = {
  warmupSteps: z.int().nonnegative().optional(),
  warmupRule: z.enum(WARMUP_RULES).default('full'),
};

/** Floor of a falling schedule, as a share of the peak. */
export const floor = z.number().min(0).max(1).default(0.1);

/** The options of a warm-up, as its schema makes them. */
interface Warmup {
  readonly warmupSteps?: number | undefined;
  readonly warmupRule: (typeof WARMUP_RULES)[number];
}

/** Warm-up steps that were asked for, or the default: a tenth of the run, at most 100. */
export function defaultWarmup({ warmupSteps }: Warmup, totalSteps: number): number {
  return warmupSteps ?? Math.min(DEFAULT_STEPS, Math.floor(totalSteps * DEFAULT_SHARE));
}

/**
 * Warm-up over `warmup` steps, then `after(progress, t)` as a share of the peak, with progress 0 at the peak and 1 at the end
 * and beyond it, and t the step's number by the rule.
 * @throws GemmoeError when the warm-up is longer than the run
 */
export function withWarmup(
  name: string,
  warmup: number,
  { warmupRule }: Warmup,
  { learningRate, totalSteps }: ScheduleContext,
  after: (progress: number, t: number) => number,
): Schedule {
  if (warmup > totalSteps) {
    throw new GemmoeError(
      'usage',
      `${name}: warmupSteps is ${warmup}, but the run has only ${totalSteps} steps`,
      'shorten the warm-up or lengthen the run',
    );
  }
  const isFull = warmupRule === 'full';
  return (step) => {
    const t = isFull ? step : step - 1;
    if (step <= warmup)
      return (learningRate * (warmupRule === 'zero' ? t : step)) / (warmup + (warmupRule === 'nanogpt' ? 1 : 0));
    const left = totalSteps - warmup;
    return learningRate * after(left > 0 ? Math.min(1, (t - warmup) / left) : 1, t);
  };
}
