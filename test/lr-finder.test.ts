// The sweep over learning rates: what it suggests on curves that are known, that it finds one on a model, and leaves no trace.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { plot } from '../cli/plot.ts';
import { findLearningRate, type LrPoint, SweepCurve, suggestionOf } from '../core/training/lr-finder.ts';
import { commandLine } from './support/cli.ts';
import { referenceServices, smallSettings } from './support/runs.ts';

vi.setConfig({ testTimeout: 60_000 });
const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-lr-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Points at 10^-4, 10^-3.98, … with a smoothed loss by the logarithm of the rate. */
const pointsOf = (lossAt: (log: number) => number, count = 201): LrPoint[] =>
  Array.from({ length: count }, (_, i) => {
    const log = -4 + i / 50;
    return { learningRate: 10 ** log, loss: lossAt(log), smoothed: lossAt(log) };
  });

describe('a suggestion', () => {
  // falls steepest at 10^-2 and is lowest at 10^-0.5, where it turns
  const valley = (log: number) => 3 - Math.tanh(2 * (log + 2)) + (log > -0.5 ? 5 * (log + 0.5) : 0);

  test('is the rate where the loss falls steepest', () => {
    const { steepest, minimum, learningRate } = suggestionOf(pointsOf(valley));
    expect(Math.log10(steepest)).toBeCloseTo(-2, 1);
    expect(Math.log10(minimum)).toBeCloseTo(-0.5, 1);
    expect(learningRate).toBe(steepest);
  });

  test('stays a tenth below the minimum', () => {
    const cliff = (log: number) => 3 - Math.tanh(20 * (log + 0.6)) + (log > -0.5 ? 5 * (log + 0.5) : 0);
    const { steepest, minimum, learningRate } = suggestionOf(pointsOf(cliff));
    expect(Math.log10(steepest)).toBeCloseTo(-0.6, 1);
    expect(learningRate).toBe(minimum / 10);
  });

  test('passes over the beginning, which is a few batches only', () => {
    const falling = (log: number) => (log < -3.9 ? 100 - 1000 * (log + 4) : valley(log));
    expect(Math.log10(suggestionOf(pointsOf(falling)).steepest)).toBeCloseTo(-2, 1);
  });

  test('there is none where the loss only rises, or nothing was seen', () => {
    expect(() => suggestionOf(pointsOf((log) => log))).toThrow(/never fell in 201 steps/);
    expect(() => suggestionOf(pointsOf(valley, 5))).toThrow(/never fell in 5 steps/);
  });
});

test('losses are smoothed without the pull of the beginning, and an explosion is seen', () => {
  const curve = new SweepCurve();
  for (let i = 0; i < 20; i++) expect(curve.add(i, 2).smoothed).toBeCloseTo(2, 12);
  expect(curve.hasExploded).toBe(false);
  const { smoothed } = curve.add(21, 4);
  // 0.05 of the newest, over the weights 1 - 0.95^21
  expect(smoothed).toBeCloseTo(2 + (2 * 0.05) / (1 - 0.95 ** 21), 12);
  expect(curve.hasExploded).toBe(false);
  curve.add(22, 8.01);
  expect(curve.hasExploded).toBe(true);
});

describe('a sweep', () => {
  const services = referenceServices();

  test('finds a rate that trains, and ends where the loss explodes', async () => {
    const settings = smallSettings(scratch, { optimizer: 'sgd', clipNorm: 0, steps: 120 });
    const rates: number[] = [];
    const sweep = await findLearningRate(settings, services, {
      from: 1e-4,
      to: 1e5,
      onStep: ({ learningRate }) => rates.push(learningRate),
    });
    expect(sweep.exploded).toBe(true);
    expect(rates.length).toBeLessThan(120);
    expect(rates[0]).toBe(1e-4);
    expect(Math.log10(rates[11] / rates[10])).toBeCloseTo(9 / 119, 9);
    expect(sweep.suggestion.learningRate).toBeGreaterThan(1e-3);
    expect(sweep.suggestion.learningRate).toBeLessThan(100);
    expect(sweep.suggestion.learningRate).toBeLessThanOrEqual(sweep.suggestion.minimum / 10);
  });

  test('repeats itself', async () => {
    const settings = smallSettings(scratch, { steps: 30 });
    const once = await findLearningRate(settings, services, { from: 1e-4, to: 1 });
    expect(await findLearningRate(settings, services, { from: 1e-4, to: 1 })).toEqual(once);
    expect(once.points.at(-1)!.learningRate).toBeCloseTo(1, 12);
  });

  test('that cannot find anything is refused', async () => {
    const sweep = (from: number, to: number, steps: number) =>
      findLearningRate(smallSettings(scratch, { steps }), services, { from, to });
    await expect(sweep(1, 0.1, 100)).rejects.toThrow(/from 1 to 0\.1/);
    await expect(sweep(0.1, 1, 20)).rejects.toThrow(/20 steps finds nothing/);
    const signal = AbortSignal.abort();
    const settings = smallSettings(scratch, { steps: 30 });
    await expect(findLearningRate(settings, services, { from: 1e-4, to: 1, signal })).rejects.toThrow(/interrupted/);
  });
});

describe('gemmoe lr-find', () => {
  const folder = join(scratch, 'empty');
  mkdirSync(folder);
  writeFileSync(join(scratch, 'words.txt'), 'the quick brown fox jumps over the lazy dog.\n'.repeat(200));
  const { gemmoe } = commandLine(folder);
  const args = ['lr-find', '--preset', 'tiny', '--data', '../words.txt', '--steps', '60', '--backend', 'reference'];

  test('draws the curve, suggests a rate, and leaves nothing', async () => {
    const { code, out, err } = await gemmoe(args);
    expect(code, err).toBe(0);
    expect(out).toMatch(/try +--learning-rate [\d.e-]+\n/);
    expect(out).toMatch(/[⠁-⣿]{10}/u);
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
    expect(readdirSync(folder)).toEqual([]);
  });

  test('--json has every point', async () => {
    const { out } = await gemmoe([...args, '--json']);
    const result = JSON.parse(out) as { points: LrPoint[]; suggestion: { learningRate: number } };
    expect(result.points.length).toBeGreaterThan(20);
    expect(result.points[0].learningRate).toBe(1e-6);
    expect(result.suggestion.learningRate).toBeGreaterThan(1e-6);
  });
});

describe('a plot', () => {
  const options = { columns: 12, rows: 4, showX: (x: number) => x.toFixed(0), showY: (y: number) => y.toFixed(0) };

  test('draws a falling line from corner to corner', () => {
    const lines = plot([[0, 9], [5, 4.5], [10, 0]], options); // prettier-ignore
    expect(lines.length).toBe(6);
    expect(lines[0]).toMatch(/^9 │[⠁-⣿]/u);
    expect(lines[2]).toMatch(/^5 │⠀/);
    expect(lines[3]).toMatch(/^0 │⠀.*[⠁-⣿]$/u);
    expect(lines[4]).toBe(`  └${'─'.repeat(9)}`);
    expect(lines[5]).toBe('   0  5   10');
  });

  test('draws a level one', () => {
    const lines = plot([[0, 1], [1, 1]], options); // prettier-ignore
    expect(lines.join('\n')).toMatch(/[⠁-⣿]{9}/u);
  });
});
