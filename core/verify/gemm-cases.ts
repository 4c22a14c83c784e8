// Cases of gemm as data, a float64 oracle, and the bound that results are held to.

import { type MatmulBackend, packMatrix } from '../backend.ts';
import { Random } from '../random.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** One product with its layout. */
export interface GemmCase {
  readonly transA: boolean;
  readonly transB: boolean;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly alpha: number;
  readonly beta: number;
  /** Elements before the first of A, B and C. */
  readonly offset: number;
  /** Elements that leading dimensions are longer than rows. */
  readonly gap: number;
}

const SIZES: readonly (readonly [number, number, number])[] = [
  [1, 1, 1],
  [1, 17, 3],
  [17, 1, 3],
  [3, 3, 3],
  [4, 4, 4],
  [5, 7, 131],
  [8, 24, 16],
  [17, 131, 5],
  [64, 64, 64],
  [131, 17, 33],
];

/** Every transpose of every size, the other settings in turn. */
export const GEMM_CASES: readonly GemmCase[] = SIZES.flatMap(([m, n, k], i) =>
  [0, 1, 2, 3].map((transposes) => ({
    ...{ transA: transposes >= 2, transB: transposes % 2 === 1, m, n, k },
    alpha: [1, 1, -0.5, 2][(i + transposes) % 4],
    beta: [0, 1, 0.5, 0][(i + 2 * transposes) % 4],
    offset: [0, 3][(i + transposes) % 2],
    gap: [0, 0, 5][(i + transposes) % 3],
  })),
);

/** Products that backends are apt to send another way: one row with a large matrix, and one worth several threads. */
export const LARGE_GEMM_CASES: readonly GemmCase[] = [0, 1, 2, 3].flatMap((transposes) => {
  const common = { transA: transposes >= 2, transB: transposes % 2 === 1, alpha: -0.5, offset: 3, gap: 5 };
  return [
    { ...common, m: 1, n: 1031, k: 997, beta: transposes % 3 === 0 ? 0 : 0.5 },
    { ...common, m: 161, n: 173, k: 163, beta: transposes % 3 === 0 ? 0.5 : 0 },
  ];
});

/** Sizes just around what kernels cut matrices into: vectors, register tiles, panels, and blocks of k. */
export const TILE_GEMM_CASES: readonly GemmCase[] = [1, 4, 5, 7, 13, 15, 16, 28, 31, 33, 48, 65, 97].flatMap(
  (m, i, all) =>
    [0, 1, 2, 3].map((transposes) => ({
      ...{ transA: transposes >= 2, transB: transposes % 2 === 1, m },
      ...{ n: all[(i + 3 * transposes + 5) % all.length], k: transposes === 3 ? 530 : all[(i + 7) % all.length] },
      ...{ alpha: 1, beta: [0, 1][(i + transposes) % 2], offset: i % 3, gap: [0, 7][(i + transposes) % 2] },
    })),
);

/** Operands of a case, with guard values around and between the rows of C. */
export interface GemmOperands {
  readonly A: FloatArray;
  readonly B: FloatArray;
  readonly C: FloatArray;
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;
}

/** Runs a case on `operands`, writing to their C; `packed` with a B that was packed before. */
export function multiply(backend: MatmulBackend, test: GemmCase, operands: GemmOperands, packed = false): void {
  const { transA, transB, m, n, k, alpha, beta, offset } = test;
  const { A, B, C, lda, ldb, ldc } = operands;
  if (packed) {
    packMatrix(backend, transB, n, k, B, offset, ldb).gemm(transA, m, alpha, A, offset, lda, beta, C, offset, ldc);
  } else {
    backend.gemm(transA, transB, m, n, k, alpha, A, offset, lda, B, offset, ldb, beta, C, offset, ldc);
  }
}

const GUARD = 12345;
const TAIL = 3;

/** Random operands, the same for the same case and seed. */
export function operandsOf(test: GemmCase, type: 'f32' | 'f64', seed = 1): GemmOperands {
  const { transA, transB, m, n, k, offset, gap } = test;
  const [rowsA, columnsA] = transA ? [k, m] : [m, k];
  const [rowsB, columnsB] = transB ? [n, k] : [k, n];
  const [lda, ldb, ldc] = [columnsA, columnsB, n].map((columns) => Math.max(1, columns) + gap);
  const random = new Random(seed, 'gemm');
  const make = (length: number, step: number) => {
    const values = type === 'f32' ? new Float32Array(length) : new Float64Array(length);
    random.fillNormal(values, 0, 1, step);
    return values;
  };
  const C = make(offset + m * ldc + TAIL, 2);
  for (let i = 0; i < C.length; i++) if (!isOutput(test, ldc, i)) C[i] = GUARD;
  return { A: make(offset + rowsA * lda + TAIL, 0), B: make(offset + rowsB * ldb + TAIL, 1), C, lda, ldb, ldc };
}

/** Whether element `i` of C belongs to the result. */
function isOutput({ m, n, offset }: GemmCase, ldc: number, i: number): boolean {
  const at = i - offset;
  return at >= 0 && at < m * ldc && at % ldc < n;
}

/** How far a result is from the float64 one, at the element that is furthest beyond its share of the bound. */
export interface GemmErrors {
  /** What is wrong, or undefined. */
  readonly fault: string | undefined;
  /** Largest error over its bound; at most 1 where nothing is wrong. */
  readonly overBound: number;
  /** Largest error over |alpha|·Σ|a·b| + |beta·c|. */
  readonly relative: number;
}

/**
 * Compares a result with the float64 one. Each element must lie within `(2·k·ε + unit)·(|alpha|·Σ|a·b| + |beta·c|)` of it
 * (ε = 2^-24 or 2^-53; `unit` is the error of a product of rounded operands, 0 by default), NaN and infinities in the same
 * places, and guards untouched.
 */
export function gemmErrors(
  test: GemmCase,
  operands: GemmOperands,
  before: FloatArray,
  after: FloatArray,
  unit = 0,
): GemmErrors {
  const { transA, transB, n, k, alpha, beta, offset } = test;
  const { A, B, lda, ldb, ldc } = operands;
  const epsilon = after instanceof Float32Array ? 2 ** -24 : 2 ** -53;
  const errors = { overBound: 0, relative: 0 };
  const failed = (fault: string): GemmErrors => ({ fault, overBound: Infinity, relative: Infinity });
  for (let i = 0; i < after.length; i++) {
    if (!isOutput(test, ldc, i)) {
      if (!Object.is(after[i], before[i])) return failed(`element ${i} outside the result was changed to ${after[i]}`);
      continue;
    }
    const [row, column] = [Math.floor((i - offset) / ldc), (i - offset) % ldc];
    if (column >= n) continue;
    let sum = 0;
    let size = 0;
    for (let p = 0; p < (alpha === 0 ? 0 : k); p++) {
      const a = A[offset + (transA ? p * lda + row : row * lda + p)];
      const b = B[offset + (transB ? column * ldb + p : p * ldb + column)];
      sum += a * b;
      size += Math.abs(a * b);
    }
    const kept = beta === 0 ? 0 : beta * before[i];
    const truth = alpha * sum + kept;
    const terms = Math.abs(alpha) * size + Math.abs(kept);
    const bound = (2 * Math.max(1, k) * epsilon + unit) * terms;
    const error = Math.abs(after[i] - truth);
    const isClose = Number.isFinite(truth) ? error <= bound : Object.is(after[i], truth);
    if (!isClose) return failed(`C[${row},${column}] is ${after[i]}, not ${truth} (allowed error ${bound})`);
    if (error === 0 || !Number.isFinite(truth)) continue;
    errors.overBound = Math.max(errors.overBound, error / bound);
    errors.relative = Math.max(errors.relative, error / terms);
  }
  return { fault: undefined, ...errors };
}

/** What is wrong with a result, or undefined; see `gemmErrors`. */
export function gemmFault(
  test: GemmCase,
  operands: GemmOperands,
  before: FloatArray,
  after: FloatArray,
): string | undefined {
  return gemmErrors(test, operands, before, after).fault;
}

/** A case in words. */
export function nameOf({ transA, transB, m, n, k, alpha, beta, offset, gap }: GemmCase): string {
  const product = `A${transA ? 'ᵀ' : ''}·B${transB ? 'ᵀ' : ''}`;
  return `${product} ${m}x${n}x${k}, alpha ${alpha}, beta ${beta}, offset ${offset}, gap ${gap}`;
}
