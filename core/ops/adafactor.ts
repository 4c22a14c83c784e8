// Adafactor (Shazeer & Stern 2018) as torch.optim.Adafactor: with β = 1 - t^-decayRate, ρ = min(η, 1/√t),
// α = max(ε₂, RMS(θ))·ρ: R = EMA of row means of g², C = EMA of column means, V̂ = R·C/max(mean R, ε₁), U = g/√max(V̂, ε₁²),
// θ *= 1 - ηλ, θ -= α·U/max(1, RMS(U)/d).

import type { AdafactorOptions } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** One step on a matrix, or on a vector (columns 1) where `column` is null and `row` is its whole second moment. */
export function adafactor(
  p: FloatArray,
  g: FloatArray,
  row: FloatArray,
  rowOffset: number,
  column: FloatArray | null,
  columnOffset: number,
  offset: number,
  rows: number,
  columns: number,
  { learningRate, step, decayRate, eps1, eps2, clip, relative, weightDecay, gradientScale }: AdafactorOptions,
): void {
  const end = offset + rows * columns;
  if (end === offset) return;
  const fresh = step ** -decayRate;
  averageRows(row, rowOffset, g, offset, rows, columns, fresh, gradientScale);
  if (column) averageColumns(column, columnOffset, g, offset, rows, columns, fresh, gradientScale);
  let mean = 0;
  for (let r = rowOffset; r < rowOffset + rows; r++) mean += row[r] / rows;
  const norm = Math.max(mean, eps1);
  const least = eps1 * eps1;

  let sum = 0;
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < columns; j++) {
      const i = offset + r * columns + j;
      const second = column ? (row[rowOffset + r] * column[columnOffset + j]) / norm : row[rowOffset + r];
      const update = (g[i] * gradientScale) / Math.sqrt(Math.max(second, least));
      g[i] = update;
      sum += update * update;
    }
  }
  const size = rows * columns;
  const bounded = relative ? Math.min(learningRate, 1 / Math.sqrt(step)) : learningRate;
  const scale = relative ? Math.max(eps2, rootMeanSquare(p, offset, end)) : 1;
  const rate = (bounded * scale) / Math.max(1, Math.sqrt(sum / size) / clip);
  const keep = 1 - learningRate * weightDecay;
  for (let i = offset; i < end; i++) {
    p[i] = p[i] * keep - rate * g[i];
    g[i] = 0;
  }
}

/** row += fresh·(mean of each row of (g·scale)² - row) */
function averageRows(
  row: FloatArray,
  rowOffset: number,
  g: FloatArray,
  offset: number,
  rows: number,
  columns: number,
  fresh: number,
  scale: number,
): void {
  for (let r = 0; r < rows; r++) {
    let sum = 0;
    const first = offset + r * columns;
    for (let i = first; i < first + columns; i++) sum += (g[i] * scale) ** 2;
    row[rowOffset + r] += fresh * (sum / columns - row[rowOffset + r]);
  }
}

/** column += fresh·(mean of each column of (g·scale)² - column) */
function averageColumns(
  column: FloatArray,
  columnOffset: number,
  g: FloatArray,
  offset: number,
  rows: number,
  columns: number,
  fresh: number,
  scale: number,
): void {
  for (let j = 0; j < columns; j++) {
    let sum = 0;
    for (let r = 0; r < rows; r++) sum += (g[offset + r * columns + j] * scale) ** 2;
    column[columnOffset + j] += fresh * (sum / rows - column[columnOffset + j]);
  }
}

function rootMeanSquare(values: FloatArray, start: number, end: number): number {
  let sum = 0;
  for (let i = start; i < end; i++) sum += values[i] * values[i];
  return Math.sqrt(sum / (end - start));
}
