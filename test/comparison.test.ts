// The page that compares runs: its tables, its curves, and the command that writes it.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type ComparedRun, renderComparison } from '../cli/report/render-comparison.ts';
import { writeComparison, writeReport } from '../cli/report/write-report.ts';
import type { RunRecord } from '../core/training/events.ts';
import type { RunSettings } from '../core/training/settings.ts';
import { draw } from './support/pages.ts';
import { smallSettings } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-comparison-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Steps 1 to `count` with the loss `scale`/step, half a second each, a validation at the last. */
function* records(count: number, scale: number, validation: number, layers = 3): Generator<RunRecord> {
  for (let step = 1; step <= count; step++) {
    yield {
      ...{ kind: 'step', step, loss: scale / step, auxLoss: null, zLoss: null, gradientNorm: 1, learningRate: 0.01 },
      ...{ epoch: 0, tokens: 32 * step, skipped: false, spike: false, mfu: null, lossScale: null, biasSpread: [] },
      expertLoad: Array.from({ length: layers }, () => [0.75, 0.25, 0, 0]),
      routerEntropy: Array.from({ length: layers }, () => 0.5),
      droppedRows: Array.from({ length: layers }, () => 0),
      deadExperts: Array.from({ length: layers }, () => 2),
      milliseconds: 500,
    } as RunRecord;
  }
  const perplexity = Math.exp(validation);
  yield { kind: 'evaluation', step: count, loss: validation, perplexity, bitsPerByte: null, windows: 3, best: true };
}

const compared = (
  name: string,
  scale: number,
  validation: number,
  changes: Partial<RunSettings> = {},
): ComparedRun => ({
  name,
  settings: smallSettings(scratch, changes),
  records: records(changes.steps ?? 8, scale, validation),
});

/** Cells of a row of the page's tables, without tags. */
function row(page: string, title: string): string[] | undefined {
  const found = new RegExp(`<tr><th>${title}</th>(.*?)</tr>`).exec(page)?.[1];
  return found === undefined ? undefined : [...found.matchAll(/<td>(.*?)<\/td>/g)].map(([, cell]) => cell);
}

describe('the comparison of runs', () => {
  const page = renderComparison([
    compared('first </script>', 4, 1.5, { seed: 1 }),
    compared('second', 3, 1.25, { seed: 2, steps: 10, optimizer: 'lion' }),
  ]);

  test('needs no network and holds names as text', () => {
    expect(page).not.toMatch(/<link|\bsrc=|@import|url\(|\bfetch\(|XMLHttpRequest/);
    expect(page.match(/<script>/g)?.length).toBe(2);
    expect(page.match(/<\/script>/g)?.length).toBe(2);
    expect(page).toContain('first &lt;/script&gt;');
  });

  test('lists the last figures, the best of them marked', () => {
    expect(row(page, 'validation loss')).toEqual(['1.5000', '<b>1.2500</b>']);
    expect(row(page, 'best, at step')).toEqual(['1.5000, 8', '<b>1.2500</b>, 10']);
    expect(row(page, 'steps')).toEqual(['8', '10']);
    expect(row(page, 'time of training')).toEqual(['4s', '5s']);
    expect(row(page, 'tokens/s')).toEqual(['64', '64']);
    expect(row(page, 'bits per byte')).toBeUndefined();
  });

  test('lists the settings that differ, and no others', () => {
    expect(row(page, 'seed')).toEqual(['1', '2']);
    expect(row(page, 'optimizer')).toEqual(['adamw', 'lion']);
    expect(row(page, 'learningRate')).toBeUndefined();
    expect(row(page, 'hiddenSize')).toBeUndefined();
    const same = renderComparison([compared('a', 4, 1), compared('b', 4, 1)]);
    expect(same).toContain('In nothing');
    expect(row(same, 'validation loss')).toEqual(['1.0000', '1.0000']);
  });

  test('draws every curve of every run by step, by token and by time', () => {
    const drawn = draw(page);
    const names = ['validation', 'training', 'norm', 'rate', 'speed', 'experts-0', 'experts-1', 'experts-2'];
    expect([...drawn.charts.keys()]).toEqual(names);
    expect(drawn.labels.get('training')).toEqual(['step', 'first </script>', 'second']);
    expect(drawn.charts.get('validation')).toEqual([
      [8, 10],
      [1.5, null],
      [null, 1.25],
    ]);
    const speed = drawn.charts.get('speed')!;
    expect(speed[0]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(speed[1].slice(0, 8)).toEqual(Array.from({ length: 8 }, () => 64));
    expect(speed[1].slice(8)).toEqual([null, null]);
    // the busiest of four experts has three quarters
    expect(drawn.charts.get('experts-1')![2]).toEqual(Array.from({ length: 10 }, () => 3));
    drawn.choose('tokens');
    expect(drawn.charts.get('validation')![0]).toEqual([256, 320]);
    expect(drawn.labels.get('training')![0]).toBe('tokens');
    drawn.choose('seconds');
    expect(drawn.charts.get('validation')![0]).toEqual([4, 5]);
    expect(drawn.charts.get('training')![0].at(-1)).toBe(5);
  });

  test('a run that has not begun, and dense ones, are compared too', () => {
    const empty = renderComparison([{ ...compared('a', 4, 1), records: [] }, compared('b', 4, 1)]);
    expect(draw(empty).labels.get('training')).toEqual(['step', 'b']);
    const dense = [1, 2].map((i) => ({ ...compared(String(i), 4, 1), records: records(8, 1, 1, 0) }));
    expect(renderComparison(dense)).not.toContain('Expert load');
  });
});

describe('reports of run folders', () => {
  const folders = ['a/run', 'b/run'].map((name) => join(scratch, name));
  for (const [i, folder] of folders.entries()) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'run.json'), JSON.stringify(smallSettings(scratch, { seed: i })));
    const lines = [...records(8, 4, 1.5)].map((record) => `${JSON.stringify(record)}\n`);
    writeFileSync(join(folder, 'metrics.jsonl'), lines.join(''));
  }

  test('are written where they are wanted, runs of one name told apart by their folders', () => {
    const path = writeComparison(folders, join(scratch, 'new', 'page.html'));
    expect(path).toBe(join(scratch, 'new', 'page.html'));
    expect(readFileSync(path, 'utf8')).toContain(`<title>2 runs: ${join('a', 'run')}, ${join('b', 'run')}</title>`);
    expect(writeComparison(folders)).toBe(join(scratch, 'a', 'comparison.html'));
    writeReport(folders[0], join(scratch, 'one.html'));
    expect(existsSync(join(scratch, 'one.html'))).toBe(true);
    expect(existsSync(join(folders[0], 'report.html'))).toBe(false);
  });

  test('of a folder that is no run are refused', () => {
    expect(() => writeComparison([folders[0], scratch])).toThrow(/not a run folder/);
  });
});
