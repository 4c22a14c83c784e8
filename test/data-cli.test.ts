// Data on the command line: what `prepare` makes, what `evaluate` measures on, what `train` refuses.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { commandLine, SMALL_RUN } from './support/cli.ts';
import { readJson } from './support/golden.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-data-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const { gemmoe, spawned, json } = commandLine(scratch);

const text = join(scratch, 'text.txt');
writeFileSync(text, 'It was the best of times, it was the worst of times.\n'.repeat(80));

/** A run on what `data` names. */
const train = (data: string, ...more: string[]) => ['train', '--data', data, ...SMALL_RUN, ...more];

describe('prepare', () => {
  test('makes shards that train', async () => {
    const folder = join(scratch, 'prepared');
    const made = await gemmoe(['prepare', text, '--out', folder, '--tokenizer', 'bpe', '--vocab-size', '280']);
    expect(made.code, made.err).toBe(0);
    expect(readdirSync(folder).sort()).toEqual([
      'prepare.json',
      'tokenizer.json',
      'train_000001.bin',
      'val_000001.bin',
    ]);
    const run = join(scratch, 'prepared-run');
    const trained = await gemmoe(train(folder, '--steps', '3', '--out', run));
    expect(trained.code, trained.err).toBe(0);
  });

  test('reads standard input, text and JSONL', async () => {
    const fromText = join(scratch, 'from-stdin');
    expect(
      spawned(['prepare', '-', '--out', fromText, '--tokenizer', 'byte'], { input: 'a line\n'.repeat(50) }).code,
    ).toBe(0);
    expect(existsSync(join(fromText, 'prepare.json'))).toBe(true);
  });

  test.each([
    ['', /is empty/],
    [Buffer.from([0x61, 0xff, 0x62]), /not UTF-8/],
  ])('%j is refused and nothing is left', async (content, message) => {
    const file = join(scratch, 'bad.txt');
    writeFileSync(file, content);
    const folder = join(scratch, 'never');
    const { code, err } = await gemmoe(['prepare', file, '--out', folder, '--tokenizer', 'byte']);
    expect(code).toBe(1);
    expect(err).toMatch(message);
    expect(existsSync(folder)).toBe(false);
  });

  test('malformed JSONL is refused with its line', async () => {
    const file = join(scratch, 'bad.jsonl');
    writeFileSync(file, '{"text":"one"}\n{"text":\n');
    expect((await gemmoe(['prepare', file, '--out', join(scratch, 'x')])).err).toMatch(/bad\.jsonl: line 2/);
  });
});

describe('evaluate', () => {
  test('a model is measured alike on text, its shard, and the held-out split of a prepared folder', async () => {
    const folder = join(scratch, 'measured');
    expect((await gemmoe(['prepare', text, '--out', folder, '--tokenizer', 'byte'])).code).toBe(0);
    const run = join(scratch, 'measured-run');
    const made = await gemmoe(train(folder, '--steps', '3', '--out', run));
    expect(made.code, made.err).toBe(0);
    const held = join(scratch, 'held.txt');
    const { validation } = readJson<{ validation: { textBytes: number } }>(folder, 'prepare.json');
    writeFileSync(held, readFileSync(text).subarray(-validation.textBytes));
    const measure = (...data: string[]) =>
      json<{ loss: number; bitsPerByte: number | null; tokens: number; backend: { name: string } }>([
        ...['evaluate', '--model', run, '--backend', 'reference', ...data.flatMap((path) => ['--data', path])],
      ]);
    const shard = join(folder, 'val_000001.bin');
    const expected = await measure(held);
    expect(expected.tokens).toBeGreaterThan(300);
    expect(expected.backend).toMatchObject({ name: 'reference', threads: 1 });
    expect(await measure(folder)).toEqual(expected);
    expect(await measure(shard)).toEqual({ ...expected, bitsPerByte: null });
    expect(await measure(held, shard)).toMatchObject({ error: { message: expect.stringMatching(/different kinds/) } });
  });

  test.each(['packed', 'masked', 'padded'])(
    'evaluate measures %s documents as the run validated them',
    async (mode) => {
      const rows = join(scratch, 'rows.jsonl');
      const row = (_: unknown, i: number) =>
        `${JSON.stringify({ text: `${'a line of words '.slice(i % 9)}${i * i}` })}\n`;
      writeFileSync(rows, Array.from({ length: 200 }, row).join(''));
      const folder = join(scratch, `rows-${mode}`);
      expect((await gemmoe(['prepare', rows, '--out', folder, '--tokenizer', 'byte'])).code).toBe(0);
      const run = join(scratch, `rows-${mode}-run`);
      const options = ['--documents', mode, '--steps', '3', '--out', run];
      const { validation } = await json<{ validation: { loss: number } }>(train(folder, ...options));
      const evaluate = async (documents: string) => {
        const options = ['--backend', 'reference', '--sequence-length', '16', '--documents', documents];
        return (await json<{ loss: number }>(['evaluate', '--model', run, '--data', folder, ...options])).loss;
      };
      expect(await evaluate(mode)).toBeCloseTo(validation.loss, 10);
      const other = await evaluate(mode === 'masked' ? 'packed' : 'masked');
      expect(Math.abs(other - validation.loss)).toBeGreaterThan(1e-6);
    },
  );
});

describe('data that cannot be trained on', () => {
  test.each<[string, string | Buffer, RegExp]>([
    ['an empty file', '', /empty|no text/],
    ['one that is shorter than a batch', 'short', /training text has \d+ tokens, a batch of 2 x 16 needs 33/],
    ['one that is not UTF-8', Buffer.from([0x80, 0x41]), /not UTF-8/],
  ])('%s', async (_, content, message) => {
    const file = join(scratch, 'train.txt');
    writeFileSync(file, content);
    const folder = join(scratch, 'refused');
    const { code, err } = await gemmoe(train(file, '--steps', '2', '--out', folder));
    expect(code).toBe(1);
    expect(err).toMatch(message);
    expect(existsSync(folder)).toBe(false);
  });

  test('a file that is not there', async () => {
    expect((await gemmoe(['train', '--data', 'none.txt', '--steps', '2'])).err).toMatch(/none\.txt/);
  });
});
