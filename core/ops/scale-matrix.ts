// What gemm does when there is no product to add.

import type { FloatArray } from '../tensor/dtype.ts';

/** C = beta·C, without reading C when beta is 0. */
export function scaleMatrix(C: FloatArray, offset: number, stride: number, m: number, n: number, beta: number): void {
  for (let i = 0; i < m; i++) {
    const row = offset + i * stride;
    if (beta === 0) C.fill(0, row, row + n);
    else for (let j = row; j < row + n; j++) C[j] *= beta;
  }
}
