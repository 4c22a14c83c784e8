// What the suites found, as tables of text and as bars.

import type { ScenarioRecord } from './axes.ts';
import type { Row } from './suites.ts';
import type { SpeedLine } from './speed.ts';

/** 812 -> `812 ns`, 3.2e6 -> `3.20 ms`. */
export function timeText(nanoseconds: number): string {
  if (nanoseconds < 1e3) return `${nanoseconds.toFixed(0)} ns`;
  if (nanoseconds < 1e6) return `${(nanoseconds / 1e3).toFixed(2)} µs`;
  if (nanoseconds < 1e9) return `${(nanoseconds / 1e6).toFixed(2)} ms`;
  return `${(nanoseconds / 1e9).toFixed(2)} s`;
}

/** How many times faster than the first. */
function ratioText(first: number, other: number): string {
  return `${(first / other).toFixed(2)}x`;
}

/** A header, then a line for each scenario: median and p95 of each backend, and the ratio where there are two. */
export function axesTable(specs: readonly string[], records: readonly (readonly ScenarioRecord[])[]): string[][] {
  const header = [
    'scenario',
    ...specs.flatMap((spec) => (specs.length === 1 ? ['median', 'p95', 'tokens/s', 'rss+'] : [spec])),
  ];
  if (specs.length > 1) header.push('first/last');
  const lines = records[0].map((first, i) => {
    const all = records.map((list) => list[i]);
    if (specs.length > 1) {
      const medians = all.map(({ median_ns }) => median_ns);
      return [first.id, ...medians.map(timeText), ratioText(medians[0], medians[medians.length - 1])];
    }
    const tokens = first.throughput_tokens_per_sec;
    const above = `${(first.derived.rss_above_bare_bytes / 1e6).toFixed(0)} MB`;
    const speed = tokens === null ? '' : Math.round(tokens).toLocaleString('en');
    return [first.id, timeText(first.median_ns), timeText(first.p95_ns), speed, above];
  });
  return [header, ...lines];
}

/** What a row of each backend is given in. */
export type Measure = 'gflops' | 'tokens' | 'step';

export function rowsTable(
  specs: readonly string[],
  rows: readonly Row[],
  measure: Measure,
  r: number | null,
): string[][] {
  const value = ({ timings, flops, tokens }: Row, i: number): string => {
    const seconds = timings[i].median_ns / 1e9;
    if (measure === 'gflops') return `${((flops ?? 0) / seconds / 1e9).toFixed(1)}`;
    if (measure === 'tokens') return `${Math.round((tokens ?? 0) / seconds).toLocaleString('en')}`;
    const efficiency = r === null || flops === null ? '' : `, ${(flops / seconds / r).toFixed(2)} R`;
    return `${timeText(timings[i].median_ns)}, ${Math.round((tokens ?? 0) / seconds).toLocaleString('en')} tokens/s${efficiency}`;
  };
  if (specs.length === 1) {
    return [['case', '', specs[0]], ...rows.map((row) => [row.id, row.description, value(row, 0)])];
  }
  const header = ['case', ...specs, 'first/last'];
  return [
    header,
    ...rows.map((row) => {
      const medians = row.timings.map(({ median_ns }) => median_ns);
      return [row.id, ...specs.map((_, i) => value(row, i)), ratioText(medians[0], medians[medians.length - 1])];
    }),
  ];
}

export function speedTable(lines: readonly SpeedLine[]): string[][] {
  const met = (line: SpeedLine) => (line.met === null ? '' : line.met ? 'yes' : 'no');
  return [
    ['case', 'at least', 'measured', 'met'],
    ...lines.map((line) => [line.case, line.target, line.measured, met(line)]),
  ];
}

/** A table as Markdown. */
export function markdown([header, ...rows]: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(header), `|${header.map(() => '---|').join('')}`, ...rows.map(line)];
}

/** A group of bars: one for each backend. */
export interface Bars {
  readonly label: string;
  readonly values: readonly number[];
  readonly texts: readonly string[];
}

export function axesBars(records: readonly (readonly ScenarioRecord[])[]): Bars[] {
  return records[0].map(({ id }, i) => {
    const values = records.map((list) => list[i].median_ns);
    return { label: id, values, texts: values.map(timeText) };
  });
}

export function rowBars(rows: readonly Row[]): Bars[] {
  return rows.map(({ id, timings }) => {
    const values = timings.map(({ median_ns }) => median_ns);
    return { label: id, values, texts: values.map(timeText) };
  });
}
