// Token embedding: rows of a table.

import type { FloatArray } from '../tensor/dtype.ts';

/** y [N,C] = table rows of ids [N]. */
export function embedding(y: FloatArray, table: FloatArray, ids: Int32Array, N: number, C: number): void {
  for (let n = 0; n < N; n++) {
    const from = ids[n] * C;
    const to = n * C;
    for (let c = 0; c < C; c++) y[to + c] = table[from + c];
  }
}

/** dTable [V,C] += dy [N,C] at ids. */
export function embeddingBackward(dTable: FloatArray, dy: FloatArray, ids: Int32Array, N: number, C: number): void {
  for (let n = 0; n < N; n++) {
    const from = n * C;
    const to = ids[n] * C;
    for (let c = 0; c < C; c++) dTable[to + c] += dy[from + c];
  }
}
