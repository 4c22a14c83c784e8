// Every kernel of a backend against the portable kernels over the reference in float64, on the same float32 values.

import type { MatmulBackend } from '../backend.ts';
import { messageOf } from '../errors.ts';
import { bindKernels, type KernelName, type Kernels } from '../kernels.ts';
import {
  GEMM_CASES,
  gemmErrors,
  LARGE_GEMM_CASES,
  multiply,
  nameOf,
  operandsOf,
  TILE_GEMM_CASES,
} from './gemm-cases.ts';
import { drawing, kernelCases, type KernelCase, SIZES, type Written } from './kernel-cases.ts';

/** One kernel of one backend. */
export interface Verdict {
  readonly kernel: KernelName;
  readonly cases: number;
  /** Largest error, relative to the largest value of the array that it is in (gemm: to the sum of its terms' magnitudes). */
  readonly relative: number;
  /** The same in units of the last place of float32. */
  readonly ulp: number;
  /** What `relative` may be at most. For gemm it depends on the length of the sums: the one of the worst case. */
  readonly bound: number;
  readonly pass: boolean;
  /** The case that came worst. */
  readonly worst: string;
  /** What is wrong, where something is. */
  readonly fault: string | null;
}

const ULP = 2 ** -23;

/** Kernels that compute nothing, or one rounding: every value is exact. */
const EXACT: readonly KernelName[] = [
  ...(['embedding', 'embeddingBf16', 'gather', 'dispatch', 'toBf16', 'fromBf16', 'toF16', 'fromF16'] as const),
  ...(['roundToBf16', 'roundToF16'] as const),
];
/** One operation for each element. */
const ONE_ROUNDING: readonly KernelName[] = ['add', 'fillNormal'];
/** Kernels whose sums run over whole rows, matrices or iterations, in ulp of the largest value; others: see ORDINARY. */
const LONGER: Partial<Record<KernelName, number>> = { newtonSchulz: 400, attentionBackward: 100, expertsBackward: 100 };
/** A handful of roundings, an exponential, and sums over a row. */
const ORDINARY = 84;

/** Error of a product of operands that are rounded to bfloat16 in one part, two, or three; 0 for float32. */
const PRODUCT_UNITS: Readonly<Record<string, number>> = { bf16: 2 ** -7, bf16x2: 3 * 2 ** -16, bf16x3: 0 };

/** Kernels that multiply matrices in the precision of the backend. */
const PRODUCTS: readonly KernelName[] = [
  ...(['gemm', 'linear', 'linearBackward', 'groupedLinear', 'groupedLinearBackward', 'holdWeights'] as const),
  ...([
    'linearBf16',
    'experts',
    'expertsBf16',
    'expertsBackward',
    'attention',
    'attentionBackward',
    'newtonSchulz',
  ] as const),
];

/** Error of a product of two operands as the backend rounds them; 0 for float32. */
export function productUnit(backend: MatmulBackend): number {
  return PRODUCT_UNITS[backend.describe().precision] ?? 0;
}

/** Largest error of a kernel's results, relative to the largest value of their array. */
export function kernelBound(kernel: KernelName, unit = 0): number {
  if (EXACT.includes(kernel)) return 0;
  if (ONE_ROUNDING.includes(kernel)) return ULP;
  // products of products: each of the few stages rounds its operands
  const rounded = PRODUCTS.includes(kernel) ? 12 * unit : 0;
  return (LONGER[kernel] ?? ORDINARY) * ULP + rounded;
}

/** Largest error of `found` relative to the largest of `wanted`, or what is wrong with it. */
export function compareArrays(found: Written[number], wanted: Written[number]): number | string {
  const isWhole = !(wanted instanceof Float32Array || wanted instanceof Float64Array);
  let largest = 1e-30;
  for (const value of wanted) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
  let worst = 0;
  for (let i = 0; i < wanted.length; i++) {
    if (isWhole ? found[i] === wanted[i] : Object.is(found[i], Math.fround(wanted[i]))) continue;
    if (isWhole) return `element ${i} is ${found[i]}, not ${wanted[i]}`;
    const error = Math.abs(found[i] - wanted[i]) / largest;
    if (Number.isNaN(error)) return `element ${i} is ${found[i]}, not ${wanted[i]}`;
    worst = Math.max(worst, error);
  }
  return worst;
}

function verifyGemm(backend: MatmulBackend): Verdict {
  const cases = [...GEMM_CASES, ...TILE_GEMM_CASES, ...LARGE_GEMM_CASES];
  const unit = productUnit(backend);
  let worst = { relative: 0, overBound: -1, bound: 0, name: '', fault: null as string | null };
  const ways = cases.flatMap((one) => [false, true].map((packed) => ({ one, packed })));
  for (const { one, packed } of ways) {
    const operands = operandsOf(one, 'f32');
    const before = operands.C.slice();
    multiply(backend, one, operands, packed);
    const { fault, overBound, relative } = gemmErrors(one, operands, before, operands.C, unit);
    if (worst.fault !== null || overBound <= worst.overBound) continue;
    const bound = 2 * one.k * 2 ** -24 + unit;
    worst = { relative, overBound, bound, name: nameOf(one) + (packed ? ', packed' : ''), fault: fault ?? null };
  }
  const { relative, bound, name, fault } = worst;
  return {
    kernel: 'gemm',
    cases: ways.length,
    relative,
    ulp: relative / ULP,
    bound,
    pass: fault === null,
    worst: name,
    fault,
  };
}

/** Runs one case on both sides. A number is its error, a text what is wrong. */
function runCase(one: KernelCase, ours: Kernels, reference: Kernels): number | string {
  const [mine, theirs] = [drawing('f32'), drawing('f64')];
  const found = one(ours, mine);
  const wanted = one(reference, theirs);
  if (mine.strayed()) return 'something was written outside of an output';
  let worst = 0;
  for (const [i, array] of wanted.entries()) {
    const error = compareArrays(found[i], array);
    if (typeof error === 'string') return error;
    worst = Math.max(worst, error);
  }
  return worst;
}

function verifyKernel(
  kernel: Exclude<KernelName, 'gemm'>,
  cases: readonly KernelCase[],
  ours: Kernels,
  reference: Kernels,
  unit: number,
): Verdict {
  const bound = kernelBound(kernel, unit);
  const perSize = cases.length / SIZES.length;
  let worst = { error: -1, name: '', fault: null as string | null };
  for (const [i, one] of cases.entries()) {
    if (worst.fault !== null) break;
    const size = Object.entries(SIZES[Math.floor(i / perSize)]).map(([letter, value]) => `${letter}${value}`);
    const name = `case ${(i % perSize) + 1}, ${size.join(' ')}`;
    let error: number | string;
    try {
      error = runCase(one, ours, reference);
    } catch (thrown) {
      error = `it threw: ${messageOf(thrown)}`;
    }
    if (typeof error === 'string') worst = { error: Number.POSITIVE_INFINITY, name, fault: error };
    else if (error > worst.error) {
      const fault =
        error > bound
          ? `the error is ${error.toExponential(1)} of the largest value, allowed are ${bound.toExponential(1)}`
          : null;
      worst = { error, name, fault };
    }
  }
  const { error, name, fault } = worst;
  return {
    kernel,
    cases: cases.length,
    relative: error,
    ulp: error / ULP,
    bound,
    pass: fault === null,
    worst: name,
    fault,
  };
}

/**
 * Verdicts on every kernel of a backend whose name `only` matches: those it brings itself, and the portable ones over its gemm.
 * @param reference kernels over the reference backend, which sums in float64
 */
export function* verifyBackend(backend: MatmulBackend, reference: Kernels, only = /(?:)/): Generator<Verdict, void> {
  const ours = bindKernels(backend);
  if (only.test('gemm')) yield verifyGemm(backend);
  const unit = productUnit(backend);
  for (const [kernel, cases] of Object.entries(kernelCases())) {
    const name = kernel as Exclude<KernelName, 'gemm'>;
    if (only.test(name)) yield verifyKernel(name, cases, ours, reference, unit);
  }
}
