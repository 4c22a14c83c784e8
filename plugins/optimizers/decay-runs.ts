// The flat storage of a model as few runs of neighbours that are treated alike, so that an update is few kernel calls.

import type { Parameter, ParameterStore } from '../../core/model/parameters.ts';

/** Elements [offset, offset + count) that all decay, or all do not. */
export interface DecayRun {
  readonly offset: number;
  readonly count: number;
  readonly decays: boolean;
}

/** Neighbouring parameters with equal `decays` as one run each. */
export function decayRuns(store: ParameterStore, decays: (parameter: Parameter) => boolean): DecayRun[] {
  const runs: { offset: number; count: number; decays: boolean }[] = [];
  for (const parameter of store.parameters) {
    const last = runs.at(-1);
    if (last && last.decays === decays(parameter)) last.count += parameter.data.length;
    else runs.push({ offset: parameter.offset, count: parameter.data.length, decays: decays(parameter) });
  }
  return runs;
}
