// What a benchmark ran on, and R, the unit that its rates are given in.

import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import type { BackendContribution, BackendDescription, MatmulBackend } from '../../core/backend.ts';
import { parseSpec } from '../../core/config.ts';
import { messageOf } from '../../core/errors.ts';
import { bindKernels, type Kernels } from '../../core/kernels.ts';
import type { Registry } from '../../core/registry.ts';

/** A backend under test. */
export interface Contender {
  /** As it was named: `accelerate:threads=1`. */
  readonly spec: string;
  readonly backend: MatmulBackend;
  readonly kernels: Kernels;
}

export interface Metadata {
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memory_bytes: number;
  readonly node: string;
  readonly platform: string;
  readonly load_average: number;
  readonly seed: number;
  readonly backends: readonly ({ readonly spec: string } & BackendDescription)[];
  /** R: OpenBLAS's one-thread rate for a product of 1024 cubed, FLOP/s; null where there is no BLAS. */
  readonly r_flops: number | null;
}

export const SEED = 42;

export function createContender(registry: Registry<BackendContribution>, spec: string): Contender {
  const { name, rest } = parseSpec(spec);
  const backend = registry.get(name).create(rest);
  return { spec, backend, kernels: bindKernels(backend) };
}

/** Every usable backend on one thread, and the precisions that it offers beside float32. */
export function everySpec(registry: Registry<BackendContribution>): string[] {
  return registry.all().flatMap((contribution) => {
    if (contribution.unavailable() !== undefined) return [];
    const threads = contribution.options.some((option) => option.startsWith('threads=')) ? 'threads=1' : '';
    const precisions = contribution.precisions?.() ?? ['f32'];
    return precisions.map((precision) => {
      const options = [threads, precision === 'f32' ? '' : `precision=${precision}`].filter((part) => part !== '');
      return options.length > 0 ? `${contribution.name}:${options.join(',')}` : contribution.name;
    });
  });
}

/** FLOP/s of a product of n cubed: the best of a few, as other work only slows it. */
export function productRate(backend: MatmulBackend, n: number, times = 5): number {
  const a = new Float32Array(n * n).fill(0.5);
  const c = new Float32Array(n * n);
  let best = 0;
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    backend.gemm(false, false, n, n, n, 1, a, 0, n, a, 0, n, 0, c, 0, n);
    best = Math.max(best, (2 * n ** 3) / ((performance.now() - start) / 1000));
  }
  return best;
}

/** R, or why there is none. */
export function measureR(registry: Registry<BackendContribution>): { flops: number | null; note: string | null } {
  try {
    const { backend } = createContender(registry, 'cblas:threads=1');
    const flops = productRate(backend, 1024);
    backend.close();
    return { flops, note: null };
  } catch (error) {
    return { flops: null, note: `no R: ${messageOf(error)}` };
  }
}

export function metadataOf(contenders: readonly Contender[], rFlops: number | null): Metadata {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memory_bytes: totalmem(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    load_average: loadavg()[0],
    seed: SEED,
    backends: contenders.map(({ spec, backend }) => ({ spec, ...backend.describe() })),
    r_flops: rFlops,
  };
}
