// `checked:NAME`: runs another backend and compares every call with the reference, in float64 on copies of what it was given.

import type { BackendContribution, BackendDescription, MatmulBackend } from '../../core/backend.ts';
import { parseSpec } from '../../core/config.ts';
import { GemmoeError } from '../../core/errors.ts';
import { bindKernels, type KernelName, type Kernels } from '../../core/kernels.ts';
import { Registry } from '../../core/registry.ts';
import { compareArrays, kernelBound, productUnit } from '../../core/verify/verify-backend.ts';
import { ReferenceBackend } from '../reference/reference-backend.ts';
import { copyArguments, writtenArrays } from './copies.ts';

/** The worst that was seen of a kernel. */
export interface Seen {
  readonly kernel: KernelName;
  readonly calls: number;
  /** Largest error relative to the largest value of its array. */
  readonly relative: number;
}

type AnyKernel = (...values: unknown[]) => unknown;

/** Compares each call of `inner`, and throws at the first that is wrong. */
export class CheckedBackend implements MatmulBackend {
  readonly name = 'checked';
  readonly kernels: Partial<Kernels>;
  readonly gemm: MatmulBackend['gemm'];
  private readonly inner: MatmulBackend;
  private readonly worst = new Map<KernelName, { calls: number; relative: number }>();

  constructor(inner: MatmulBackend) {
    this.inner = inner;
    const reference = bindKernels(new ReferenceBackend());
    const unit = productUnit(inner);
    const check = (kernel: KernelName, native: AnyKernel): AnyKernel => {
      const truth = reference[kernel] as AnyKernel;
      return (...values) => {
        const copies = copyArguments(values);
        const found = native(...values);
        const wanted = truth(...copies);
        this.compare(kernel, values, copies, found, wanted, kernelBound(kernel, unit));
        return found;
      };
    };
    this.gemm = check('gemm', inner.gemm.bind(inner) as AnyKernel) as MatmulBackend['gemm'];
    const native = Object.entries(inner.kernels ?? {}) as [KernelName, AnyKernel][];
    this.kernels = Object.fromEntries(native.map(([kernel, run]) => [kernel, check(kernel, run)]));
  }

  private compare(
    kernel: KernelName,
    values: readonly unknown[],
    copies: readonly unknown[],
    found: unknown,
    wanted: unknown,
    bound: number,
  ): void {
    const before = this.worst.get(kernel) ?? { calls: 0, relative: 0 };
    let { relative } = before;
    const pairs = writtenArrays(values, copies);
    if (typeof wanted === 'number') {
      pairs.push({ place: 'its value', ours: Float32Array.of(found as number), theirs: Float64Array.of(wanted) });
    }
    for (const { place, ours, theirs } of pairs) {
      const error = compareArrays(ours, theirs);
      if (typeof error === 'string' || error > bound) {
        const what = typeof error === 'string' ? error : `an error of ${error.toExponential(1)} of its largest value`;
        throw new GemmoeError(
          'internal',
          `checked: ${this.inner.name}'s ${kernel} is wrong in ${place}: ${what} (allowed: ${bound.toExponential(1)})`,
          `call ${before.calls + 1} of ${kernel}; \`gemmoe verify --only ${kernel}\` looks closer`,
        );
      }
      relative = Math.max(relative, error);
    }
    this.worst.set(kernel, { calls: before.calls + 1, relative });
  }

  /** The worst of every kernel that was called. */
  seen(): Seen[] {
    return [...this.worst].map(([kernel, { calls, relative }]) => ({ kernel, calls, relative }));
  }

  describe(): BackendDescription {
    const inner = this.inner.describe();
    return { ...inner, vendor: `${this.inner.name}, each call compared with the reference: ${inner.vendor}` };
  }

  report(): string[] {
    return this.seen().map(
      ({ kernel, calls, relative }) =>
        `${kernel}: ${calls} calls, largest error ${relative.toExponential(1)} of the largest value`,
    );
  }

  close(): void {
    this.inner.close();
  }
}

/** The contribution; `all` are the backends that it may wrap. */
export function checkedBackend(all: readonly BackendContribution[]): BackendContribution {
  return {
    name: 'checked',
    description: 'another backend, every call compared with the reference: slow, for finding faults',
    options: ['checked:SPEC: the backend to check, as checked:accelerate:threads=2'],
    unavailable: () => 'it wraps another backend: name that one, as checked:reference',
    create(options) {
      if (options === '') {
        throw new GemmoeError('usage', 'checked wraps another backend', `name it: checked:${all[0].name}`);
      }
      const { name, rest } = parseSpec(options);
      return new CheckedBackend(new Registry<BackendContribution>('backend', all).get(name).create(rest));
    },
  };
}
