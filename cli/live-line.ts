// One line of a terminal: what matters most stays when there is little room, and a curve fills what is left.

const BARS = '▁▂▃▄▅▆▇█';
/** Columns that a curve needs to be worth drawing, and takes at most. */
const SHORTEST_CURVE = 6;
const LONGEST_CURVE = 30;
const GAP = '  ';

/** A piece of a line; those with small numbers go first when there is no room. */
export interface Piece {
  readonly text: string;
  readonly importance: number;
}

/** The pieces that fit `columns`, in their order, and a curve behind them. @param curve oldest value first */
export function liveLine(pieces: readonly Piece[], columns: number, curve: readonly number[]): string {
  let kept = [...pieces];
  const lengthOf = () => kept.reduce((sum, { text }) => sum + text.length, GAP.length * (kept.length - 1));
  while (kept.length > 1 && lengthOf() > columns) {
    const least = Math.min(...kept.map(({ importance }) => importance));
    kept = kept.filter(({ importance }) => importance !== least);
  }
  const line = kept.map(({ text }) => text).join(GAP);
  const room = Math.min(LONGEST_CURVE, columns - line.length - GAP.length);
  return room < SHORTEST_CURVE || curve.length < 2 ? line : `${line}${GAP}${sparkline(curve, room)}`;
}

/** Values as bars of eight heights, `width` of them at most, the lowest value the lowest bar. */
export function sparkline(values: readonly number[], width: number): string {
  const count = Math.min(width, values.length);
  const means = Array.from({ length: count }, (_, i) => {
    const part = values.slice(Math.floor((i * values.length) / count), Math.floor(((i + 1) * values.length) / count));
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
  const low = Math.min(...means);
  const range = Math.max(...means) - low;
  const barOf = (value: number) => BARS[range > 0 ? Math.round(((value - low) / range) * (BARS.length - 1)) : 0];
  return means.map(barOf).join('');
}
