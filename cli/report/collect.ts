// What a report shows of a run, gathered record by record.

import type { EvaluationRecord, RunRecord, SampleRecord, StepRecord } from '../../core/training/events.ts';
import { Thinned } from './thinned.ts';

/** Points of a curve, up to twice as many. */
const CURVE_POINTS = 600;
/** Numbers of all expert loads together, up to twice as many: a page stays a few megabytes. */
const LOAD_NUMBERS = 150_000;
const SAMPLES = 40;

/** A run as the page needs it. */
export interface Collected {
  readonly curves: {
    readonly step: number[];
    readonly loss: number[];
    readonly rate: number[];
    readonly norm: number[];
    readonly milliseconds: number[];
  };
  readonly load: {
    readonly step: number[];
    /** [layer][expert] curve of the share of routed rows. */
    readonly layers: number[][][];
  };
  readonly evaluations: readonly EvaluationRecord[];
  /** The newest ones, oldest first. */
  readonly samples: readonly SampleRecord[];
  readonly last: StepRecord | undefined;
  /** Seconds of all steps. */
  readonly seconds: number;
}

/** Gathers the records of a run in bounded memory. */
export function collect(records: Iterable<RunRecord>): Collected {
  const curves = new Thinned(CURVE_POINTS);
  let load: Thinned | undefined;
  const evaluations: EvaluationRecord[] = [];
  const samples: SampleRecord[] = [];
  let last: StepRecord | undefined;
  let seconds = 0;
  for (const record of records) {
    if (record.kind === 'evaluation') evaluations.push(record);
    else if (record.kind === 'sample') {
      samples.push(record);
      if (samples.length > SAMPLES) samples.shift();
    } else if (record.kind === 'step') {
      const shares = record.expertLoad.flat();
      // a step that overflowed has no loss
      if (!record.skipped || record.spike)
        curves.add([record.step, record.loss, record.learningRate, record.gradientNorm, record.milliseconds]);
      load ??= new Thinned(Math.max(50, Math.min(CURVE_POINTS, Math.floor(LOAD_NUMBERS / Math.max(1, shares.length)))));
      load.add([record.step, ...shares]);
      seconds += record.milliseconds / 1000;
      last = record;
    }
  }
  const [step, loss, rate, norm, milliseconds] = [0, 1, 2, 3, 4].map((index) => curves.column(index, 6));
  let index = 0;
  const layers = (last?.expertLoad ?? []).map((experts) => experts.map(() => load?.column(++index, 3) ?? []));
  return {
    curves: { step, loss, rate, norm, milliseconds },
    load: { step: load?.column(0, 6) ?? [], layers },
    evaluations,
    samples,
    last,
    seconds,
  };
}
