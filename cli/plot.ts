// A curve in a terminal, two by four dots to a character.

/** Bit of a dot within its braille character, by column and row. */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
];
const BLANK = 0x2800;

export interface PlotOptions {
  /** Characters, the labels of the vertical axis among them. */
  readonly columns: number;
  readonly rows: number;
  readonly showX: (x: number) => string;
  readonly showY: (y: number) => string;
}

/** A curve through points whose x ascend; the lines of it, axes included. */
export function plot(points: readonly (readonly [number, number])[], options: PlotOptions): string[] {
  const { columns, rows, showX, showY } = options;
  const [low, high] = rangeOf(points.map(([, y]) => y));
  const [first, last] = rangeOf(points.map(([x]) => x));
  const labels = [showY(high), showY((low + high) / 2), showY(low)];
  const margin = Math.max(...labels.map((label) => label.length));
  const width = columns - margin - 2;
  const cells = Array.from({ length: rows }, () => new Uint8Array(width));
  for (let column = 0; column < 2 * width; column++) {
    const y = valueAt(points, first + ((last - first) * column) / (2 * width - 1));
    const row = Math.round(((high - y) / (high - low)) * (4 * rows - 1));
    cells[row >> 2][column >> 1] |= DOTS[column & 1][row & 3];
  }
  const labelOf = (row: number) =>
    row === 0 ? labels[0] : row === rows >> 1 ? labels[1] : row === rows - 1 ? labels[2] : '';
  const lines = cells.map(
    (cell, row) =>
      `${labelOf(row).padStart(margin)} │${String.fromCodePoint(...[...cell].map((dots) => BLANK + dots))}`,
  );
  const ends = [showX(first), showX((first + last) / 2), showX(last)];
  const gap = Math.max(1, width - ends.join('').length);
  const axis = `${ends[0]}${' '.repeat(gap >> 1)}${ends[1]}${' '.repeat(gap - (gap >> 1))}${ends[2]}`;
  return [...lines, `${' '.repeat(margin)} └${'─'.repeat(width)}`, `${' '.repeat(margin + 2)}${axis}`].map((line) =>
    line.trimEnd(),
  );
}

/** Smallest and largest, a little apart where they are the same. */
function rangeOf(values: readonly number[]): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
}

/** On the straight line between the points around x. */
function valueAt(points: readonly (readonly [number, number])[], x: number): number {
  const after = points.findIndex((point) => point[0] >= x);
  if (after < 0) return points[points.length - 1][1];
  if (after === 0) return points[0][1];
  const [[x0, y0], [x1, y1]] = [points[after - 1], points[after]];
  return y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
}
