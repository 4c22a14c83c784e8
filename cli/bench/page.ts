// The results of a benchmark as one HTML page without scripts: bars of medians, shorter is faster.

import type { Metadata } from './machine.ts';
import type { Bars } from './tables.ts';

const COLOURS = ['#2563eb', '#f59e0b', '#10b981', '#ef4444', '#8b5cf6', '#64748b'];
const [LABEL, WIDTH, VALUE, BAR, GAP] = [230, 520, 110, 14, 14];

function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}

/** A group of bars; each group has a scale of its own, as cases differ by orders of magnitude. */
function group({ label, values, texts }: Bars, y: number): string {
  const longest = Math.max(...values);
  const bars = values.map((value, i) => {
    const top = y + i * BAR;
    const width = Math.max(1, (value / longest) * WIDTH);
    const colour = COLOURS[i % COLOURS.length];
    return (
      `<rect x="${LABEL}" y="${top}" width="${width.toFixed(1)}" height="${BAR - 2}" rx="2" fill="${colour}"/>` +
      `<text x="${(LABEL + width + 6).toFixed(1)}" y="${top + BAR - 4}">${escaped(texts[i])}</text>`
    );
  });
  const middle = y + (values.length * BAR) / 2 + 3;
  return `<text x="${LABEL - 10}" y="${middle}" text-anchor="end">${escaped(label)}</text>${bars.join('')}`;
}

function chart(groups: readonly Bars[]): string {
  let y = 4;
  const parts = groups.map((one) => {
    const drawn = group(one, y);
    y += one.values.length * BAR + GAP;
    return drawn;
  });
  const width = LABEL + WIDTH + VALUE;
  return `<svg viewBox="0 0 ${width} ${y}" width="${width}" height="${y}" role="img">${parts.join('')}</svg>`;
}

export function benchPage(
  suite: string,
  metadata: Metadata,
  specs: readonly string[],
  groups: readonly Bars[],
): string {
  const { cpu, cores, node, date, load_average, r_flops } = metadata;
  const facts = [
    `${cpu}, ${cores} cores, Node.js ${node}, load ${load_average.toFixed(1)}`,
    r_flops === null ? 'no BLAS, so no R' : `R = ${(r_flops / 1e9).toFixed(1)} GFLOP/s`,
    date,
  ];
  const legend = specs.map(
    (spec, i) => `<li><i style="background:${COLOURS[i % COLOURS.length]}"></i>${escaped(spec)}</li>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gemmoe bench ${escaped(suite)}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 32px auto; max-width: 900px; color: #1e293b; background: #fff; }
h1 { font-size: 20px; margin: 0; } p { color: #64748b; margin: 4px 0 16px; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 20px; } li i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; }
svg { font: 12px system-ui, sans-serif; fill: #334155; max-width: 100%; height: auto; }
</style></head>
<body><h1>gemmoe bench ${escaped(suite)}</h1><p>${facts.map(escaped).join(' · ')}</p>
<ul>${legend.join('')}</ul>
<p>Median time of each case, shorter is faster; every case has its own scale.</p>
${chart(groups)}
</body></html>
`;
}
