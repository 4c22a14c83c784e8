// The charts of the report; runs in the browser with uPlot and DATA beside it.

export const PAGE_SCRIPT = `
const style = getComputedStyle(document.documentElement);
const color = (name) => style.getPropertyValue(name).trim();
const axis = () => ({ stroke: color('--soft'), grid: { stroke: color('--line'), width: 1 }, ticks: { stroke: color('--line'), width: 1 } });
const charts = [];
function chart(id, height, series, data, options = {}) {
  const host = document.getElementById(id);
  if (!host || data[0].length === 0) return;
  const width = () => Math.max(240, host.clientWidth);
  const plot = new uPlot({
    width: width(), height, scales: { x: { time: false }, ...options.scales },
    axes: [axis(), { ...axis(), size: 64, ...options.axis }], cursor: { drag: { x: true, y: false } },
    series: [{ label: 'step' }, ...series], legend: { live: true },
  }, data, host);
  charts.push([plot, width, height]);
}
function smoothed(values) {
  let mean = 0, weight = 0;
  return values.map((value) => { mean = 0.95 * mean + 0.05 * value; weight = 0.95 * weight + 0.05; return mean / weight; });
}
const shown = (digits) => (plot, value) => value == null ? '–' : value.toFixed(digits);
const short = (plot, values) => values.map((value) => value == null ? '' : value >= 1000 ? value / 1000 + 'k' : String(+value.toPrecision(3)));
const tiny = (plot, values) => values.map((value) => value === 0 ? '0' : value.toExponential(0));
const accent = color('--accent');

const atSteps = new Map(DATA.evaluations);
const all = [...new Set([...DATA.step, ...atSteps.keys()])].sort((a, b) => a - b);
const place = new Map(DATA.step.map((step, i) => [step, i]));
const smooth = smoothed(DATA.loss);
const pick = (values) => all.map((step) => place.has(step) ? values[place.get(step)] : null);
chart('loss', 320, [
  { label: 'training', stroke: accent + '55', width: 1, value: shown(3), spanGaps: true, points: { show: false } },
  { label: 'smoothed', stroke: accent, width: 2, value: shown(3), spanGaps: true, points: { show: false } },
  { label: 'validation', stroke: '#d1495b', width: 1.5, value: shown(4), spanGaps: true, points: { show: true, size: 7, fill: '#d1495b' } },
], [all, pick(DATA.loss), pick(smooth), all.map((step) => atSteps.get(step) ?? null)]);
chart('rate', 200, [{ label: 'rate', stroke: accent, width: 2, value: (p, v) => v == null ? '–' : v.toExponential(2), points: { show: false } }],
  [DATA.step, DATA.rate], { axis: { values: tiny } });
chart('norm', 200, [{ label: 'norm', stroke: accent, width: 1, value: shown(3), points: { show: false } }], [DATA.step, DATA.norm]);
chart('speed', 180, [{ label: 'tokens/s', stroke: accent, width: 1, value: shown(0), points: { show: false } }],
  [DATA.step, DATA.milliseconds.map((ms) => 1000 * DATA.tokensPerStep / ms)], { axis: { values: short }, scales: { y: { range: (p, low, high) => [0, high * 1.1] } } });
DATA.experts.forEach((experts, layer) => {
  const hue = (i) => 'hsl(' + Math.round(360 * i / experts.length + 200) % 360 + ' 65% 50%)';
  const even = 1 / experts.length;
  chart('experts-' + layer, 220, [
    ...experts.map((_, i) => ({ label: String(i), stroke: hue(i), width: 1.5, value: shown(3), points: { show: false } })),
    { label: 'even', stroke: color('--soft'), dash: [6, 4], width: 1, value: shown(3), points: { show: false } },
  ], [DATA.step, ...experts.map(smoothed), DATA.step.map(() => even)], { scales: { y: { range: (p, low, high) => [0, Math.max(2 * even, high * 1.05)] } } });
});
addEventListener('resize', () => charts.forEach(([plot, width, height]) => plot.setSize({ width: width(), height })));
`;
