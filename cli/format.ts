// Numbers as people read them.

/** 542528 -> `542,528`. */
export function grouped(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

/** 6871234567 -> `6.87 B`, or `6.87 G` where units are physical. */
export function scaled(value: number, giga: 'B' | 'G' = 'B'): string {
  const sizes = [
    [1e12, 'T'],
    [1e9, giga],
    [1e6, 'M'],
    [1e3, giga === 'G' ? 'k' : 'K'],
  ] as const;
  for (const [size, unit] of sizes) if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  return value.toPrecision(3).replace(/\.0+$/, '');
}

/** Bytes in binary units. */
export function bytes(value: number): string {
  for (const [size, unit] of [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [2 ** 10, 'KiB'],
  ] as const) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} B`;
}

/** A part in hundredths of the whole: 7.3 % */
export function percent(part: number, whole = 1): string {
  return `${((100 * part) / whole).toFixed(1)} %`;
}

/** 75 -> `1m15s`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, '0')}s`;
  return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`;
}

/** Rows as columns; the last is not padded. */
export function table(rows: readonly (readonly string[])[], indent = '  '): string[] {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  return rows.map((row) =>
    `${indent}${row.map((cell, i) => (i < row.length - 1 ? cell.padEnd(widths[i]) : cell)).join('  ')}`.trimEnd(),
  );
}

/** Text without what would steer a terminal; a model may write any byte. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\u{FFFD}');
}

/** Text in lines of at most `width` columns, broken at spaces. */
export function wrapped(text: string, width: number): string[] {
  return text.split('\n').flatMap((paragraph) => {
    const lines: string[] = [];
    let line = '';
    for (const word of paragraph.split(' ')) {
      if (line !== '' && line.length + 1 + word.length > width) {
        lines.push(line);
        line = word;
      } else line = line === '' ? word : `${line} ${word}`;
    }
    return [...lines, line];
  });
}

/** A learning rate in three digits. */
export function shortRate(rate: number): string {
  return String(Number(rate.toPrecision(3)));
}
