// One page of several runs: what they reached, in what they differ, and their curves over each other.

import { activeParameters, totalParameters } from '../../core/model/parameter-counts.ts';
import type { RunRecord } from '../../core/training/events.ts';
import { type RunSettings, sequencesPerStep } from '../../core/training/settings.ts';
import { duration, grouped, percent, scaled } from '../format.ts';
import { collect, type Collected } from './collect.ts';
import { COMPARISON_SCRIPT } from './comparison-script.ts';
import { escaped, htmlPage } from './html-page.ts';

/** Colours that people with any eyes tell apart, on light and dark ground; later runs have them dashed. */
const COLORS = ['#3b8fd4', '#e08a1e', '#1fa37a', '#c75f9b', '#d1495b', '#7a6fd0', '#8d8a1f', '#7f8c8d'];

export interface ComparedRun {
  readonly name: string;
  readonly settings: RunSettings;
  readonly records: Iterable<RunRecord>;
}

/** A run whose records have been read. */
interface ReadRun {
  readonly name: string;
  readonly settings: RunSettings;
  readonly run: Collected;
}

/** The page. */
export function renderComparison(compared: readonly ComparedRun[]): string {
  const runs = compared.map(({ name, settings, records }) => ({ name, settings, run: collect(records) }));
  const layers = Math.max(...runs.map(({ run }) => run.load.imbalance.length));
  return htmlPage({
    title: `${runs.length} runs: ${runs.map(({ name }) => name).join(', ')}`,
    header: `<h1>${runs.length} runs</h1>${wide(figuresTable(runs))}`,
    main: `<section><h2>In what they differ</h2>${wide(differencesTable(runs))}</section>
<section><h2>Validation loss</h2><p>Nats per token. Drag to zoom in, double-click to zoom out; a click on a name hides its curve.</p>
${chooser()}<div id="validation"></div></section>
<section><h2>Training loss</h2><p>Smoothed by a centred mean over a twentieth of the run.</p><div id="training"></div></section>
<section class="pair"><div><h2>Learning rate</h2><div id="rate"></div></div><div><h2>Gradient norm before clipping</h2><div id="norm"></div></div></section>
<section><h2>Speed</h2><p>Tokens per second of training.</p><div id="speed"></div></section>
${layers > 0 ? expertSection(layers) : ''}`,
    data: { runs: runs.map(dataOf), colors: COLORS, layers },
    script: COMPARISON_SCRIPT,
  });
}

function dataOf({ name, settings, run }: ReadRun) {
  const { curves, load, evaluations, evaluatedAt } = run;
  return {
    name,
    curves,
    load: { step: load.step, imbalance: load.imbalance },
    evaluations: {
      step: evaluations.map(({ step }) => step),
      tokens: evaluatedAt.map(({ tokens }) => tokens),
      seconds: evaluatedAt.map(({ seconds }) => Number(seconds.toPrecision(6))),
      loss: evaluations.map(({ loss }) => loss),
    },
    tokensPerStep: sequencesPerStep(settings) * settings.sequenceLength,
  };
}

/** What the curves run along. */
function chooser(): string {
  const ways = [
    ['step', 'by step'],
    ['tokens', 'by token'],
    ['seconds', 'by time of training'],
  ];
  const inputs = ways.map(
    ([value, label], i) =>
      `<label><input type="radio" name="by" value="${value}"${i === 0 ? ' checked' : ''}> ${label}</label>`,
  );
  return `<div class="choice">${inputs.join('')}</div>`;
}

function wide(table: string): string {
  return `<div class="wide">${table}</div>`;
}

function headed(names: readonly string[], rows: readonly (readonly string[])[]): string {
  const swatch = (i: number) => `<i style="background:${COLORS[i % COLORS.length]}"></i>`;
  const head = names.map((name, i) => `<th>${swatch(i)}${escaped(name)}</th>`).join('');
  const body = rows.map(
    ([title, ...cells]) => `<tr><th>${escaped(title)}</th>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`,
  );
  return `<table class="compared"><thead><tr><th></th>${head}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

/** Index of the smallest number; undefined where no two differ. */
function smallest(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  const least = Math.min(...known);
  return known.some((value) => value !== least) ? values.indexOf(least) : undefined;
}

function figuresTable(runs: readonly ReadRun[]): string {
  const lowest = (values: readonly (number | undefined)[], digits: number) => {
    const best = smallest(values);
    return values.map((value, i) => {
      const text = value?.toFixed(digits) ?? '–';
      return i === best ? `<b>${text}</b>` : text;
    });
  };
  const last = runs.map(({ run }) => run.evaluations.at(-1));
  const best = runs.map(({ run }) => run.evaluations.findLast((evaluation) => evaluation.best));
  const bestLosses = lowest(
    best.map((evaluation) => evaluation?.loss),
    4,
  );
  const ofRuns = (text: (one: ReadRun) => string) => runs.map(text);
  const rows = [
    [
      'validation loss',
      ...lowest(
        last.map((evaluation) => evaluation?.loss),
        4,
      ),
    ],
    ['best, at step', ...bestLosses.map((loss, i) => (best[i] ? `${loss}, ${grouped(best[i].step)}` : loss))],
    [
      'perplexity',
      ...lowest(
        last.map((evaluation) => evaluation?.perplexity),
        2,
      ),
    ],
    [
      'bits per byte',
      ...lowest(
        last.map((evaluation) => evaluation?.bitsPerByte ?? undefined),
        3,
      ),
    ],
    ['parameters', ...ofRuns(({ settings }) => scaled(totalParameters(settings.model)))],
    ['active', ...ofRuns(({ settings }) => scaled(activeParameters(settings.model)))],
    ['steps', ...ofRuns(({ run }) => grouped(run.last?.step ?? 0))],
    ['tokens', ...ofRuns(({ run }) => grouped(run.last?.tokens ?? 0))],
    ['time of training', ...ofRuns(({ run }) => duration(run.seconds))],
    ['tokens/s', ...ofRuns(({ run }) => (run.last && run.seconds > 0 ? grouped(run.last.tokens / run.seconds) : '–'))],
    ['MFU', ...ofRuns(({ run }) => (run.mfu === null ? '–' : `${(100 * run.mfu).toFixed(0)} %`))],
    [
      'waited for data',
      ...ofRuns(({ run: { dataSeconds, seconds } }) => (dataSeconds === null ? '–' : percent(dataSeconds, seconds))),
    ],
    ['steps skipped', ...ofRuns(({ run }) => (run.skipped === 0 ? '–' : grouped(run.skipped)))],
    ['router entropy', ...ofRuns(({ run }) => meanOf(run.last?.routerEntropy, 2))],
  ];
  const names = runs.map(({ name }) => name);
  return headed(
    names,
    rows.filter(([, ...cells]) => cells.some((cell) => cell !== '–')),
  );
}

function meanOf(values: readonly number[] | undefined, digits: number): string {
  if (!values || values.length === 0) return '–';
  return (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(digits);
}

/** Settings by name, those of the model among them. */
function flattened({ model, ...rest }: RunSettings): Map<string, string> {
  const shown = (value: unknown) => {
    if (Array.isArray(value)) return value.join(', ');
    return typeof value === 'object' ? JSON.stringify(value) : String(value);
  };
  return new Map(Object.entries({ ...rest, ...model }).map(([key, value]) => [key, shown(value)]));
}

function differencesTable(runs: readonly ReadRun[]): string {
  const settings = runs.map((run) => flattened(run.settings));
  const keys = [...new Set(settings.flatMap((one) => [...one.keys()]))];
  const differing = keys.filter((key) => new Set(settings.map((one) => one.get(key))).size > 1);
  if (differing.length === 0) return '<p>In nothing: all settings are the same.</p>';
  return headed(
    runs.map(({ name }) => name),
    differing.map((key) => [key, ...settings.map((one) => escaped(one.get(key) || '–'))]),
  );
}

function expertSection(layers: number): string {
  const charts = Array.from(
    { length: layers },
    (_, layer) => `<div><h3>Layer ${layer}</h3><div id="experts-${layer}"></div></div>`,
  );
  return `<section><h2>Expert load</h2><p>What the busiest expert of a layer gets, as a multiple of an even share, by step.</p>
<div class="grid">${charts.join('')}</div></section>`;
}
