// The charts of several runs over each other; runs in the browser behind chart-script.ts, with DATA beside it.

export const COMPARISON_SCRIPT = `
const dash = (i) => i < DATA.colors.length ? [] : [6, 3];
const colorOf = (i) => DATA.colors[i % DATA.colors.length];
const brief = (value) => value >= 1e9 ? +(value / 1e9).toPrecision(3) + ' B' : value >= 1e6 ? +(value / 1e6).toPrecision(3) + ' M'
  : value >= 1e4 ? +(value / 1e3).toPrecision(3) + 'k' : String(+value.toPrecision(4));
const clock = (seconds) => seconds >= 3600 ? +(seconds / 3600).toPrecision(3) + ' h' : seconds >= 60 ? +(seconds / 60).toPrecision(3) + ' min' : +seconds.toPrecision(3) + ' s';
const ways = {
  step: { label: 'step', show: (value) => String(Math.round(value)), ticks: (p, values) => values.map(brief) },
  tokens: { label: 'tokens', show: brief, ticks: (p, values) => values.map(brief) },
  seconds: { label: 'time', show: clock, ticks: (p, values) => values.map(clock) },
};

// one table of all the points: a run has nothing where another has a point
const joined = (tables) => uPlot.join(tables.map((columns) => columns.map((column) => column.slice())));
const curveOf = (run, i, extra) => ({
  label: run.name, stroke: colorOf(i), width: 1.5, dash: dash(i), spanGaps: true, points: { show: false }, value: shown(3), ...extra,
});

function overlay(id, height, tables, series, options) {
  document.getElementById(id).replaceChildren();
  const kept = tables.map((table, i) => i).filter((i) => tables[i][0].length > 0);
  if (kept.length === 0) return;
  return chart(id, height, kept.map((i) => series[i]), joined(kept.map((i) => tables[i])), options);
}

function drawLoss(by) {
  const across = ways[by];
  overlay('validation', 320, DATA.runs.map((run) => [run.evaluations[by], run.evaluations.loss]),
    DATA.runs.map((run, i) => curveOf(run, i, { width: 2, value: shown(4), points: { show: true, size: 6, fill: colorOf(i) } })), { across });
  overlay('training', 320, DATA.runs.map((run) => [run.curves[by], smoothed(run.curves.loss)]),
    DATA.runs.map((run, i) => curveOf(run, i)), { across });
  overlay('norm', 220, DATA.runs.map((run) => [run.curves[by], smoothed(run.curves.norm)]),
    DATA.runs.map((run, i) => curveOf(run, i)), { across });
  overlay('rate', 220, DATA.runs.map((run) => [run.curves[by], run.curves.rate]),
    DATA.runs.map((run, i) => curveOf(run, i, { value: (p, v) => v == null ? '–' : v.toExponential(2) })), { across, axis: { values: tiny } });
  overlay('speed', 220, DATA.runs.map((run) => [run.curves[by], smoothed(run.curves.milliseconds.map((ms) => 1000 * run.tokensPerStep / ms))]),
    DATA.runs.map((run, i) => curveOf(run, i, { value: shown(0) })),
    { across, axis: { values: short }, scales: { y: { range: (p, low, high) => [0, high * 1.1] } } });
}

function drawExperts() {
  for (let layer = 0; layer < DATA.layers; layer++) {
    overlay('experts-' + layer, 220, DATA.runs.map((run) => run.load.imbalance[layer] ? [run.load.step, smoothed(run.load.imbalance[layer])] : [[], []]),
      DATA.runs.map((run, i) => curveOf(run, i, { value: shown(2) })), { across: ways.step, scales: { y: { range: (p, low, high) => [0.9, Math.max(2, high * 1.05)] } } });
  }
}

for (const input of document.querySelectorAll('input[name=by]')) input.addEventListener('change', () => {
  redraws.length = 0;
  drawLoss(input.value);
  drawExperts();
});
drawLoss('step');
drawExperts();
`;
