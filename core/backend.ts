// The contract of a matrix-product backend, and how one is contributed.

import type { ServiceIdentifier } from 'inversify';
import type { Kernels, ProductKernels } from './kernels.ts';
import type { Named } from './registry.ts';
import type { FloatArray } from './tensor/dtype.ts';

/** What a backend says about itself after it was created: what it really bound to, not what was asked. */
export interface BackendDescription {
  readonly vendor: string;
  readonly version: string;
  /** Path of the library that does the work; null where there is none. */
  readonly library: string | null;
  readonly instructionSet: string;
  readonly threads: number;
  /** Precision of the products: `f64 accumulation`, `f32`, … */
  readonly precision: string;
}

/** op(B) [k,n] of many products, copied once into a backend's own layout. Good until B changes. */
export interface PackedMatrix {
  readonly k: number;
  readonly n: number;
  /** Bytes of the copy; 0 where products read B itself. */
  readonly bytes: number;

  /** C = alpha·op(A)·op(B) + beta·C with op(A) [m,k]: all that `gemm` promises. */
  gemm(
    transA: boolean,
    m: number,
    alpha: number,
    A: FloatArray,
    aOffset: number,
    lda: number,
    beta: number,
    C: FloatArray,
    cOffset: number,
    ldc: number,
  ): void;
}

/**
 * The one thing every backend must be.
 *
 * `gemm` computes `C = alpha·op(A)·op(B) + beta·C` in row-major order, where op(X) is X or Xᵀ:
 * op(A) is [m,k], op(B) is [k,n], C is [m,n]. Element (i,j) of a stored matrix X is `X[xOffset + i·ldx + j]`; offsets and
 * leading dimensions count elements.
 *
 * - Blocking: when it returns, C is complete. The caller allocates; nothing is kept after the call.
 * - C may share a buffer with A or B as long as the elements do not overlap.
 * - m, n or k of 0 is legal: m or n = 0 does nothing, k = 0 scales C by beta. alpha = 0 reads neither A nor B: it scales C by
 *   beta, as k = 0 does.
 * - beta = 0 never reads C, so NaN in C does not spread. NaN and Inf in A and B do, as IEEE 754 says.
 * - Only the elements of C are written: gaps between rows (ldc > n) and everything around stay as they were.
 * - A size that is not a non-negative integer, a leading dimension below its row length, or a range that leaves its array
 *   is a RangeError before any native code runs; an array of the wrong type is a TypeError (`checkGemm` does both).
 * - Float32Array must be supported. Float64Array is (optional): the reference supports it, and finite differences need it.
 * - The same arguments, backend and thread count give the same bits, whatever the scheduling.
 */
export interface MatmulBackend {
  readonly name: string;

  gemm(
    transA: boolean,
    transB: boolean,
    m: number,
    n: number,
    k: number,
    alpha: number,
    A: FloatArray,
    aOffset: number,
    lda: number,
    B: FloatArray,
    bOffset: number,
    ldb: number,
    beta: number,
    C: FloatArray,
    cOffset: number,
    ldc: number,
  ): void;

  /** (optional) Copies op(B) [k,n] for products to come; `packMatrix` does without where it is absent. Refuses what `gemm` does. */
  pack?(transB: boolean, n: number, k: number, B: FloatArray, bOffset: number, ldb: number): PackedMatrix;

  /** (optional) Kernels that this backend brings itself; the portable ones over its gemm fill the rest. */
  readonly kernels?: Partial<Kernels>;

  /**
   * (optional) Products that round their float32 operands to bfloat16 themselves, products and sums being float32, for training
   * with `precision: bf16` beside products in float32. Weights and rows come as they are. Absent, operands are rounded before
   * they go to `gemm` or `kernels`.
   */
  readonly bf16?: ProductKernels;

  describe(): BackendDescription;

  /** (optional) What it has to tell at the end of its work, a line each. */
  report?(): string[];

  /** Releases threads and libraries. The backend is not used afterwards; calling it twice is harmless. */
  close(): void;
}

/**
 * op(B) [k,n] for many products, packed where the backend packs; B must not change while it is used.
 * @throws TypeError, RangeError as `gemm` does
 */
export function packMatrix(
  backend: MatmulBackend,
  transB: boolean,
  n: number,
  k: number,
  B: FloatArray,
  bOffset: number,
  ldb: number,
): PackedMatrix {
  if (backend.pack) return backend.pack(transB, n, k, B, bOffset, ldb);
  checkOperand(transB, n, k, B, bOffset, ldb);
  return {
    ...{ k, n, bytes: 0 },
    gemm: (transA, m, alpha, A, aOffset, lda, beta, C, cOffset, ldc) =>
      backend.gemm(transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset, ldc),
  };
}

/** How a backend is offered: cheap to list, created only when chosen. */
export interface BackendContribution extends Named {
  /** One line per option that `create` understands, for `gemmoe backends`; empty when there are none. */
  readonly options: readonly string[];
  /** (optional) Precisions of products that it offers here, as `precision=` takes them; default only float32. */
  precisions?(): readonly string[];
  /** A sentence saying why it cannot run here, or undefined when it can. May look for files; loads nothing. */
  unavailable(): string | undefined;
  /** Loads and starts the backend. `options` is what stood after the colon in `name:options`, empty when nothing did. */
  create(options: string): MatmulBackend;
}

/** Container tokens; `Symbol.for`, so a plugin with its own copy of inversify names the same ones. */
export const BackendContribution: ServiceIdentifier<BackendContribution> = Symbol.for('gemmoe.BackendContribution');
export const MatmulBackend: ServiceIdentifier<MatmulBackend> = Symbol.for('gemmoe.MatmulBackend');

/**
 * Checks the arguments of `gemm` as the contract demands.
 * @throws TypeError for arrays that are no (or not the same) float arrays, or detached; RangeError for sizes and ranges.
 */
export function checkGemm(
  transA: boolean,
  transB: boolean,
  m: number,
  n: number,
  k: number,
  A: FloatArray,
  aOffset: number,
  lda: number,
  B: FloatArray,
  bOffset: number,
  ldb: number,
  C: FloatArray,
  cOffset: number,
  ldc: number,
): void {
  checkSize('m', m);
  checkSize('n', n);
  checkSize('k', k);
  checkMatrix('A', A, aOffset, lda, transA ? k : m, transA ? m : k, C);
  checkMatrix('B', B, bOffset, ldb, transB ? n : k, transB ? k : n, C);
  checkMatrix('C', C, cOffset, ldc, m, n, C);
}

/** What `checkGemm` checks of B. @throws TypeError or RangeError */
export function checkOperand(transB: boolean, n: number, k: number, B: FloatArray, bOffset: number, ldb: number): void {
  checkSize('n', n);
  checkSize('k', k);
  checkMatrix('B', B, bOffset, ldb, transB ? n : k, transB ? k : n, B);
}

/** Largest size and leading dimension: CBLAS takes 32-bit integers. */
const MAX_INT = 0x7fffffff;

function checkSize(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > MAX_INT) {
    throw new RangeError(`gemm: ${name} must be a whole number from 0 to ${MAX_INT}, not ${value}`);
  }
}

function checkMatrix(
  name: string,
  array: FloatArray,
  offset: number,
  stride: number,
  rows: number,
  columns: number,
  like: FloatArray,
): void {
  if (!(array instanceof Float32Array || array instanceof Float64Array)) {
    throw new TypeError(`gemm: ${name} must be a Float32Array or a Float64Array`);
  }
  if (array.BYTES_PER_ELEMENT !== like.BYTES_PER_ELEMENT) {
    throw new TypeError(`gemm: ${name} holds ${array.constructor.name} elements and C holds ${like.constructor.name}`);
  }
  checkSize(`offset of ${name}`, offset <= MAX_INT ? offset : Number.isSafeInteger(offset) ? 0 : offset);
  checkSize(`leading dimension of ${name}`, stride);
  if (stride < Math.max(1, columns)) {
    throw new RangeError(
      `gemm: leading dimension of ${name} is ${stride}, below its row length of ${Math.max(1, columns)}`,
    );
  }
  if (rows === 0 || columns === 0) return; // nothing is touched
  const end = offset + (rows - 1) * stride + columns;
  if (end > array.length) {
    throw new RangeError(
      `gemm: ${name} [${rows},${columns}] with leading dimension ${stride} at offset ${offset} ends at element ${end}, ` +
        `but its array has ${array.length}`,
    );
  }
}
