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
    /** Training tokens seen, and seconds of training, up to the step. */
    readonly tokens: number[];
    readonly seconds: number[];
  };
  readonly load: {
    readonly step: number[];
    /** [layer][expert] curve of the share of routed rows. */
    readonly layers: number[][][];
    /** [layer] curve of the largest share as a multiple of an even one. */
    readonly imbalance: number[][];
  };
  readonly evaluations: readonly EvaluationRecord[];
  /** Tokens and seconds of training at each of them. */
  readonly evaluatedAt: readonly { readonly tokens: number; readonly seconds: number }[];
  /** The newest ones, oldest first. */
  readonly samples: readonly SampleRecord[];
  readonly last: StepRecord | undefined;
  /** Mean utilisation of the machine, weighed by time; null where it was not measured. */
  readonly mfu: number | null;
  /** Steps that were not taken: overflows and spikes. */
  readonly skipped: number;
  /** Seconds of all steps, and those of them in which they waited for their batch; null in runs that did not measure it. */
  readonly seconds: number;
  readonly dataSeconds: number | null;
}

/** Gathers the records of a run in bounded memory. */
export function collect(records: Iterable<RunRecord>): Collected {
  const curves = new Thinned(CURVE_POINTS);
  let load: Thinned | undefined;
  const evaluations: EvaluationRecord[] = [];
  const evaluatedAt: { tokens: number; seconds: number }[] = [];
  const samples: SampleRecord[] = [];
  let last: StepRecord | undefined;
  let seconds = 0;
  const used = { seconds: 0, sum: 0 };
  let skipped = 0;
  let dataSeconds: number | null = null;
  for (const record of records) {
    if (record.kind === 'evaluation') {
      evaluations.push(record);
      evaluatedAt.push({ tokens: last?.tokens ?? 0, seconds });
    } else if (record.kind === 'sample') {
      samples.push(record);
      if (samples.length > SAMPLES) samples.shift();
    } else if (record.kind === 'step') {
      const shares = record.expertLoad.flat();
      const imbalance = record.expertLoad.map((layer) => Math.max(...layer) * layer.length);
      seconds += record.milliseconds / 1000;
      if (record.dataMilliseconds !== undefined) dataSeconds = (dataSeconds ?? 0) + record.dataMilliseconds / 1000;
      if (record.skipped) skipped++;
      // older runs have none
      if (typeof record.mfu === 'number') {
        used.seconds += record.milliseconds;
        used.sum += record.mfu * record.milliseconds;
      }
      const { learningRate, gradientNorm, milliseconds, tokens } = record;
      // a step that overflowed has no loss
      if (!record.skipped || record.spike) {
        curves.add([record.step, record.loss, learningRate, gradientNorm, milliseconds, tokens, seconds]);
      }
      load ??= new Thinned(Math.max(50, Math.min(CURVE_POINTS, Math.floor(LOAD_NUMBERS / Math.max(1, shares.length)))));
      load.add([record.step, ...shares, ...imbalance]);
      last = record;
    }
  }
  const columns = [0, 1, 2, 3, 4, 5, 6].map((index) => curves.column(index, 6));
  let index = 0;
  const layers = (last?.expertLoad ?? []).map((experts) => experts.map(() => load?.column(++index, 3) ?? []));
  const imbalance = layers.map(() => load?.column(++index, 4) ?? []);
  const [step, loss, rate, norm, milliseconds, tokens, elapsed] = columns;
  return {
    curves: { step, loss, rate, norm, milliseconds, tokens, seconds: elapsed },
    load: { step: load?.column(0, 6) ?? [], layers, imbalance },
    evaluations,
    evaluatedAt,
    samples,
    last,
    mfu: used.seconds > 0 ? used.sum / used.seconds : null,
    skipped,
    seconds,
    dataSeconds,
  };
}
