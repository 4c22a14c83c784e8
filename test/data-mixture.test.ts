// Several sources with weights, compressed JSONL, and that every kind of source goes on exactly after a stop.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { dataFrom } from '../cli/data-sources.ts';
import { BatchSampler } from '../core/data/batches.ts';
import { type CorpusOptions, openCorpus } from '../core/data/corpus.ts';
import { Mixer } from '../core/data/mixer.ts';
import { prepare } from '../core/data/prepare.ts';
import { JoinedSource, MemorySource } from '../core/data/sources.ts';
import { smallSettings, traceOf, trainAndResume } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-mixture-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(scratch, name);
  writeFileSync(path, content);
  return path;
}

const open = (data: string[], changes: Partial<CorpusOptions> = {}) =>
  openCorpus({ data, tokenizer: 'character', bpeVocabSize: 300, validationFraction: 0.1, ...changes });

const lines = (field: string, texts: readonly string[]) =>
  texts.map((text) => `${JSON.stringify({ [field]: text })}\n`).join('');

const sentences = (count: number) =>
  Array.from({ length: count }, (_, i) => `sentence ${i} says ${(i * 7919) % 101} and ${'abcdefg'.slice(i % 7)}.`);

/** Tokens from `first` on, so that an id tells its source. */
const counting = (first: number, length: number) => new MemorySource(Uint32Array.from({ length }, (_, i) => first + i));

describe('a mixture', () => {
  test.each<[number[], number[]]>([
    [
      [2, 1],
      [2 / 3, 1 / 3],
    ],
    [
      [0.7, 0.2, 0.1],
      [0.7, 0.2, 0.1],
    ],
    [
      [5000, 1],
      [5000 / 5001, 1 / 5001],
    ],
    [[1, 1, 1, 1].map((w) => w * 1e-9), [0.25, 0.25, 0.25, 0.25]],
  ])('of weights %j deals rows in these shares, each source’s windows once and in order', (weights, shares) => {
    const mixer = new Mixer(weights, 3);
    const seen = weights.map(() => 0);
    const rows = 20_480;
    for (let row = 0; row < rows; row++) {
      const { source, window } = mixer.at(row);
      expect(window).toBe(seen[source]++);
    }
    for (const [i, share] of shares.entries()) {
      expect(Math.abs(seen[i] - rows * share)).toBeLessThanOrEqual(Math.max(12, rows * share * 0.01));
    }
  });

  test('of 2:1 is exact in every block, and not the same order in each', () => {
    const mixer = new Mixer([2, 1], 3);
    const order = (block: number) => Array.from({ length: 1023 }, (_, row) => mixer.at(block * 1023 + row).source);
    const [first, second] = [order(0), order(1)];
    for (const sources of [first, second]) expect(sources.filter((source) => source === 0)).toHaveLength(682);
    expect(second).not.toEqual(first);
    expect(order(0)).toEqual(first); // and back
    expect(new Mixer([2, 1], 4).at(5)).not.toEqual(undefined);
  });

  test.each<[number[], RegExp]>([
    [[1, 0], /weight of data source 2 is 0/],
    [[-1, 1], /weight of data source 1 is -1/],
    [[1, Number.NaN], /weight of data source 2 is NaN/],
    [[1, 1e-9], /data source 2 has a share/],
  ])('with weights %j is refused by name', (weights, message) => {
    expect(() => new Mixer(weights, 1)).toThrow(message);
  });

  test('a step is a function of seed and number, and rows come from both sources', () => {
    const mixture = [
      { source: counting(0, 500), weight: 3 },
      { source: counting(1000, 90), weight: 1 },
    ];
    const sampler = () => new BatchSampler(mixture, { batchSize: 4, sequenceLength: 8, order: 'shuffle', seed: 1 });
    const [ids, targets, again] = [new Int32Array(32), new Int32Array(32), new Int32Array(32)];
    const used = sampler();
    let small = 0;
    for (let step = 1; step <= 64; step++) {
      used.fill(step, ids, targets);
      for (let b = 0; b < 4; b++) if (ids[b * 8] >= 1000) small++;
      for (let i = 0; i < 32; i++) expect(targets[i]).toBe(ids[i] + 1);
    }
    expect(small).toBeGreaterThan(45);
    expect(small).toBeLessThan(85);
    sampler().fill(64, again, targets);
    expect(again).toEqual(ids);
  });

  test('names the source that is too short', () => {
    const mixture = [
      { source: counting(0, 500), weight: 1 },
      { source: counting(0, 8), weight: 1 },
    ];
    const make = () => new BatchSampler(mixture, { batchSize: 4, sequenceLength: 8, order: 'shuffle', seed: 1 });
    expect(make).toThrow(/data source 2 has 8 tokens, a sequence of 8 needs 9/);
  });

  test('joined sources read across their borders', () => {
    const joined = new JoinedSource([counting(0, 3), counting(10, 2), counting(20, 4)]);
    const out = new Int32Array(7);
    joined.read(1, out, 0, 7);
    expect([...out]).toEqual([1, 2, 10, 11, 20, 21, 22]);
    expect(() => joined.read(3, out, 0, 7)).toThrow(RangeError);
  });
});

describe('a corpus with weights', () => {
  const [a, b] = [file('a.txt', 'abc '.repeat(100)), file('b.jsonl', lines('body', Array(30).fill('xyz xyz')))];

  test('shares one tokenizer, holds out a part of each, and its fingerprint follows the weights', async () => {
    const corpus = await open([a, b], { weights: [2, 1], textField: 'body' });
    expect(corpus.mixture.map(({ weight }) => weight)).toEqual([2, 1]);
    expect(corpus.train.length).toBe(corpus.mixture.reduce((sum, { source }) => sum + source.length, 0));
    expect(corpus.tokenizer.vocabSize).toBe(8); // a b c x y z, space, end of document
    const held = new Int32Array(corpus.validation.length);
    corpus.validation.read(0, held, 0, held.length);
    expect(corpus.tokenizer.decode([...held])).toMatch(/^[abc ]+[xyz ]+$/);
    const other = await open([a, b], { weights: [1, 1], textField: 'body' });
    expect(other.fingerprint).not.toBe(corpus.fingerprint);
    expect((await open([a, b], { weights: [2, 1], textField: 'body' })).fingerprint).toBe(corpus.fingerprint);
  });

  test('takes prepared shards beside text, with the tokenizer of the shards', async () => {
    const folder = join(scratch, 'prepared');
    const options = { tokenizer: 'byte', bpeVocabSize: 300, validationFraction: 0.1 };
    await prepare({ ...options, files: [a], outputDirectory: folder });
    const corpus = await open([folder, b], { weights: [1, 1], textField: 'body' });
    expect(corpus.tokenizer.vocabSize).toBe(257);
    corpus.close();
  });

  test('refuses a line without text by file and number', async () => {
    const bad = file('bad.jsonl', '{"body":"x"}\n{"body":3}\n');
    await expect(open([a, bad], { weights: [1, 1], textField: 'body' })).rejects.toThrow(
      /bad\.jsonl: line 2 has no text in field "body"/,
    );
  });
});

describe('--data', () => {
  test('reads weights behind the last colon, and gives 1 to who has none', () => {
    expect(dataFrom(['a.txt:2', 'b.jsonl'], '/w')).toEqual({ data: ['/w/a.txt', '/w/b.jsonl'], dataWeights: [2, 1] });
    expect(dataFrom(['a.txt', 'b.txt'], '/w').dataWeights).toEqual([]);
    const named = file('ends:2', 'x');
    expect(dataFrom([named, 'b'], scratch).data[0]).toBe(named);
  });

  test.each(['0', '-1', 'nan', '-0.5', 'inf'])('refuses a weight of %s', (weight) => {
    expect(() => dataFrom([`a.txt:${weight}`, 'b.txt'], '/w')).toThrow(
      `--data a.txt:${weight} has a weight of ${weight}`,
    );
  });
});

describe('gzip', () => {
  test('JSONL and text read as they do unpacked', async () => {
    const text = lines('text', sentences(50));
    const [plain, packed] = [file('p.jsonl', text), file('q.jsonl.gz', gzipSync(text))];
    expect((await open([packed])).fingerprint).toBe((await open([plain])).fingerprint);
  });

  test('what is none is refused by name', async () => {
    await expect(open([file('no.jsonl.gz', 'plain')])).rejects.toThrow(/cannot read .*no\.jsonl\.gz.*header/);
  });
});

describe('a run that is stopped and resumed', () => {
  const plain = file('r.txt', sentences(60).join(' '));
  const rows = file('r.jsonl.gz', gzipSync(lines('text', sentences(80))));

  test.each<[string, () => Promise<Parameters<typeof smallSettings>[1]>]>([
    ['compressed JSONL', async () => ({ data: [rows] })],
    ['a mixture', async () => ({ data: [plain, rows], dataWeights: [1, 3] })],
    ['a mixture at random', async () => ({ data: [plain, rows], dataWeights: [1, 3], dataOrder: 'random' })],
    [
      'shards',
      async () => {
        const folder = join(scratch, 'shards');
        const options = { tokenizer: 'character', bpeVocabSize: 300, validationFraction: 0.2, shardTokens: 999 };
        await prepare({ ...options, files: [plain], outputDirectory: folder });
        return { data: [folder] };
      },
    ],
  ])('on %s gives the weights and metrics of one that is not', async (name, changes) => {
    const settings = smallSettings(scratch, await changes());
    const [whole, parts] = [join(scratch, `${name} whole`), join(scratch, `${name} parts`)];
    await trainAndResume(settings, whole);
    await trainAndResume(settings, parts, 5);
    const trace = traceOf(whole);
    expect(trace.metrics.filter(({ kind }) => kind === 'step')).toHaveLength(settings.steps);
    expect(traceOf(parts)).toEqual(trace);
  });
});
