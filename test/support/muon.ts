// Newton–Schulz a second time, by plain loops over matrices that are copied and transposed as the paper writes them.

/** a [n,k] · b [k,m]. */
export function multiplied(a: Float64Array, b: Float64Array, n: number, k: number, m: number): Float64Array {
  return Float64Array.from({ length: n * m }, (_, index) => {
    const [i, j] = [Math.floor(index / m), index % m];
    let sum = 0;
    for (let l = 0; l < k; l++) sum += a[i * k + l] * b[l * m + j];
    return sum;
  });
}

export function transposed(a: Float64Array, rows: number, columns: number): Float64Array {
  return a.map((_, index) => a[(index % rows) * columns + Math.floor(index / rows)]);
}

/** X/(‖X‖ + 1e-7), then X = aX + (bA + cA²)X with A = X·Xᵀ for each triple; tall matrices lying down. */
export function orthogonalised(
  matrix: Float64Array,
  rows: number,
  columns: number,
  coefficients: Float64Array,
): Float64Array {
  if (rows > columns) {
    return transposed(orthogonalised(transposed(matrix, rows, columns), columns, rows, coefficients), columns, rows);
  }
  const norm = Math.hypot(...matrix) + 1e-7;
  let x = matrix.map((value) => value / norm);
  for (let step = 0; step < coefficients.length; step += 3) {
    const gram = multiplied(x, transposed(x, rows, columns), rows, columns, rows);
    const square = multiplied(gram, gram, rows, rows, rows);
    const polynomial = gram.map((value, i) => coefficients[step + 1] * value + coefficients[step + 2] * square[i]);
    const turned = multiplied(polynomial, x, rows, rows, columns);
    x = x.map((value, i) => coefficients[step] * value + turned[i]);
  }
  return x;
}
