// The matrices that a parameter is made of: a packed tensor holds several, which some optimizers must not mix.

import type { Parameter } from './parameters.ts';

/** `count` matrices [rows, columns], one right behind the other from element `offset` of the flat storage. */
export interface Matrices {
  readonly offset: number;
  readonly count: number;
  readonly rows: number;
  readonly columns: number;
}

/** The matrices of a parameter in storage order, neighbours of one shape together; none for a vector. */
export function matricesOf({ shape, parts, offset }: Parameter): Matrices[] {
  if (shape.length < 2) return [];
  const columns = shape[shape.length - 1];
  const stacked = shape.slice(0, -2).reduce((product, length) => product * length, 1);
  const found: { offset: number; count: number; rows: number; columns: number }[] = [];
  let next = offset;
  for (let i = 0; i < stacked; i++) {
    for (const rows of parts) {
      const last = found.at(-1);
      if (last?.rows === rows) last.count++;
      else found.push({ offset: next, count: 1, rows, columns });
      next += rows * columns;
    }
  }
  return found;
}
