// Trials and what they say: medians, as machines are noisy; competitors take turns, so that noise meets all of them alike.

/** Nanoseconds of each trial, and their summary. */
export interface Timing {
  readonly timings_ns: readonly number[];
  readonly median_ns: number;
  readonly p95_ns: number;
  readonly min_ns: number;
  readonly max_ns: number;
  /** Between the quartiles. */
  readonly iqr_ns: number;
}

/** The value below which a share of the sorted values lies, between neighbours by a straight line. */
export function quantile(sorted: readonly number[], share: number): number {
  const place = (sorted.length - 1) * share;
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

export function summarise(timings: readonly number[]): Timing {
  const sorted = [...timings].sort((a, b) => a - b);
  return {
    timings_ns: timings,
    median_ns: quantile(sorted, 0.5),
    p95_ns: quantile(sorted, 0.95),
    min_ns: sorted[0],
    max_ns: sorted[sorted.length - 1],
    iqr_ns: quantile(sorted, 0.75) - quantile(sorted, 0.25),
  };
}

/** One of those that take turns. */
export interface Competitor {
  /** One call of what is timed. */
  run(): void;
  /** Calls of one trial, for what is too short to be timed alone; default 1. */
  readonly repetitions?: number;
}

/** How often things are run. */
export interface Trials {
  readonly warmUps: number;
  readonly trials: number;
  /** Milliseconds that warming up takes at least, for what is measured in its steady state; default 0. */
  readonly warmFor?: number;
}

/** The standard of every suite. */
export const STANDARD: Trials = { warmUps: 3, trials: 10 };

/** Long enough for a just-in-time compiler. */
export const STEADY_MILLISECONDS = 500;

/** Timing of one call of each competitor. */
export function compete(competitors: readonly Competitor[], { warmUps, trials, warmFor = 0 }: Trials): Timing[] {
  const begin = performance.now();
  for (let warm = 0; warm < warmUps || performance.now() - begin < warmFor; warm++) competitors.forEach(timeOnce);
  const times: number[][] = competitors.map(() => []);
  for (let trial = 0; trial < trials; trial++) {
    for (const [i, competitor] of competitors.entries()) times[i].push(timeOnce(competitor));
  }
  return times.map(summarise);
}

/** Nanoseconds of a call. */
function timeOnce({ run, repetitions = 1 }: Competitor): number {
  const start = process.hrtime.bigint();
  for (let n = 0; n < repetitions; n++) run();
  return Number(process.hrtime.bigint() - start) / repetitions;
}

/** Calls that fill about `milliseconds`, found by doubling. */
export function repetitionsFor(run: () => void, milliseconds = 5): number {
  for (let count = 1; ; count *= 2) {
    const start = performance.now();
    for (let n = 0; n < count; n++) run();
    const elapsed = performance.now() - start;
    if (elapsed > milliseconds / 2 || count >= 1 << 20)
      return Math.max(1, Math.round((count * milliseconds) / elapsed));
  }
}

/** A function as a competitor, repeated until it can be timed. */
export function timed(run: () => void, milliseconds?: number): Competitor {
  run();
  return { run, repetitions: repetitionsFor(run, milliseconds) };
}
