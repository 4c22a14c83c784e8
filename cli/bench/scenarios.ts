// The 22 scenarios of the five axes: memory, kernels, dispatch, parallelism, scale.

import type { Kernels } from '../../core/kernels.ts';
import { PRESETS } from '../../core/model/presets.ts';
import { Random } from '../../core/random.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { SEED } from './machine.ts';
import { repetitionsFor } from './timing.ts';
import { forwardJob, makeModel, randomIds, trainingJob, type Workload } from './workload.ts';

/** A scenario made ready for one backend. */
export interface Prepared {
  run(): void;
  readonly repetitions: number;
  readonly outputs: () => readonly FloatArray[];
  readonly tokens: number | null;
  readonly flops: number | null;
}

export interface Scenario {
  readonly id: string;
  readonly axis: 'memory' | 'kernel' | 'dispatch' | 'parallel' | 'scale';
  readonly params: Readonly<Record<string, number | string>>;
  /** Threads that each run a model of their own; they are driven from outside. */
  readonly workers?: number;
  prepare(kernels: Kernels): Prepared;
}

const tiny = PRESETS['tiny'].config;
const small = PRESETS['small'].config;

function model(
  id: string,
  axis: Scenario['axis'],
  preset: 'tiny' | 'small',
  batch: number,
  length: number,
  kind: 'forward' | 'train',
  workers?: number,
): Scenario {
  const workload: Workload = { config: preset === 'tiny' ? tiny : small, batch, length };
  const params = { preset, batch, length, kind, ...(workers !== undefined && { workers }) };
  return {
    ...{ id, axis, params },
    ...(workers !== undefined && { workers }),
    prepare(kernels) {
      const job = kind === 'train' ? trainingJob(workload, kernels) : forwardJob(workload, kernels);
      return { ...job, repetitions: 1 };
    },
  };
}

function kernel(
  id: string,
  params: Scenario['params'],
  flops: number,
  make: (kernels: Kernels, normal: (length: number) => Float32Array) => { run: () => void; output: Float32Array },
): Scenario {
  return {
    ...{ id, axis: 'kernel', params },
    prepare(kernels) {
      const random = new Random(SEED, id);
      let step = 0;
      const normal = (length: number) => {
        const values = new Float32Array(length);
        random.fillNormal(values, 0, 1, step++);
        return values;
      };
      const { run, output } = make(kernels, normal);
      run();
      return { run, repetitions: repetitionsFor(run), outputs: () => [output], tokens: null, flops };
    },
  };
}

/** In the order of the axes; a training step is forward, loss, backward, clipping and AdamW over all parameters. */
export const SCENARIOS: readonly Scenario[] = [
  model('mem_train_step', 'memory', 'tiny', 2, 8, 'train'),
  ...[1, 2, 4, 8].map((batch) => model(`mem_scale_batch_${batch}`, 'memory', 'tiny', batch, 32, 'train')),
  ...[8, 16, 32, 64].map((length) => model(`mem_scale_seq_${length}`, 'memory', 'tiny', 2, length, 'train')),
  kernel('kernel_matmul', { m: 64, n: 64, k: 64, form: 'A·Bᵀ' }, 2 * 64 ** 3, (kernels, normal) => {
    const [a, b, output] = [normal(4096), normal(4096), new Float32Array(4096)];
    return { run: () => kernels.gemm(false, true, 64, 64, 64, 1, a, 0, 64, b, 0, 64, 0, output, 0, 64), output };
  }),
  kernel('kernel_softmax', { n: 1000 }, 5 * 1000, (kernels, normal) => {
    const [x, output] = [normal(1000), new Float32Array(1000)];
    return { run: () => kernels.softmax(output, x, 1, 1000), output };
  }),
  kernel('kernel_rmsnorm', { batch: 2, length: 32, hidden: 64 }, 4 * 64 * 64, (kernels, normal) => {
    const [x, gamma, output, rstd] = [normal(4096), normal(64), new Float32Array(4096), new Float32Array(64)];
    return { run: () => kernels.rmsNorm(output, rstd, x, gamma, 64, 64, 1e-5), output };
  }),
  model('dispatch_warm', 'dispatch', 'tiny', 2, 32, 'forward'),
  {
    ...{
      id: 'dispatch_cold',
      axis: 'dispatch',
      params: { preset: 'tiny', batch: 1, length: 8, kind: 'construct+forward' },
    },
    prepare(kernels) {
      const ids = randomIds(8, tiny.vocabSize);
      let logits: FloatArray = new Float32Array(0);
      const run = () => void (logits = makeModel(tiny, kernels).forward(ids, 1, 8));
      return { run, repetitions: 1, outputs: () => [logits], tokens: 8, flops: null };
    },
  },
  ...[1, 2, 4].map((workers) => model(`parallel_T${workers}`, 'parallel', 'tiny', 2, 32, 'forward', workers)),
  ...[1, 2, 4].map((workers) => model(`parallel_train_T${workers}`, 'parallel', 'tiny', 2, 8, 'train', workers)),
  model('scale_forward_256', 'scale', 'small', 2, 32, 'forward'),
  model('scale_train_256', 'scale', 'small', 2, 8, 'train'),
];

export function scenarioNamed(id: string): Scenario {
  const found = SCENARIOS.find((scenario) => scenario.id === id);
  if (!found) throw new Error(`no scenario ${id}`);
  return found;
}
