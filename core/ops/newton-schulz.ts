// Newton–Schulz iteration towards the nearest orthogonal matrix, over the backend's gemm: per step three products, the two
// large ones between the matrix and the square on its shorter side.

import type { Kernels } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** Added to the norm that a matrix is divided by. */
const EPSILON = 1e-7;

/** Elements that `newtonSchulz` needs as scratch for matrices [rows, columns]. */
export function newtonSchulzScratch(rows: number, columns: number): number {
  const side = Math.min(rows, columns);
  return 2 * side * side + rows * columns;
}

/** newtonSchulz. */
export function makeNewtonSchulz(gemm: Kernels['gemm']): Pick<Kernels, 'newtonSchulz'> {
  /** gram [side²] = X·Xᵀ or Xᵀ·X, the smaller one. */
  function gramOf(gram: FloatArray, x: FloatArray, offset: number, rows: number, columns: number): void {
    const side = Math.min(rows, columns);
    if (rows <= columns) {
      gemm(false, true, side, side, columns, 1, x, offset, columns, x, offset, columns, 0, gram, 0, side);
    } else gemm(true, false, side, side, rows, 1, x, offset, columns, x, offset, columns, 0, gram, 0, side);
  }

  /** y = scale·P·X, or scale·X·P where P [side²] belongs on the right; P stands in `square` from `pOffset`. */
  function multiply(
    y: FloatArray,
    yOffset: number,
    square: FloatArray,
    pOffset: number,
    x: FloatArray,
    xOffset: number,
    rows: number,
    columns: number,
    scale: number,
  ): void {
    const [n, k] = [columns, Math.min(rows, columns)];
    if (rows <= columns) {
      gemm(false, false, rows, n, k, scale, square, pOffset, k, x, xOffset, n, 0, y, yOffset, n);
    } else gemm(false, false, rows, n, k, scale, x, xOffset, n, square, pOffset, k, 0, y, yOffset, n);
  }

  return {
    newtonSchulz(x, { offsets, rows, columns }, coefficients, scratch) {
      if (rows === 0 || columns === 0) return;
      const side = Math.min(rows, columns);
      const square = side * side;
      const spare = 2 * square;
      for (let matrix = 0; matrix < offsets.length; matrix++) {
        const home = offsets[matrix];
        let isHome = true;
        for (let step = 0; step < coefficients.length; step += 3) {
          const [from, to] = isHome ? [x, scratch] : [scratch, x];
          const [fromOffset, toOffset] = isHome ? [home, spare] : [spare, home];
          gramOf(scratch, from, fromOffset, rows, columns);
          // the trace of the first gram is the squared norm, so dividing by it costs no pass over the matrix
          const scale = step === 0 ? 1 / (Math.sqrt(trace(scratch, side)) + EPSILON) : 1;
          // P = aI + bA + cA²
          scaledTwice(scratch, square, scale * scale);
          const [a, b, c] = [coefficients[step], coefficients[step + 1], coefficients[step + 2]];
          gemm(false, false, side, side, side, c, scratch, 0, side, scratch, 0, side, b, scratch, square, side);
          for (let i = 0; i < side; i++) scratch[square + i * (side + 1)] += a;
          multiply(to, toOffset, scratch, square, from, fromOffset, rows, columns, scale);
          isHome = !isHome;
        }
        if (!isHome) for (let i = 0; i < rows * columns; i++) x[home + i] = scratch[spare + i];
      }
    },
  };
}

function trace(square: FloatArray, side: number): number {
  let sum = 0;
  for (let i = 0; i < side; i++) sum += square[i * (side + 1)];
  return sum;
}

/** The first `count` elements times `factor`, and once more behind them: the product overwrites the copy. */
function scaledTwice(values: FloatArray, count: number, factor: number): void {
  for (let i = 0; i < count; i++) {
    values[i] *= factor;
    values[count + i] = values[i];
  }
}
