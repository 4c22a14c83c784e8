// The trials of a comparison, a round of all entries for each seed, so that what slows the machine for a while slows them all.

import { shortRate } from '../format.ts';
import type { RunServices } from '../../core/training/run-parts.ts';
import type { RunSettings } from '../../core/training/settings.ts';
import { runTrial, type TrialResult } from '../../core/training/trial.ts';

/** One line of a table: what is trained, at which learning rates. */
export interface Entry {
  /** `name:key=value,…` of what is compared. */
  readonly spec: string;
  readonly description: string;
  readonly settings: RunSettings;
}

/** An entry at the best of the learning rates that were tried. */
export interface EntryResult {
  readonly spec: string;
  readonly description: string;
  readonly learningRate: number;
  /** Mean over the seeds; null when one diverged. */
  readonly loss: number | null;
  /** Of each seed, in order. */
  readonly losses: readonly (number | null)[];
  /** Means over the seeds. */
  readonly seconds: number;
  readonly stepMilliseconds: number;
  /** Size of the optimizer's state, the weights being 1. */
  readonly stateShare: number;
  /** Every rate that was tried, with its mean loss. */
  readonly tried: readonly { readonly learningRate: number; readonly loss: number | null }[];
}

export interface TrialPlan {
  readonly entries: readonly Entry[];
  /** Each is added to the settings' seed. */
  readonly seeds: number;
  /** Factors on each entry's learning rate; the best counts. */
  readonly factors: readonly number[];
  readonly signal: AbortSignal;
  /** Called after every step. */
  readonly onStep: (text: string) => void;
  /** Called after every training. */
  readonly onTrial: (text: string) => void;
}

/** Steps that are thrown away first: they compile the kernels. */
const WARM_STEPS = 3;

interface Trials {
  readonly entry: Entry;
  readonly factor: number;
  readonly results: TrialResult[];
}

/**
 * Runs all trials and takes each entry at its best rate. When the signal stops it, what was finished counts: entries without
 * any result are null.
 */
export async function runTrials(plan: TrialPlan, services: RunServices): Promise<(EntryResult | null)[]> {
  const { entries, factors, signal } = plan;
  const trials = entries.map((entry) => factors.map((factor): Trials => ({ entry, factor, results: [] })));
  try {
    await runRounds(trials.flat(), plan, services);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return trials.map((ofEntry) => {
    const finished = ofEntry.filter(({ results }) => results.length > 0);
    return finished.length === 0 ? null : bestOf(finished.map(summarised));
  });
}

/** Every trial of a seed, then those of the next. */
async function runRounds(trials: readonly Trials[], plan: TrialPlan, services: RunServices): Promise<void> {
  const { seeds, signal, onStep, onTrial } = plan;
  const { settings: first } = trials[0].entry;
  await runTrial({ ...first, steps: WARM_STEPS, evalWindows: 1, schedule: 'constant' }, services, { signal });
  let done = 0;
  for (let seed = 0; seed < seeds; seed++) {
    for (const { entry, factor, results } of trials) {
      const { settings, spec } = entry;
      const changed = { ...settings, learningRate: settings.learningRate * factor, seed: settings.seed + seed };
      const name = `${++done}/${seeds * trials.length}  ${spec}  rate ${shortRate(changed.learningRate)}  seed ${changed.seed}`;
      const result = await runTrial(changed, services, {
        signal,
        onStep: (step, loss) => onStep(`${name}  step ${step}/${settings.steps}  loss ${loss.toFixed(3)}`),
      });
      results.push(result);
      const end = result.loss === null ? `diverged at step ${result.steps + 1}` : `loss ${result.loss.toFixed(3)}`;
      onTrial(`${name}  ${end}`);
    }
  }
}

function summarised({ entry, factor, results }: Trials): EntryResult {
  const { spec, description, settings } = entry;
  const losses = results.map(({ loss }) => loss);
  const finite = losses.filter((loss) => loss !== null);
  const learningRate = settings.learningRate * factor;
  const loss = finite.length === losses.length ? meanOf(finite) : null;
  return {
    ...{ spec, description, learningRate, loss, losses },
    seconds: meanOf(results.map(({ seconds }) => seconds)),
    stepMilliseconds: meanOf(results.map(({ stepMilliseconds }) => stepMilliseconds)),
    stateShare: results[0].stateShare,
    tried: [{ learningRate, loss }],
  };
}

function bestOf(results: readonly EntryResult[]): EntryResult {
  const lossOf = ({ loss }: EntryResult) => loss ?? Infinity;
  const best = results.reduce((a, b) => (lossOf(b) < lossOf(a) ? b : a));
  return { ...best, tried: results.flatMap(({ tried }) => tried) };
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
