// One self-contained HTML page of a run: figures, curves, expert load, samples. uPlot and the data stand inside it.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { activeParameters, totalParameters } from '../../core/model/config.ts';
import type { EvaluationRecord, RunRecord, StepRecord } from '../../core/training/events.ts';
import type { RunSettings } from '../../core/training/settings.ts';
import { grouped } from '../format.ts';
import { PAGE_SCRIPT } from './page-script.ts';
import { PAGE_STYLE } from './page-style.ts';

/** Points of a curve: longer runs are thinned by means over equal stretches. */
const MAX_POINTS = 1200;

/** The page. */
export function renderReport(settings: RunSettings, records: readonly RunRecord[]): string {
  const steps = records.filter((record) => record.kind === 'step');
  const evaluations = records.filter((record) => record.kind === 'evaluation');
  const samples = records.filter((record) => record.kind === 'sample');
  const data = {
    ...curves(steps),
    evaluations: evaluations.map(({ step, loss }) => [step, loss]),
    experts: load(steps),
  };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gemmoe run: ${evaluations.at(-1)?.loss.toFixed(3) ?? 'in progress'}</title>
<style>${readUplot('uPlot.min.css')}${PAGE_STYLE}</style>
</head>
<body>
<header><h1>gemmoe run</h1>${figures(steps, evaluations)}</header>
<main>
<section><h2>Loss</h2><p>Nats per token. Thin: every step. Thick: smoothed. Dots: validation.</p><div id="loss"></div></section>
<section class="pair"><div><h2>Learning rate</h2><div id="rate"></div></div><div><h2>Gradient norm</h2><div id="norm"></div></div></section>
${data.experts.length > 0 ? expertSection(data.experts) : ''}
<section><h2>Speed</h2><p>Tokens per second.</p><div id="speed"></div></section>
${samples.length > 0 ? sampleSection(samples) : ''}
<section><h2>Settings</h2>${settingsTable(settings)}</section>
</main>
<script>${readUplot('uPlot.iife.min.js')}</script>
<script>const DATA = ${embedded({ ...data, tokensPerStep: settings.batchSize * settings.sequenceLength })};
${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

function readUplot(file: string): string {
  const folder = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  return readFileSync(join(folder, 'dist', file), 'utf8').replaceAll('</script', '<\\/script');
}

/** JSON that cannot end the script element it stands in. */
function embedded(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

/** Means over stretches of `steps`, at most MAX_POINTS of them. */
function thinned<T>(steps: readonly T[], value: (step: T) => number): number[] {
  const stretch = Math.ceil(steps.length / MAX_POINTS);
  const points: number[] = [];
  for (let first = 0; first < steps.length; first += stretch) {
    const part = steps.slice(first, first + stretch);
    points.push(part.reduce((sum, step) => sum + value(step), 0) / part.length);
  }
  return points.map((point) => Number(point.toPrecision(6)));
}

function curves(steps: readonly StepRecord[]) {
  return {
    step: thinned(steps, (record) => record.step),
    loss: thinned(steps, (record) => record.loss),
    rate: thinned(steps, (record) => record.learningRate),
    norm: thinned(steps, (record) => record.gradientNorm),
    milliseconds: thinned(steps, (record) => record.milliseconds),
  };
}

/** [layer][expert] curve of the share of routed rows. */
function load(steps: readonly StepRecord[]): number[][][] {
  const layers = steps[0]?.expertLoad ?? [];
  return layers.map((experts, layer) =>
    experts.map((_, expert) => thinned(steps, (record) => record.expertLoad[layer][expert])),
  );
}

function figures(steps: readonly StepRecord[], evaluations: readonly EvaluationRecord[]): string {
  const last = evaluations.at(-1);
  const seconds = steps.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000;
  const tokens = steps.at(-1)?.tokens ?? 0;
  const items = [
    ['validation loss', last?.loss.toFixed(4) ?? '–'],
    ['perplexity', last?.perplexity.toFixed(2) ?? '–'],
    ['bits per byte', last?.bitsPerByte?.toFixed(3) ?? '–'],
    ['steps', grouped(steps.at(-1)?.step ?? 0)],
    ['tokens', grouped(tokens)],
    ['tokens/s', seconds > 0 ? grouped(tokens / seconds) : '–'],
  ];
  const cells = items.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`);
  return `<dl class="figures">${cells.join('')}</dl>`;
}

function expertSection(experts: readonly (readonly number[][])[]): string {
  const charts = experts.map((_, layer) => `<div><h3>Layer ${layer}</h3><div id="experts-${layer}"></div></div>`);
  return `<section><h2>Expert load</h2><p>Share of the routed tokens that each expert of a layer got. Dashed: an even load.</p>
<div class="grid">${charts.join('')}</div></section>`;
}

function sampleSection(samples: readonly { readonly step: number; readonly text: string }[]): string {
  const items = samples.map(
    ({ step, text }, i) =>
      `<details${i === samples.length - 1 ? ' open' : ''}><summary>step ${grouped(step)}</summary><pre>${escaped(text)}</pre></details>`,
  );
  return `<section><h2>Samples</h2>${items.reverse().join('')}</section>`;
}

function settingsTable(settings: RunSettings): string {
  const { model, ...rest } = settings;
  const rows = Object.entries({
    parameters: grouped(totalParameters(model)),
    activeParameters: grouped(activeParameters(model)),
    ...model,
    ...rest,
    data: rest.data.length > 0 ? rest.data.join(', ') : 'Moby-Dick',
  });
  const cells = rows.map(([key, value]) => `<tr><th>${escaped(key)}</th><td>${escaped(String(value))}</td></tr>`);
  return `<table>${cells.join('')}</table>`;
}
