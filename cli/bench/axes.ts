// `gemmoe bench axes`: every scenario in a process of its own, and the record that it leaves.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GemmoeError } from '../../core/errors.ts';
import { bareMemory } from './peak-memory.ts';
import type { ChildReport, ChildTask } from './scenario-process.ts';
import { SCENARIOS } from './scenarios.ts';
import type { Timing, Trials } from './timing.ts';

/** One scenario on one backend. */
export interface ScenarioRecord extends Timing {
  readonly id: string;
  readonly axis: string;
  readonly params: Readonly<Record<string, number | string>>;
  readonly throughput_tokens_per_sec: number | null;
  /** Peak resident memory of the process, and bytes that a call left on the heap. */
  readonly memory: { readonly peak_rss_bytes: number; readonly alloc_bytes: number };
  readonly gc: { readonly total_gc_time_ns: number; readonly gc_pause_count: number };
  readonly numerical: { readonly nan_count: number; readonly inf_count: number; readonly max_abs: number };
  readonly derived: {
    readonly alloc_rate_bytes_per_sec: number;
    /** Share of the trials' time that was not spent collecting garbage. */
    readonly gc_throughput: number;
    readonly gflops: number | null;
    /** Peak resident memory above that of a Node.js process that does nothing. */
    readonly rss_above_bare_bytes: number;
  };
}

const CHILD = fileURLToPath(new URL('scenario-process.js', import.meta.url));

/** Runs a child and reads its report. @throws GemmoeError with what it said when it failed */
function runChild(task: ChildTask, script = CHILD): Promise<ChildReport> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [out, said] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) return resolve(JSON.parse(out) as ChildReport);
      const lines = said.trim().split('\n');
      const reason = lines.find((line) => /Error:/.test(line)) ?? lines.at(-1) ?? `exit code ${code}`;
      reject(new GemmoeError('unavailable', `scenario ${task.id ?? 'none'} failed: ${reason.trim()}`));
    });
  });
}

/** Records of each backend, by scenario; backends take turns within a trial, memory is measured with each alone. */
export async function runAxes(
  specs: readonly string[],
  trials: Trials,
  only: RegExp,
  onScenario: (id: string) => void,
): Promise<ScenarioRecord[][]> {
  const bare = await bareMemory();
  const records: ScenarioRecord[][] = specs.map(() => []);
  for (const { id, axis, params } of SCENARIOS.filter((scenario) => only.test(scenario.id))) {
    onScenario(id);
    const { results, peak_rss_bytes: together } = await runChild({ id, specs, trials });
    for (const [i, spec] of specs.entries()) {
      const { throughput_tokens_per_sec, alloc_bytes, gc, numerical, gflops, ...timing } = results[i];
      const alone = specs.length === 1 ? together : (await runChild({ id, specs: [spec], trials })).peak_rss_bytes;
      const seconds = timing.timings_ns.reduce((sum, time) => sum + time, 0) / 1e9;
      records[i].push({
        ...{ id, axis, params, ...timing, throughput_tokens_per_sec, gc, numerical },
        memory: { peak_rss_bytes: alone, alloc_bytes },
        derived: {
          alloc_rate_bytes_per_sec: alloc_bytes / (timing.median_ns / 1e9),
          gc_throughput: Math.max(0, 1 - gc.total_gc_time_ns / 1e9 / Math.max(seconds, 1e-9)),
          gflops,
          rss_above_bare_bytes: alone - bare,
        },
      });
    }
  }
  return records;
}
