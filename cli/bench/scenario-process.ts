// One scenario in a process of its own, since peak memory belongs to a process: run as a child, or as one of its workers.

import { PerformanceObserver } from 'node:perf_hooks';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { builtinBackends } from '../../backends/index.ts';
import type { BackendContribution } from '../../core/backend.ts';
import { Registry } from '../../core/registry.ts';
import { createContender } from './machine.ts';
import { peakMemory } from './peak-memory.ts';
import { type Prepared, type Scenario, scenarioNamed } from './scenarios.ts';
import { compete, summarise, type Timing, type Trials } from './timing.ts';

/** What the parent asks for. */
export interface ChildTask {
  /** Null measures a process that does nothing. */
  readonly id: string | null;
  readonly specs: readonly string[];
  readonly trials: Trials;
}

/** One scenario on one backend. */
export interface ChildResult extends Timing {
  readonly throughput_tokens_per_sec: number | null;
  readonly alloc_bytes: number;
  readonly gc: { readonly total_gc_time_ns: number; readonly gc_pause_count: number };
  readonly numerical: { readonly nan_count: number; readonly inf_count: number; readonly max_abs: number };
  readonly gflops: number | null;
}

export interface ChildReport {
  readonly results: readonly ChildResult[];
  readonly peak_rss_bytes: number;
}

/** Forward passes or steps that a worker makes in one trial: enough that messages do not count. */
const WORKER_RUNS = 20;

function registry(): Registry<BackendContribution> {
  return new Registry<BackendContribution>('backend', builtinBackends.backends ?? []);
}

function held(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Counts what is not a number or not finite, and the largest magnitude. */
function numericalOf(prepared: readonly Prepared[]): ChildResult['numerical'] {
  const found = { nan_count: 0, inf_count: 0, max_abs: 0 };
  for (const array of prepared.flatMap(({ outputs }) => outputs())) {
    for (let i = 0; i < array.length; i++) {
      const value = array[i];
      if (Number.isNaN(value)) found.nan_count++;
      else if (!Number.isFinite(value)) found.inf_count++;
      else found.max_abs = Math.max(found.max_abs, Math.abs(value));
    }
  }
  return found;
}

/** Collections of garbage while `run` runs. */
async function watchingCollections<T>(run: () => Promise<T>): Promise<[T, ChildResult['gc']]> {
  let [time, count] = [0, 0];
  const add = (entries: readonly { readonly duration: number }[]): void => {
    for (const { duration } of entries) {
      time += duration * 1e6;
      count++;
    }
  };
  const observer = new PerformanceObserver((list) => add(list.getEntries()));
  observer.observe({ entryTypes: ['gc'] });
  const value = await run();
  await new Promise((resolve) => setTimeout(resolve, 5)); // entries come with the next turn of the loop
  add(observer.takeRecords());
  observer.disconnect();
  return [value, { total_gc_time_ns: time, gc_pause_count: count }];
}

async function runHere(scenario: Scenario, specs: readonly string[], trials: Trials): Promise<ChildResult[]> {
  const contenders = specs.map((spec) => createContender(registry(), spec));
  const prepared = contenders.map(({ kernels }) => scenario.prepare(kernels));
  compete(prepared, { ...trials, trials: 0 });
  const before = held();
  const [timings, gc] = await watchingCollections(() =>
    Promise.resolve(compete(prepared, { trials: trials.trials, warmUps: 0 })),
  );
  const calls = trials.trials * prepared.reduce((sum, { repetitions }) => sum + repetitions, 0);
  const alloc = Math.max(0, held() - before) / calls;
  return timings.map((timing, i) => resultOf(timing, prepared[i], alloc, gc, numericalOf([prepared[i]]), 1));
}

function resultOf(
  timing: Timing,
  { tokens, flops }: Pick<Prepared, 'tokens' | 'flops'>,
  alloc: number,
  gc: ChildResult['gc'],
  numerical: ChildResult['numerical'],
  models: number,
): ChildResult {
  const seconds = timing.median_ns / 1e9;
  return {
    ...timing,
    throughput_tokens_per_sec: tokens === null ? null : (tokens * models) / seconds,
    ...{ alloc_bytes: alloc, gc, numerical },
    gflops: flops === null ? null : (flops * models) / seconds / 1e9,
  };
}

/** Independent models, one a worker; a trial lasts until the last one is done. */
async function runInWorkers(scenario: Scenario, spec: string, trials: Trials): Promise<ChildResult> {
  const count = scenario.workers ?? 1;
  const workers = Array.from(
    { length: count },
    () => new Worker(new URL(import.meta.url), { workerData: { id: scenario.id, spec } }),
  );
  const answers = () => Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
  await answers();
  const times: number[] = [];
  let last: unknown[] = [];
  const [, gc] = await watchingCollections(async () => {
    for (let trial = -trials.warmUps; trial < trials.trials; trial++) {
      const done = answers();
      const start = process.hrtime.bigint();
      for (const worker of workers) worker.postMessage('run');
      last = await done;
      if (trial >= 0) times.push(Number(process.hrtime.bigint() - start) / WORKER_RUNS);
    }
  });
  const reports = last as (ChildResult['numerical'] & { tokens: number; flops: number; alloc: number })[];
  await Promise.all(workers.map((worker) => worker.terminate()));
  const numerical = {
    nan_count: reports.reduce((sum, { nan_count }) => sum + nan_count, 0),
    inf_count: reports.reduce((sum, { inf_count }) => sum + inf_count, 0),
    max_abs: Math.max(...reports.map(({ max_abs }) => max_abs)),
  };
  return resultOf(summarise(times), reports[0], Math.max(...reports.map(({ alloc }) => alloc)), gc, numerical, count);
}

/** A worker: makes its model, then runs whenever it is told. */
function serve({ id, spec }: { readonly id: string; readonly spec: string }): void {
  const { kernels } = createContender(registry(), spec);
  const prepared = scenarioNamed(id).prepare(kernels);
  for (let i = 0; i < 3; i++) prepared.run();
  parentPort?.on('message', () => {
    const before = held();
    for (let i = 0; i < WORKER_RUNS; i++) prepared.run();
    const alloc = Math.max(0, held() - before) / WORKER_RUNS;
    parentPort?.postMessage({ ...numericalOf([prepared]), tokens: prepared.tokens, flops: prepared.flops, alloc });
  });
  parentPort?.postMessage('ready');
}

async function runTask({ id, specs, trials }: ChildTask): Promise<void> {
  const results: ChildResult[] = [];
  if (id !== null) {
    const scenario = scenarioNamed(id);
    if (scenario.workers === undefined) results.push(...(await runHere(scenario, specs, trials)));
    else for (const spec of specs) results.push(await runInWorkers(scenario, spec, trials));
  }
  const report: ChildReport = { results, peak_rss_bytes: peakMemory() };
  process.stdout.write(JSON.stringify(report));
}

if (!isMainThread) serve(workerData as { id: string; spec: string });
else await runTask(JSON.parse(process.argv[2]) as ChildTask);
