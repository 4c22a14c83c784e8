// `reference`: plain TypeScript with float64 accumulation, the definition of correct. Every element of a product is one sum
// over k in rising order, whatever the sizes around it: blocking changes the speed, never a bit, so a row's result does not
// depend on the batch that it came in.

import {
  type BackendContribution,
  type BackendDescription,
  checkGemm,
  type MatmulBackend,
} from '../../core/backend.ts';
import { GemmoeError } from '../../core/errors.ts';
import { scaleMatrix } from '../../core/ops/scale-matrix.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';

/** Rows and columns of the register block. */
const BLOCK = 4;

/** Products of fewer rows are not worth packing op(B) for: 1 row is 4 times as fast unpacked, 2 rows twice, 3 rows equal. */
const PACKED_ROWS = 3;

/** Packs op(A) and op(B) into float64 panels of BLOCK rows or columns, k by k, and multiplies panel by panel. */
export class ReferenceBackend implements MatmulBackend {
  readonly name = 'reference';
  private panelA = new Float64Array(0);
  private panelB = new Float64Array(0);
  private readonly sums = new Float64Array(BLOCK * BLOCK);

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
  ): void {
    checkGemm(transA, transB, m, n, k, A, aOffset, lda, B, bOffset, ldb, C, cOffset, ldc);
    if (m === 0 || n === 0) return;
    if (k === 0 || alpha === 0) return scaleMatrix(C, cOffset, ldc, m, n, beta);
    // element (i, p) of op(A) is A[aOffset + i·aRow + p·aColumn], element (p, j) of op(B) is B[bOffset + p·bRow + j·bColumn]
    const aRow = transA ? 1 : lda;
    const aColumn = transA ? lda : 1;
    const bRow = transB ? 1 : ldb;
    const bColumn = transB ? ldb : 1;
    if (m < PACKED_ROWS) {
      for (let i = 0; i < m; i++) {
        multiplyRow(n, k, alpha, A, aOffset + i * aRow, aColumn, B, bOffset, bRow, bColumn, beta, C, cOffset + i * ldc);
      }
      return;
    }
    const paddedColumns = Math.ceil(n / BLOCK) * BLOCK;
    if (this.panelA.length < BLOCK * k) this.panelA = new Float64Array(BLOCK * k);
    if (this.panelB.length < paddedColumns * k) this.panelB = new Float64Array(paddedColumns * k);
    for (let j = 0; j < n; j += BLOCK) pack(this.panelB, j * k, B, bOffset + j * bColumn, bColumn, bRow, n - j, k);
    for (let i = 0; i < m; i += BLOCK) {
      pack(this.panelA, 0, A, aOffset + i * aRow, aRow, aColumn, m - i, k);
      for (let j = 0; j < n; j += BLOCK) {
        multiplyPanels(this.sums, this.panelA, this.panelB, j * k, k);
        const rows = Math.min(BLOCK, m - i);
        const columns = Math.min(BLOCK, n - j);
        store(this.sums, C, cOffset + i * ldc + j, ldc, rows, columns, alpha, beta);
      }
    }
  }

  describe(): BackendDescription {
    return {
      vendor: 'gemmoe',
      version: '1',
      library: null,
      instructionSet: 'JavaScript',
      threads: 1,
      precision: 'f64 accumulation',
    };
  }

  close(): void {}
}

export const referenceBackend: BackendContribution = {
  name: 'reference',
  description: 'plain TypeScript, float64 accumulation: the definition of correct',
  options: [],
  unavailable: () => undefined,
  create(options) {
    if (options !== '') {
      throw new GemmoeError(
        'usage',
        `the reference backend takes no options, got "${options}"`,
        'use --backend reference',
      );
    }
    return new ReferenceBackend();
  },
};

/** One row of C from one row of op(A), four columns of op(B) at a time. */
function multiplyRow(
  n: number,
  k: number,
  alpha: number,
  A: FloatArray,
  aAt: number,
  aStep: number,
  B: FloatArray,
  bAt: number,
  bRow: number,
  bColumn: number,
  beta: number,
  C: FloatArray,
  cAt: number,
): void {
  for (let j = 0; j < n; j += BLOCK) {
    // columns beyond the last read the last again and are not stored
    const last = bAt + (n - 1) * bColumn;
    let b0 = bAt + j * bColumn;
    let b1 = Math.min(b0 + bColumn, last);
    let b2 = Math.min(b1 + bColumn, last);
    let b3 = Math.min(b2 + bColumn, last);
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let p = 0, a = aAt; p < k; p++, a += aStep) {
      const value = A[a];
      s0 += value * B[b0];
      s1 += value * B[b1];
      s2 += value * B[b2];
      s3 += value * B[b3];
      b0 += bRow;
      b1 += bRow;
      b2 += bRow;
      b3 += bRow;
    }
    storeOne(C, cAt + j, alpha * s0, beta);
    if (j + 1 < n) storeOne(C, cAt + j + 1, alpha * s1, beta);
    if (j + 2 < n) storeOne(C, cAt + j + 2, alpha * s2, beta);
    if (j + 3 < n) storeOne(C, cAt + j + 3, alpha * s3, beta);
  }
}

/** C[i] = product + beta·C[i], without reading C when beta is 0. */
function storeOne(C: FloatArray, i: number, product: number, beta: number): void {
  C[i] = beta === 0 ? product : product + beta * C[i];
}

/** panel[at + p·BLOCK + r] = X[from + r·rowStep + p·step] for up to BLOCK lines r, zero for those that do not exist. */
function pack(
  panel: Float64Array,
  at: number,
  X: FloatArray,
  from: number,
  rowStep: number,
  step: number,
  lines: number,
  k: number,
): void {
  const full = Math.min(BLOCK, lines);
  for (let r = 0; r < full; r++) {
    let source = from + r * rowStep;
    for (let target = at + r; target < at + k * BLOCK; target += BLOCK) {
      panel[target] = X[source];
      source += step;
    }
  }
  for (let r = full; r < BLOCK; r++) for (let p = 0; p < k; p++) panel[at + p * BLOCK + r] = 0;
}

/** sums [4,4] = Σ_p a[p]·b[p]ᵀ of two packed panels. */
// prettier-ignore
function multiplyPanels(sums: Float64Array, a: Float64Array, b: Float64Array, bAt: number, k: number): void {
  let s00 = 0, s01 = 0, s02 = 0, s03 = 0;
  let s10 = 0, s11 = 0, s12 = 0, s13 = 0;
  let s20 = 0, s21 = 0, s22 = 0, s23 = 0;
  let s30 = 0, s31 = 0, s32 = 0, s33 = 0;
  let j = bAt;
  for (let i = 0; i < k * BLOCK; i += BLOCK, j += BLOCK) {
    const b0 = b[j], b1 = b[j + 1], b2 = b[j + 2], b3 = b[j + 3];
    const a0 = a[i];
    s00 += a0 * b0; s01 += a0 * b1; s02 += a0 * b2; s03 += a0 * b3;
    const a1 = a[i + 1];
    s10 += a1 * b0; s11 += a1 * b1; s12 += a1 * b2; s13 += a1 * b3;
    const a2 = a[i + 2];
    s20 += a2 * b0; s21 += a2 * b1; s22 += a2 * b2; s23 += a2 * b3;
    const a3 = a[i + 3];
    s30 += a3 * b0; s31 += a3 * b1; s32 += a3 * b2; s33 += a3 * b3;
  }
  sums[0] = s00; sums[1] = s01; sums[2] = s02; sums[3] = s03;
  sums[4] = s10; sums[5] = s11; sums[6] = s12; sums[7] = s13;
  sums[8] = s20; sums[9] = s21; sums[10] = s22; sums[11] = s23;
  sums[12] = s30; sums[13] = s31; sums[14] = s32; sums[15] = s33;
}

/** C = alpha·sums + beta·C on the rows and columns that exist. */
function store(
  sums: Float64Array,
  C: FloatArray,
  at: number,
  stride: number,
  rows: number,
  columns: number,
  alpha: number,
  beta: number,
): void {
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) storeOne(C, at + r * stride + c, alpha * sums[r * BLOCK + c], beta);
  }
}
