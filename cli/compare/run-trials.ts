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

/** Runs all trials and takes each entry at its best rate. @throws GemmoeError when the signal stops it */
export async function runTrials(plan: TrialPlan, services: RunServices): Promise<EntryResult[]> {
  const { entries, seeds, factors, signal } = plan;
  const first = entries[0].settings;
  await runTrial({ ...first, steps: WARM_STEPS, evalWindows: 1, schedule: 'constant' }, services, { signal });
  const trials = entries.map((entry) => factors.map((factor) => ({ entry, factor, results: [] as TrialResult[] })));
  const total = seeds * trials.flat().length;
  let done = 0;
  for (let seed = 0; seed < seeds; seed++) {
    for (const { entry, factor, results } of trials.flat()) {
      const { settings, spec } = entry;
      const changed = { ...settings, learningRate: settings.learningRate * factor, seed: settings.seed + seed };
      const name = `${++done}/${total}  ${spec}  rate ${shortRate(changed.learningRate)}  seed ${changed.seed}`;
      const onStep = (step: number, loss: number) =>
        plan.onStep(`${name}  step ${step}/${settings.steps}  loss ${loss.toFixed(3)}`);
      const result = await runTrial(changed, services, { signal, onStep });
      results.push(result);
      plan.onTrial(
        `${name}  ${result.loss === null ? `diverged at step ${result.steps + 1}` : `loss ${result.loss.toFixed(3)}`}`,
      );
    }
  }
  return trials.map((ofEntry) =>
    bestOf(ofEntry.map(({ entry, factor, results }) => summarised(entry, factor, results))),
  );
}

function summarised(
  { spec, description, settings }: Entry,
  factor: number,
  results: readonly TrialResult[],
): EntryResult {
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
