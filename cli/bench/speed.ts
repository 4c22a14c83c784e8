// `gemmoe bench speed`: the cases that the project holds itself to, each beside its target.

import type { BackendContribution } from '../../core/backend.ts';
import { messageOf } from '../../core/errors.ts';
import type { Registry } from '../../core/registry.ts';
import { type Contender, createContender } from './machine.ts';
import { runAxes } from './axes.ts';
import { modelRow, productOf } from './suites.ts';
import { compete, STEADY_MILLISECONDS, type Timing, timed, type Trials } from './timing.ts';
import { CASES, type Workload } from './workload.ts';

/** A line of the table. */
export interface SpeedLine {
  readonly case: string;
  readonly target: string;
  readonly measured: string;
  /** Null where it could not be measured. */
  readonly met: boolean | null;
}

/** What a line is measured with. */
interface Bench {
  readonly r: number;
  /** Of the steady state. */
  readonly trials: Trials;
  contender(spec: string): Contender;
}

interface Check {
  readonly case: string;
  readonly target: string;
  measure(bench: Bench): Promise<Pick<SpeedLine, 'measured' | 'met'>> | Pick<SpeedLine, 'measured' | 'met'>;
}

const F32 = 'accelerate:threads=1';
const BF16 = 'accelerate:threads=1,precision=bf16';
const two = (spec: string) => spec.replace('threads=1', 'threads=2');

const milliseconds = ({ median_ns }: Timing) => median_ns / 1e6;
const micro = ({ median_ns }: Timing) => `${(median_ns / 1e3).toFixed(2)} µs`;

/** Precisions that count as float32: `bf16x3` is as accurate, and faster where there are matrix units. */
function f32Grade(bench: Bench, spec: string): readonly string[] {
  if (spec.includes('precision=') || bench.contender(spec).backend.describe().instructionSet !== 'amx') return [spec];
  return [spec, `${spec},precision=bf16x3`];
}

/** A step in the fastest of the precisions that count as the one of `spec`. */
function stepTime(bench: Bench, spec: string, workload: Workload, kind: 'train' | 'forward') {
  const specs = f32Grade(bench, spec);
  const row = modelRow(specs.map(bench.contender), { ...workload, description: '' }, kind, bench.trials);
  const times = row.timings.map(milliseconds);
  const ms = Math.min(...times);
  const fastest = specs[times.indexOf(ms)];
  const inR = (row.flops ?? 0) / (ms / 1e3) / bench.r;
  const text = `${ms.toFixed(2)} ms, ${inR.toFixed(2)} R${fastest === spec ? '' : ' (bf16x3)'}`;
  return { ms, inR, text };
}

function inR(name: string, spec: string, workload: Workload, kind: 'train' | 'forward', target: number): Check {
  return {
    ...{ case: name, target: `${target.toFixed(1)} R` },
    measure(bench) {
      const { text, inR: found } = stepTime(bench, spec, workload, kind);
      return { measured: text, met: found >= target };
    },
  };
}

function inTime(name: string, spec: string, workload: Workload, target: number): Check {
  return {
    ...{ case: name, target: `${target} ms` },
    measure(bench) {
      const { text, ms } = stepTime(bench, spec, workload, 'train');
      return { measured: text, met: ms <= target };
    },
  };
}

function kernelTime(name: string, target: number, run: (contender: Contender) => () => void): Check {
  return {
    ...{ case: name, target: `${target} µs` },
    measure(bench) {
      const [timing] = compete([timed(run(bench.contender(F32)))], bench.trials);
      return { measured: micro(timing), met: timing.median_ns / 1e3 <= target };
    },
  };
}

const floats = (length: number) => Float32Array.from({ length }, (_, i) => ((i * 7) % 13) / 13 - 0.5);
const CUBE = { what: '', form: 'A·Bᵀ', m: 64, n: 64, k: 64 } as const;

/** 8 experts of 64 tokens, in one call and in a product for each. */
function expertProducts({ kernels }: Contender): { together: () => void; apart: () => void } {
  const [E, rows, I, O] = [8, 64, 64, 512];
  const [x, w, y] = [floats(E * rows * I), floats(E * O * I), floats(E * rows * O)];
  const offsets = Int32Array.from({ length: E + 1 }, (_, e) => e * rows);
  return {
    together: () => kernels.groupedLinear(y, x, w, offsets, E, I, O),
    apart() {
      for (let e = 0; e < E; e++) {
        kernels.gemm(false, true, rows, O, I, 1, x, e * rows * I, I, w, e * O * I, I, 0, y, e * rows * O, O);
      }
    },
  };
}

const { tiny, small, hidden512, gpt } = CASES;
const at = (workload: Workload, batch: number, length: number): Workload => ({ ...workload, batch, length });

const CHECKS: readonly Check[] = [
  inR('forward, tiny, B2 T32', F32, at(tiny, 2, 32), 'forward', 1),
  inR('the same, bf16', BF16, at(tiny, 2, 32), 'forward', 2),
  inR('training step, tiny, B2 T8', F32, tiny, 'train', 0.4),
  inR('forward, small, B2 T32', F32, at(small, 2, 32), 'forward', 1),
  inTime('training step, small, B2 T8, one thread', F32, small, 14),
  inTime('the same, two threads', two(F32), small, 8),
  inR('training step, hidden 512, B4 T128, two threads', two(F32), hidden512, 'train', 1.5),
  inR('the same, bf16', two(BF16), hidden512, 'train', 4),
  inR('the same, f32, one thread', F32, hidden512, 'train', 0.9),
  {
    ...{ case: 'the same: two threads against one', target: '1.7x' },
    measure(bench) {
      const [one, both] = [F32, two(F32)].map((spec) => stepTime(bench, spec, hidden512, 'train').ms);
      return { measured: `${(one / both).toFixed(2)}x`, met: one / both >= 1.7 };
    },
  },
  {
    ...{ case: 'gemm 64x64x64, A·Bᵀ, against the BLAS', target: '1.6x' },
    measure(bench) {
      const specs = ['cblas:threads=1', ...f32Grade(bench, F32)];
      const [blas, ...all] = compete(
        specs.map((spec) => timed(productOf(bench.contender(spec), CUBE))),
        bench.trials,
      );
      const ours = all.reduce((best, timing) => (timing.median_ns < best.median_ns ? timing : best));
      const ratio = blas.median_ns / ours.median_ns;
      return { measured: `${ratio.toFixed(2)}x (${rate(ours)} against ${rate(blas)})`, met: ratio >= 1.6 };
    },
  },
  {
    ...{ case: 'the same in bf16, B packed', target: '500 GFLOP/s' },
    measure(bench) {
      const shapes = [{ ...CUBE, packed: true }, CUBE];
      const [packed, plain] = compete(
        shapes.map((shape) => timed(productOf(bench.contender(BF16), shape))),
        bench.trials,
      );
      return { measured: `${rate(packed)}; ${rate(plain)} unpacked`, met: (2 * 64 ** 3) / packed.median_ns >= 500 };
    },
  },
  kernelTime('softmax, n = 1000', 0.7, ({ kernels }) => {
    const [x, y] = [floats(1000), floats(1000)];
    return () => kernels.softmax(y, x, 1, 1000);
  }),
  kernelTime('RMSNorm (2, 32, 64)', 0.8, ({ kernels }) => {
    const [x, y, gamma, rstd] = [floats(4096), floats(4096), floats(64), floats(64)];
    return () => kernels.rmsNorm(y, rstd, x, gamma, 64, 64, 1e-5);
  }),
  {
    ...{ case: 'grouped experts against a loop of gemm', target: '1.3x' },
    measure(bench) {
      const { together, apart } = expertProducts(bench.contender(F32));
      const { apart: blasApart } = expertProducts(bench.contender('cblas:threads=1'));
      const [ours, own, blas] = compete(
        [together, apart, blasApart].map((run) => timed(run)),
        bench.trials,
      ).map(({ median_ns }) => median_ns);
      const ratio = Math.min(own, blas) / ours;
      return {
        measured: `${(own / ours).toFixed(2)}x; ${(blas / ours).toFixed(2)}x a loop of the BLAS`,
        met: ratio >= 1.3,
      };
    },
  },
  {
    ...{ case: 'dense GPT, 4 x 128, B8 T128, two threads', target: '12,000 tokens/s' },
    measure(bench) {
      const { ms } = stepTime(bench, two(F32), gpt, 'train');
      const tokens = (gpt.batch * gpt.length) / (ms / 1000);
      return { measured: `${Math.round(tokens).toLocaleString('en')} tokens/s`, met: tokens >= 12_000 };
    },
  },
  {
    ...{ case: 'dispatch_cold, after the first', target: '4 ms' },
    async measure({ trials: { warmUps, trials } }) {
      const [[record]] = await runAxes([F32], { warmUps, trials }, /^dispatch_cold$/, () => {});
      return { measured: `${(record.median_ns / 1e6).toFixed(2)} ms`, met: record.median_ns <= 4e6 };
    },
  },
  {
    ...{ case: 'peak memory of a tiny step above bare Node', target: '25 MB' },
    async measure({ trials: { warmUps, trials } }) {
      const [[record]] = await runAxes([F32], { warmUps, trials }, /^mem_train_step$/, () => {});
      const megabytes = record.derived.rss_above_bare_bytes / 1e6;
      return { measured: `${megabytes.toFixed(1)} MB`, met: megabytes <= 25 };
    },
  },
  {
    ...{ case: 'garbage collection in a training step', target: '0.1 %' },
    async measure({ trials }) {
      const many = { ...trials, trials: 5000 };
      const [[record]] = await runAxes([F32], many, /^mem_train_step$/, () => {});
      const share = 1 - record.derived.gc_throughput;
      return { measured: `${(100 * share).toFixed(3)} %`, met: share <= 0.001 };
    },
  },
];

function rate({ median_ns }: Timing): string {
  return `${((2 * 64 ** 3) / median_ns).toFixed(0)} GFLOP/s`;
}

/** Every line; one that cannot be measured says why. */
export async function speedLines(
  registry: Registry<BackendContribution>,
  r: number,
  trials: Trials,
  only: RegExp,
  onCase: (name: string) => void,
): Promise<SpeedLine[]> {
  const made = new Map<string, Contender>();
  const contender = (spec: string): Contender => {
    const known = made.get(spec) ?? createContender(registry, spec);
    made.set(spec, known);
    return known;
  };
  const steady = { ...trials, warmFor: STEADY_MILLISECONDS };
  const lines: SpeedLine[] = [];
  for (const check of CHECKS.filter((one) => only.test(one.case))) {
    onCase(check.case);
    const { case: name, target } = check;
    try {
      lines.push({ case: name, target, ...(await check.measure({ r, trials: steady, contender })) });
    } catch (error) {
      lines.push({ case: name, target, measured: `not measured: ${messageOf(error)}`, met: null });
    }
  }
  for (const { backend } of made.values()) backend.close();
  return lines;
}
