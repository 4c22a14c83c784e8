// A run that goes on with something else: what differs is named, and with --force it goes on where its checkpoints fit.

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readMetrics } from '../core/training/metrics-log.ts';
import { readRunSettings } from '../core/training/run-folder.ts';
import { commandLine } from './support/cli.ts';

vi.setConfig({ testTimeout: 60_000 });
const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-resume-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const { gemmoe } = commandLine(scratch);
const path = (name: string) => join(scratch, name);
const TEXT = 'the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n'.repeat(60);
const TRAIN = [
  'train',
  '--preset',
  'tiny',
  '--backend',
  'reference',
  '--sequence-length',
  '16',
  '--sample-interval',
  '0',
];

beforeAll(async () => {
  writeFileSync(path('text.txt'), TEXT);
  writeFileSync(path('other.txt'), TEXT.replaceAll('quick', 'crazy'));
  writeFileSync(path('greek.txt'), `${TEXT}λόγος\n`);
  const args = [...TRAIN, '--data', 'text.txt', '--steps', '6', '--eval-interval', '2', '--out', 'made'];
  const { code, err } = await gemmoe(args);
  expect(code, err).toBe(0);
});

/** A copy of the run, and what resuming it with more steps and some flags gives. */
async function resumed(name: string, ...flags: string[]) {
  cpSync(path('made'), path(name), { recursive: true });
  const before = readFileSync(path(`${name}/run.json`), 'utf8');
  const outcome = await gemmoe(['train', '--resume', name, '--steps', '9', ...flags]);
  const isUntouched = readFileSync(path(`${name}/run.json`), 'utf8') === before;
  return { ...outcome, isUntouched };
}

const lossAt = (run: string, at: number) =>
  readMetrics(path(run)).flatMap((record) => (record.kind === 'step' && record.step === at ? [record.loss] : []))[0];

describe('settings that checkpoints fit', () => {
  test('are refused by name, with the way to go on with them', async () => {
    const { code, err, isUntouched } = await resumed('rate', '--learning-rate', '0.5');
    expect(code).toBe(2);
    expect(err).toMatch(/--learning-rate is 0\.5, but the run .* was made with 0\.\d+/);
    expect(err).toMatch(/--force/);
    expect(isUntouched).toBe(true);
  });

  test('are taken with --force, and stay the run’s', async () => {
    const { code, err } = await resumed('forced-rate', '--learning-rate', '0.5', '--eval-interval', '3', '--force');
    expect(code, err).toBe(0);
    expect(readRunSettings(path('forced-rate'))).toMatchObject({ learningRate: 0.5, evalInterval: 3, steps: 9 });
    await resumed('plain');
    expect(lossAt('forced-rate', 6)).toBe(lossAt('plain', 6));
    expect(lossAt('forced-rate', 9)).not.toBe(lossAt('plain', 9));
  });

  test('options of the same optimizer are among them', async () => {
    const { code, out, err } = await resumed('decay', '--optimizer', 'adamw:weightDecay=0.5', '--force');
    expect(code, err).toBe(0);
    expect(out).toMatch(/note: the optimizer was adamw and goes on as adamw:weightDecay=0\.5/);
  });

  test('--force with nothing to change gives the same bits', async () => {
    const { code, out } = await resumed('forced', '--force');
    await resumed('unforced');
    expect(code).toBe(0);
    expect(out).not.toMatch(/data are others/);
    const weights = (run: string) => readFileSync(path(`${run}/model/model.safetensors`));
    expect(weights('forced').equals(weights('unforced'))).toBe(true);
  });
});

describe('what checkpoints do not fit is refused, with --force as well', () => {
  test.each([
    ['--layers', '3', /--layers is 3/],
    ['--experts', '2', /--experts is 2/],
    ['--init-from', 'made/model', /--init-from is ".*made\/model"/],
    ['--tokenizer', 'byte', /--tokenizer is "byte", but .* "character"/],
    ['--ema', '0.9', /--ema is 0\.9/],
    ['--batch-size', '3', /--batch-size is 3/],
    ['--seed', '8', /--seed is 8/],
  ])('%s', async (flag, value, message) => {
    const { code, err, isUntouched } = await resumed(`refused${flag}`, flag, value, '--force');
    expect(code).toBe(2);
    expect(err).toMatch(message);
    expect(err).toMatch(/--force or not/);
    expect(isUntouched).toBe(true);
  });

  test('another optimizer', async () => {
    const { code, err, isUntouched } = await resumed('lion', '--optimizer', 'lion', '--force');
    expect(code).toBe(1);
    expect(err).toMatch(/was trained with the optimizer adamw, the run says lion/);
    expect(isUntouched).toBe(true);
  });
});

describe('data', () => {
  test('that are others are refused by name, taken with --force, and validation begins anew', async () => {
    expect((await resumed('data', '--data', 'other.txt')).err).toMatch(/--data is \[".*other\.txt"\]/);
    // a loss that no other text can beat
    const state = path('made/checkpoints/step-00000006/training_state.json');
    const stored = readFileSync(state, 'utf8');
    writeFileSync(state, stored.replace(/("best": \{[^}]*?"loss": )[\d.]+/, '$10.001'));
    expect(readFileSync(state, 'utf8')).not.toBe(stored);
    const { code, out, err } = await resumed('forced-data', '--data', 'other.txt', '--force');
    writeFileSync(state, stored);
    expect(code, err).toBe(0);
    expect(out).toMatch(/note: the data are others than before/);
    const run = path('forced-data');
    expect(readRunSettings(run)).toMatchObject({
      data: [path('other.txt')],
      tokenizer: join(run, 'tokenizer.json'),
    });
    const evaluations = readMetrics(run).filter((record) => record.kind === 'evaluation' && record.step > 6);
    expect(evaluations[0]).toMatchObject({ best: true });
    // and goes on from there without being told again
    const again = await gemmoe(['train', '--resume', 'forced-data', '--steps', '10']);
    expect(again.code, again.err).toBe(0);
  });

  test('that have changed where they are are told from another tokenizer', async () => {
    cpSync(path('made'), path('changed'), { recursive: true });
    const outcome = (...flags: string[]) => gemmoe(['train', '--resume', 'changed', '--steps', '7', ...flags]);
    try {
      writeFileSync(path('text.txt'), TEXT.replace('quick', 'quack'));
      const changed = await outcome();
      expect(changed).toMatchObject({ code: 1, err: expect.stringMatching(/the data have changed since .*--force/s) });
      writeFileSync(path('text.txt'), TEXT.replaceAll('q', 'k'));
      expect((await outcome()).err).toMatch(/the tokenizer is not the one that .* was trained with/);
      const forced = await outcome('--force');
      expect(forced.code, forced.err).toBe(0);
      expect(existsSync(path('changed/tokenizer.json'))).toBe(true);
    } finally {
      writeFileSync(path('text.txt'), TEXT);
    }
  });

  test('that the tokenizer cannot write are refused, with --force as well', async () => {
    const { code, err, isUntouched } = await resumed('greek', '--data', 'greek.txt', '--force');
    expect(code).toBe(1);
    expect(err).toMatch(/λ/);
    expect(isUntouched).toBe(true);
  });
});
