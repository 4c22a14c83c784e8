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
  warmupSteps: z.int().nonnegative().optional().describe('steps of warm-up'),
  warmupFraction: z.number().min(0).max(1).optional().describe('in place of warmupSteps: a share of the run'),
  warmupRule: z.enum(WARMUP_RULES).default('full').describe('step t of w has t/w, t/(w+1) or (t-1)/w of the peak'),
};

const FLOOR = 'rate at the end, as a share of the peak';

/** Floor of a falling schedule. */
export const floor = z.number().min(0).max(1).default(0.1).describe(FLOOR);

/** As `floor`, of a schedule that falls to nothing unless told. */
export const zeroFloor = z.number().min(0).max(1).default(0).describe(FLOOR);

/** The options of a warm-up, as its schema makes them. */
interface Warmup {
  readonly warmupSteps?: number | undefined;
  readonly warmupFraction?: number | undefined;
  readonly warmupRule: (typeof WARMUP_RULES)[number];
}

/** Steps of warm-up where none are asked for: a tenth of the run, at most 100. */
export function defaultWarmup(totalSteps: number): number {
  return Math.min(DEFAULT_STEPS, Math.floor(totalSteps * DEFAULT_SHARE));
}

/**
 * Steps of warm-up that the options ask for, or the `standard` ones.
 * @throws GemmoeError when both are given, or the warm-up is longer than the run
 */
export function warmupOf(
  name: string,
  { warmupSteps, warmupFraction }: Warmup,
  totalSteps: number,
  standard = defaultWarmup(totalSteps),
): number {
  if (warmupSteps !== undefined && warmupFraction !== undefined) {
    throw new GemmoeError('usage', `${name}: warmupSteps and warmupFraction are both given`, 'give one of them');
  }
  if (warmupSteps !== undefined && warmupSteps > totalSteps) {
    throw new GemmoeError(
      'usage',
      `${name}: warmupSteps is ${warmupSteps}, but the run has only ${totalSteps} steps`,
      'shorten the warm-up or lengthen the run',
    );
  }
  return warmupSteps ?? (warmupFraction === undefined ? standard : Math.round(warmupFraction * totalSteps));
}

/**
 * Warm-up over `warmup` steps, then `after(progress, t)` as a share of the peak, with progress 0 at the peak and 1 at the end
 * and beyond it, and t the step's number by the rule.
 */
export function withWarmup(
  warmup: number,
  { warmupRule }: Warmup,
  { learningRate, totalSteps }: ScheduleContext,
  after: (progress: number, t: number) => number,
): Schedule {
  const isFull = warmupRule === 'full';
  return (step) => {
    const t = isFull ? step : step - 1;
    if (step <= warmup)
      return (learningRate * (warmupRule === 'zero' ? t : step)) / (warmup + (warmupRule === 'nanogpt' ? 1 : 0));
    const left = totalSteps - warmup;
    return learningRate * after(left > 0 ? Math.min(1, (t - warmup) / left) : 1, t);
  };
}
