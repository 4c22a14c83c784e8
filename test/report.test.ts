// The HTML report: what stands in the page, that its script runs, and that long runs stay small.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { metricsOf } from '../cli/report/read-metrics.ts';
import { renderReport } from '../cli/report/render-report.ts';
import { Thinned } from '../cli/report/thinned.ts';
import { routingParts } from '../cli/train-view.ts';
import { PRESETS } from '../core/model/presets.ts';
import type { EvaluationRecord, RunRecord, SampleRecord, StepRecord } from '../core/training/events.ts';
import { type RunSettings, RunSettingsSchema } from '../core/training/settings.ts';
import { draw } from './support/pages.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-report-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const settings = (experts: number): RunSettings =>
  RunSettingsSchema.parse({
    model: { ...PRESETS['tiny'].config, numExperts: experts, topK: Math.min(2, experts) },
    initFrom: null,
    data: ['/texts/a <b>.txt'],
    tokenizer: 'byte',
    bpeVocabSize: 1,
    validationFraction: 0.1,
    dataOrder: 'shuffle',
    batchSize: 2,
    sequenceLength: 5,
    steps: 100,
    optimizer: 'adamw',
    schedule: 'constant',
    learningRate: 0.01,
    clipNorm: 1,
    seed: 1,
    evalInterval: null,
    evalWindows: 0,
    sampleInterval: null,
    saveInterval: null,
    keepLast: 1,
    plugins: [],
    backend: 'reference',
  });

const step = (number: number, experts: number): StepRecord => ({
  kind: 'step',
  step: number,
  loss: 4 / number,
  auxLoss: null,
  zLoss: null,
  gradientNorm: 1,
  learningRate: 0.01,
  epoch: 0,
  tokens: 10 * number,
  expertLoad: experts > 1 ? [0, 1].map(() => Array.from({ length: experts }, () => 1 / experts)) : [],
  routerEntropy: experts > 1 ? [1, 1] : [],
  droppedRows: experts > 1 ? [0, 0] : [],
  deadExperts: experts > 1 ? [0, 0] : [],
  biasSpread: [],
  skipped: false,
  spike: false,
  mfu: null,
  lossScale: null,
  milliseconds: 5,
});
const steps = (count: number, experts: number) => Array.from({ length: count }, (_, i) => step(i + 1, experts));
const evaluation = (at: number, loss: number, best: boolean): EvaluationRecord => ({
  ...{ kind: 'evaluation', step: at, loss, perplexity: Math.exp(loss), bitsPerByte: null, windows: 3, best },
});
const sample = (text: string): SampleRecord => ({ kind: 'sample', prompt: null, step: 100, text });

interface PageData {
  readonly curves: Record<string, number[]>;
  readonly load: { readonly step: number[]; readonly layers: number[][][] };
  readonly evaluations: [number, number][];
}

function dataOf(page: string): PageData {
  return JSON.parse(/const DATA = (.*);\n/.exec(page)?.[1] ?? '') as PageData;
}

describe('the live line', () => {
  test('shows the largest load of a layer, and what goes wrong', () => {
    expect(routingParts(step(1, 4))).toEqual(['load 1.0x']);
    const uneven = [
      [0.25, 0.25, 0.25, 0.25],
      [0.5, 0.5, 0, 0],
    ];
    const troubled = { ...step(1, 4), expertLoad: uneven, deadExperts: [0, 2], droppedRows: [0, 0.25] };
    expect(routingParts(troubled)).toEqual(['load 2.0x', '2 dead', '12.5% dropped']);
  });

  test('says nothing of routing for a dense model', () => {
    expect(routingParts(step(1, 1))).toEqual([]);
  });
});

describe('the page', () => {
  const records: RunRecord[] = [
    ...steps(100, 4),
    evaluation(50, 1.25, true),
    evaluation(100, 1.5, false),
    sample('</script><script>alert("&")</script>'),
  ];
  const page = renderReport('my <run>', settings(4), records);

  test('needs no network', () => {
    expect(page).not.toMatch(/<link|\bsrc=|@import|url\(|\bfetch\(|XMLHttpRequest/);
    expect(page).toContain('uPlot');
  });

  test('holds text of the run as text', () => {
    expect(page.match(/<script>/g)?.length).toBe(2);
    expect(page).toContain('&lt;/script&gt;&lt;script&gt;alert(&quot;&amp;&quot;)');
    expect(page).toContain('<h1>my &lt;run&gt;</h1>');
    expect(page).toContain('a &lt;b&gt;.txt');
  });

  test('shows the figures of the last validation, and the best one where that is another', () => {
    expect(page).toMatch(/validation loss<\/dt><dd>1\.5000/);
    expect(page).toMatch(/best, step 50<\/dt><dd>1\.2500/);
    expect(page).toMatch(/tokens\/s<\/dt><dd>2,000/);
    expect(page).toMatch(/bits per byte<\/dt><dd>–/);
    expect(page).not.toMatch(/MFU|steps skipped|waited for data/);
    const used = steps(4, 4).map((record, i) => ({ ...record, mfu: 0.5, skipped: i === 2, spike: i === 2 }));
    // the mean goes by time: four fifths of it at a half, a fifth of nothing
    const slow = { ...step(5, 4), mfu: 0, dataMilliseconds: 4 };
    const measured = renderReport('r', settings(4), [...used, slow]);
    expect(measured).toMatch(/MFU<\/dt><dd>40 %/);
    expect(measured).toMatch(/steps skipped<\/dt><dd>1</);
    const milliseconds = [...used, slow].reduce((sum, record) => sum + record.milliseconds, 0);
    expect(measured).toContain(`waited for data</dt><dd>${(400 / milliseconds).toFixed(1)} %`);
  });

  test('says how the routers of each layer did at the end, where that was recorded', () => {
    expect(page.match(/router entropy 1\.00 of at most 1\.39 nats, 0 of 4 experts unused<\/p>/g)?.length).toBe(2);
    const troubled = { ...step(1, 4), droppedRows: [0.125, 0], deadExperts: [2, 0], biasSpread: [0.5, 0.25] };
    expect(renderReport('r', settings(4), [troubled])).toContain(
      '2 of 4 experts unused, 12.5 % dropped, biases 0.500 apart',
    );
    const { routerEntropy, ...older } = step(1, 4);
    expect(routerEntropy.length).toBe(2);
    expect(renderReport('r', settings(4), [older as StepRecord])).not.toContain('router entropy');
  });

  test('has every curve', () => {
    const { curves, load, evaluations } = dataOf(page);
    expect(evaluations).toEqual([
      [50, 1.25],
      [100, 1.5],
    ]);
    expect(curves.loss[1]).toBe(2);
    expect(load.layers.map((layer) => layer.length)).toEqual([4, 4]);
    expect(load.layers[1][3]).toEqual(Array.from({ length: 100 }, () => 0.25));
  });

  test('draws them: the loss with its validations, a chart of every layer', () => {
    const { charts, rectangles } = draw(page);
    expect([...charts.keys()]).toEqual(['loss', 'rate', 'norm', 'speed', 'experts-0', 'experts-1']);
    const [at, raw, , validation] = charts.get('loss') ?? [];
    expect(at.length).toBe(100);
    expect(raw[3]).toBe(1);
    expect(validation.filter((value) => value !== null)).toEqual([1.25, 1.5]);
    expect(charts.get('experts-0')?.length).toBe(1 + 4 + 1);
    expect(rectangles).toBe(0);
  });

  test('smooths without lag: a straight line stays where it is', () => {
    const line = steps(100, 1).map((record) => ({ ...record, loss: record.step }));
    const smooth = draw(renderReport('r', settings(1), line)).charts.get('loss')?.[2] ?? [];
    for (const [i, value] of smooth.slice(0, 97).entries()) expect(value).toBeCloseTo(i + 1, 9);
  });

  test('shows many experts as a heat map', () => {
    const many = renderReport('r', settings(16), steps(20, 16));
    expect(many).toContain('A row is an expert.');
    const { charts, rectangles } = draw(many);
    expect([...charts.keys()]).toEqual(['loss', 'rate', 'norm', 'speed']);
    expect(rectangles).toBe(2 * 16 * 20);
  });

  test('of a dense model has no experts', () => {
    const dense = renderReport('r', settings(1), steps(20, 1));
    expect(dense).not.toContain('Expert load');
    expect(draw(dense).charts.size).toBe(4);
  });

  test('of a run that has not begun is a page all the same', () => {
    const empty = renderReport('r', settings(4), []);
    expect(empty).toContain('<title>r: in progress</title>');
    expect(draw(empty).charts.size).toBe(0);
  });

  test('of a long run with many experts stays a few megabytes', () => {
    function* long(): Generator<RunRecord> {
      for (let i = 1; i <= 2400; i++) yield step(i, 256);
    }
    const { curves, load } = dataOf(renderReport('r', settings(256), long()));
    expect(curves.step.length).toBe(1200);
    expect(load.step.length * 2 * 256).toBeLessThanOrEqual(300_000);
    expect(curves.step.at(-1)).toBe(2399.5);
  });
});

describe('thinning', () => {
  test('keeps short curves as they are', () => {
    const thinned = new Thinned(4);
    for (let i = 0; i < 8; i++) thinned.add([i, 10 * i]);
    expect(thinned.column(1, 6)).toEqual([0, 10, 20, 30, 40, 50, 60, 70]);
  });

  test('joins neighbours, none lost, none counted twice', () => {
    const thinned = new Thinned(4);
    for (let i = 0; i < 37; i++) thinned.add([i]);
    // stretches of 8 rows: 0…7, 8…15, …, and the rest 32…36
    expect(thinned.column(0, 6)).toEqual([3.5, 11.5, 19.5, 27.5, 34]);
  });
});

describe('the metrics of a run', () => {
  const write = (content: string) => {
    const folder = mkdtempSync(join(scratch, 'run-'));
    writeFileSync(join(folder, 'metrics.jsonl'), content);
    return folder;
  };

  test('are read across chunks, the half line at the end left out', () => {
    const texts = ['é'.repeat(700_000), '日本'.repeat(300_000), 'end'];
    const lines = texts.map((text) => `${JSON.stringify(sample(text))}\n`).join('');
    const records = [...metricsOf(write(`${lines}{"kind":"st`))] as SampleRecord[];
    expect(records.map(({ text }) => text)).toEqual(texts);
  });

  test('that are broken are refused with file and line', () => {
    const folder = write('{"kind":"checkpoint"}\nnonsense\n');
    expect(() => [...metricsOf(folder)]).toThrow(/metrics\.jsonl: line 2 is not JSON/);
  });

  test('that are missing are refused', () => {
    expect(() => [...metricsOf(scratch)]).toThrow(/metrics\.jsonl does not exist/);
  });
});
