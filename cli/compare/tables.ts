// The table of a comparison.

import { shortRate } from '../format.ts';
import type { EntryResult } from './run-trials.ts';

/** Header and rows of a comparison. */
export function comparisonRows(heading: string, results: readonly EntryResult[]): string[][] {
  const severalRates = results.some(({ tried }) => tried.length > 1);
  const header = [heading, 'loss', severalRates ? 'best rate' : 'rate', 'ms/step', 's', 'state/weights', 'what it is'];
  const rows = results.map(
    ({ spec, description, loss, losses, learningRate, stepMilliseconds, seconds, stateShare }) => [
      spec,
      loss === null ? 'diverged' : `${loss.toFixed(3)}${spreadOf(losses)}`,
      shortRate(learningRate),
      stepMilliseconds.toFixed(1),
      seconds.toFixed(1),
      `${Number(stateShare.toFixed(2))}`,
      description,
    ],
  );
  return [header, ...rows];
}

/** Half the distance between the best and the worst seed. */
function spreadOf(losses: readonly (number | null)[]): string {
  const finite = losses.filter((loss) => loss !== null);
  if (finite.length < 2) return '';
  return ` ±${((Math.max(...finite) - Math.min(...finite)) / 2).toFixed(3)}`;
}

/** Rows as a Markdown table, the first being its header; `|` in a cell is escaped. */
export function markdownTable(rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const [header, ...body] = rows;
  return [line(header), `|${header.map(() => '---|').join('')}`, ...body.map(line)];
}
