// The charts of one run's report; runs in the browser behind chart-script.ts, with DATA beside it.

export const PAGE_SCRIPT = `
const { step, loss, rate, norm, milliseconds } = DATA.curves;
const atSteps = new Map(DATA.evaluations);
const all = [...new Set([...step, ...atSteps.keys()])].sort((a, b) => a - b);
const place = new Map(step.map((value, i) => [value, i]));
const smooth = smoothed(loss);
const pick = (values) => all.map((value) => place.has(value) ? values[place.get(value)] : null);
chart('loss', 320, [
  line('training', 3, { stroke: accent + '55', spanGaps: true }),
  line('smoothed', 3, { width: 2, spanGaps: true }),
  { label: 'validation', stroke: '#d1495b', width: 1.5, value: shown(4), spanGaps: true, points: { show: true, size: 7, fill: '#d1495b' } },
], [all, pick(loss), pick(smooth), all.map((value) => atSteps.get(value) ?? null)]);
chart('rate', 200, [line('rate', 0, { width: 2, value: (p, v) => v == null ? '–' : v.toExponential(2) })], [step, rate], { axis: { values: tiny } });
chart('norm', 200, [line('norm', 3)], [step, norm]);
chart('speed', 180, [line('tokens/s', 0)], [step, milliseconds.map((ms) => 1000 * DATA.tokensPerStep / ms)],
  { axis: { values: short }, scales: { y: { range: (p, low, high) => [0, high * 1.1] } } });

function expertLines(id, experts) {
  const hue = (i) => 'hsl(' + Math.round(360 * i / experts.length + 200) % 360 + ' 65% 50%)';
  const even = 1 / experts.length;
  chart(id, 220, [
    ...experts.map((_, i) => line(String(i), 3, { stroke: hue(i), width: 1.5 })),
    line('even', 3, { stroke: color('--soft'), dash: [6, 4] }),
  ], [DATA.load.step, ...experts.map(smoothed), DATA.load.step.map(() => even)],
  { scales: { y: { range: (p, low, high) => [0, Math.max(2 * even, high * 1.05)] } } });
}
// one row an expert: ground is an even share, full colour a quarter or four times of it
function expertMap(id, experts) {
  const host = document.getElementById(id), canvas = document.createElement('canvas'), note = document.createElement('p');
  const points = DATA.load.step.length, row = Math.max(3, Math.min(12, Math.floor(240 / experts.length)));
  const [low, full] = dark.matches ? [14, 58] : [96, 46];
  host.append(canvas, note);
  const draw = () => {
    const scale = devicePixelRatio || 1, width = widthOf(host), height = row * experts.length;
    Object.assign(canvas, { width: width * scale, height: height * scale });
    canvas.style.cssText = 'display:block;width:' + width + 'px;height:' + height + 'px';
    const context = canvas.getContext('2d');
    context.scale(scale, scale);
    experts.forEach((curve, i) => curve.forEach((share, x) => {
      const t = Math.max(-1, Math.min(1, Math.log2(Math.max(share, 1e-9) * experts.length) / 2)), strength = Math.abs(t);
      context.fillStyle = 'hsl(' + (t < 0 ? 215 : 20) + ' ' + 80 * strength + '% ' + (low + (full - low) * strength) + '%)';
      context.fillRect(x * width / points, i * row, width / points + 1, row);
    }));
  };
  const say = (x, i) => note.textContent = x === undefined ? 'steps ' + Math.round(DATA.load.step[0]) + ' to ' + Math.round(DATA.load.step.at(-1)) + ', expert 0 on top'
    : 'step ' + Math.round(DATA.load.step[x]) + ', expert ' + i + ': ' + (100 * experts[i][x]).toFixed(2) + ' %, even ' + (100 / experts.length).toFixed(2) + ' %';
  canvas.addEventListener('mousemove', ({ offsetX, offsetY }) => say(
    Math.max(0, Math.min(points - 1, Math.floor(offsetX / canvas.clientWidth * points))), Math.max(0, Math.min(experts.length - 1, Math.floor(offsetY / row)))));
  canvas.addEventListener('mouseleave', () => say());
  say();
  draw();
  redraws.push(draw);
}
DATA.load.layers.forEach((experts, layer) => (experts.length > DATA.mostLines ? expertMap : expertLines)('experts-' + layer, experts));
`;
