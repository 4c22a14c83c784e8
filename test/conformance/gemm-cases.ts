// Cases of gemm as data, a float64 oracle, and the bound that results are held to.

import { Random } from '../../core/random.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';

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

/** Operands of a case, with guard values around and between the rows of C. */
export interface GemmOperands {
  readonly A: FloatArray;
  readonly B: FloatArray;
  readonly C: FloatArray;
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;
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

/**
 * What is wrong with a result, or undefined. Each element must lie within `2·k·ε·(|alpha|·Σ|a·b| + |beta·c|)` of the float64
 * result (ε = 2^-24 or 2^-53), NaN and infinities in the same places, and guards untouched.
 */
export function gemmFault(
  test: GemmCase,
  operands: GemmOperands,
  before: FloatArray,
  after: FloatArray,
): string | undefined {
  const { transA, transB, n, k, alpha, beta, offset } = test;
  const { A, B, lda, ldb, ldc } = operands;
  const epsilon = after instanceof Float32Array ? 2 ** -24 : 2 ** -53;
  for (let i = 0; i < after.length; i++) {
    if (!isOutput(test, ldc, i)) {
      if (!Object.is(after[i], before[i])) return `element ${i} outside the result was changed to ${after[i]}`;
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
    const bound = 2 * Math.max(1, k) * epsilon * (Math.abs(alpha) * size + Math.abs(kept));
    const isClose = Number.isFinite(truth) ? Math.abs(after[i] - truth) <= bound : Object.is(after[i], truth);
    if (!isClose) return `C[${row},${column}] is ${after[i]}, not ${truth} (allowed error ${bound})`;
  }
  return undefined;
}

/** A case in words. */
export function nameOf({ transA, transB, m, n, k, alpha, beta, offset, gap }: GemmCase): string {
  const product = `A${transA ? 'ᵀ' : ''}·B${transB ? 'ᵀ' : ''}`;
  return `${product} ${m}x${n}x${k}, alpha ${alpha}, beta ${beta}, offset ${offset}, gap ${gap}`;
}
