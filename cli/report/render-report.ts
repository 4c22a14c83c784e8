// One self-contained HTML page of a run: figures, curves, expert load, samples. uPlot and the data stand inside it.

import { basename } from 'node:path';
import { expertLayers } from '../../core/model/layer-kinds.ts';
import { activeParameters, totalParameters } from '../../core/model/parameter-counts.ts';
import type { RunRecord, SampleRecord, StepRecord } from '../../core/training/events.ts';
import { type RunSettings, sequencesPerStep } from '../../core/training/settings.ts';
import { grouped, percent, scaled } from '../format.ts';
import { collect, type Collected } from './collect.ts';
import { PAGE_SCRIPT } from './page-script.ts';
import { escaped, htmlPage } from './html-page.ts';

/** Experts of a layer that are drawn as lines; more are a heat map. */
const MOST_LINES = 12;

/** The page. @param name what the run is called, its folder's name */
export function renderReport(name: string, settings: RunSettings, records: Iterable<RunRecord>): string {
  const run = collect(records);
  const { curves, load, evaluations, samples } = run;
  const data = {
    curves,
    load: { step: load.step, layers: load.layers },
    evaluations: evaluations.map(({ step, loss }) => [step, loss]),
    tokensPerStep: sequencesPerStep(settings) * settings.sequenceLength,
    mostLines: MOST_LINES,
  };
  return htmlPage({
    title: `${name}: ${evaluations.at(-1)?.loss.toFixed(3) ?? 'in progress'}`,
    header: `<h1>${escaped(name)}</h1><p>${escaped(recipe(settings))}</p>${figures(run)}`,
    main: `<section><h2>Loss</h2><p>Nats per token. Thin: training. Thick: the same, smoothed. Dots: validation. Drag to zoom in, double-click to zoom out.</p><div id="loss"></div></section>
<section class="pair"><div><h2>Learning rate</h2><div id="rate"></div></div><div><h2>Gradient norm before clipping</h2><div id="norm"></div></div></section>
${load.layers.length > 0 ? expertSection(load.layers, run.last, expertLayers(settings.model)) : ''}
<section><h2>Speed</h2><p>Tokens per second of training.</p><div id="speed"></div></section>
${samples.length > 0 ? sampleSection(samples) : ''}
<section><h2>Settings</h2>${settingsTable(settings)}</section>`,
    data,
    script: PAGE_SCRIPT,
  });
}

/** The run in one line. */
function recipe(settings: RunSettings): string {
  const { model, data, sequenceLength } = settings;
  const experts = model.numExperts > 1 ? `${model.numExperts} experts, ${model.topK} a token` : 'dense';
  return [
    `${scaled(totalParameters(model))} parameters, ${scaled(activeParameters(model))} active`,
    `${model.numLayers} layers of ${model.hiddenSize}, ${experts}`,
    data.length > 0 ? data.map((path) => basename(path)).join(', ') : 'Moby-Dick',
    `${grouped(settings.steps)} steps of ${sequencesPerStep(settings)} × ${sequenceLength} tokens`,
    `${settings.optimizer}, ${settings.schedule}, peak ${settings.learningRate}`,
    settings.backend,
  ].join(' · ');
}

function figures({ evaluations, last, seconds, dataSeconds, mfu, skipped }: Collected): string {
  const validation = evaluations.at(-1);
  const best = evaluations.findLast((evaluation) => evaluation.best);
  const items = [
    ['validation loss', validation?.loss.toFixed(4) ?? '–'],
    ...(best && best.step !== validation?.step ? [[`best, step ${grouped(best.step)}`, best.loss.toFixed(4)]] : []),
    ['perplexity', validation?.perplexity.toFixed(2) ?? '–'],
    ['bits per byte', validation?.bitsPerByte?.toFixed(3) ?? '–'],
    ['steps', grouped(last?.step ?? 0)],
    ['tokens', grouped(last?.tokens ?? 0)],
    ['tokens/s', last && seconds > 0 ? grouped(last.tokens / seconds) : '–'],
    ...(mfu === null ? [] : [['MFU', `${(100 * mfu).toFixed(0)} %`]]),
    ...(dataSeconds === null ? [] : [['waited for data', percent(dataSeconds, seconds)]]),
    ...(skipped === 0 ? [] : [['steps skipped', grouped(skipped)]]),
  ];
  const cells = items.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`);
  return `<dl class="figures">${cells.join('')}</dl>`;
}

/** `numbers` are those of the layers: a model may have dense ones between. */
function expertSection(
  layers: readonly (readonly number[][])[],
  last: StepRecord | undefined,
  numbers: readonly number[],
): string {
  const charts = layers.map(
    (experts, layer) =>
      `<div><h3>Layer ${numbers[layer]}</h3><p>${routingOf(last, layer, experts.length)}</p><div id="experts-${layer}"></div></div>`,
  );
  const reading =
    layers[0].length > MOST_LINES
      ? 'A row is an expert. Orange: more than an even share, blue: less; full colour at four times and a quarter of it.'
      : 'Dashed: an even share.';
  return `<section><h2>Expert load</h2><p>Share of a layer’s routed tokens that each of its experts got. ${reading}</p>
<div class="grid">${charts.join('')}</div></section>`;
}

/** How a layer's router did in the last step; nothing for runs of versions that did not record it. */
function routingOf(last: StepRecord | undefined, layer: number, numExperts: number): string {
  const entropy = last?.routerEntropy?.[layer];
  if (last === undefined || entropy === undefined) return '';
  const parts = [
    `at the end: router entropy ${entropy.toFixed(2)} of at most ${Math.log(numExperts).toFixed(2)} nats`,
    `${last.deadExperts[layer]} of ${numExperts} experts unused`,
    ...(last.droppedRows[layer] > 0 ? [`${percent(last.droppedRows[layer])} dropped`] : []),
    ...(last.biasSpread.length > 0 ? [`biases ${last.biasSpread[layer].toFixed(3)} apart`] : []),
  ];
  return parts.join(', ');
}

function sampleSection(samples: readonly SampleRecord[]): string {
  const items = samples.map(
    ({ step, prompt, text }, i) =>
      `<details${i === samples.length - 1 ? ' open' : ''}><summary>step ${grouped(step)}</summary><pre>${prompt ? `<b>${escaped(prompt)}</b>` : ''}${escaped(text)}</pre></details>`,
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
  const cells = rows.map(
    ([key, value]) =>
      `<tr><th>${escaped(key)}</th><td>${escaped(typeof value === 'object' ? JSON.stringify(value) : String(value))}</td></tr>`,
  );
  return `<table>${cells.join('')}</table>`;
}
