// What every page of charts begins with; runs in the browser with uPlot beside it.

export const CHART_SCRIPT = `
const style = getComputedStyle(document.documentElement);
const color = (name) => style.getPropertyValue(name).trim();
const dark = matchMedia('(prefers-color-scheme: dark)');
const accent = color('--accent');
const axis = () => ({ stroke: color('--soft'), grid: { stroke: color('--line'), width: 1 }, ticks: { stroke: color('--line'), width: 1 } });
const redraws = [];
const widthOf = (host) => Math.max(240, host.clientWidth);
function chart(id, height, series, data, options = {}) {
  const host = document.getElementById(id);
  if (!host || data[0].length === 0) return;
  const across = options.across ?? { label: 'step', show: (value) => Math.round(value) };
  const plot = new uPlot({
    width: widthOf(host), height, scales: { x: { time: false }, ...options.scales },
    axes: [{ ...axis(), ...(across.ticks && { values: across.ticks }) }, { ...axis(), size: 64, ...options.axis }], cursor: { drag: { x: true, y: false } },
    series: [{ label: across.label, value: (p, v) => v == null ? '–' : across.show(v) }, ...series], legend: { live: true },
  }, data, host);
  redraws.push(() => plot.setSize({ width: widthOf(host), height }));
  return plot;
}
// a centred mean: it does not lag behind a falling curve
function smoothed(values) {
  const sums = [0];
  for (const value of values) sums.push(sums.at(-1) + value);
  const half = Math.round(values.length / 40), end = values.length - 1;
  return values.map((_, i) => {
    const first = i - Math.min(half, i), last = i + Math.min(half, i, end - i);
    return (sums[last + 1] - sums[first]) / (last + 1 - first);
  });
}
const shown = (digits) => (plot, value) => value == null ? '–' : value.toFixed(digits);
const short = (plot, values) => values.map((value) => value == null ? '' : value >= 1000 ? value / 1000 + 'k' : String(+value.toPrecision(3)));
const tiny = (plot, values) => values.map((value) => value === 0 ? '0' : value.toExponential(0));
const line = (label, digits, extra) => ({ label, stroke: accent, width: 1, value: shown(digits), points: { show: false }, ...extra });
addEventListener('resize', () => redraws.forEach((redraw) => redraw()));
dark.addEventListener('change', () => location.reload());
`;
