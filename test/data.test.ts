// Corpora, sources, shards, batches and prepare: what a model is given to read.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BatchSampler, validationWindows } from '../core/data/batches.ts';
import { bigramLoss } from '../core/data/bigram.ts';
import { type CorpusOptions, openCorpus } from '../core/data/corpus.ts';
import { prepare } from '../core/data/prepare.ts';
import { openShard, ShardWriter } from '../core/data/shards.ts';
import type { TokenSource } from '../core/data/source.ts';
import { MemorySource, ShardSource, SourceRange, tokenArray } from '../core/data/sources.ts';
import { missingData, SHARED_DATA } from './support/golden.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-data-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(scratch, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  return path;
}

const open = (data: string[], changes: Partial<CorpusOptions> = {}) =>
  openCorpus({ data, tokenizer: 'character', bpeVocabSize: 300, validationFraction: 0.1, ...changes });

function idsOf(source: TokenSource): number[] {
  const ids = new Int32Array(source.length);
  source.read(0, ids, 0, source.length);
  return [...ids];
}

const counting = (length: number) => new MemorySource(Uint32Array.from({ length }, (_, i) => i));

describe('a corpus of text', () => {
  test('holds out the last part of the characters', async () => {
    const corpus = await open([file('abc.txt', 'abcdefghij'.repeat(10))]);
    expect([corpus.train.length, corpus.validation.length]).toEqual([90, 10]);
    expect(corpus.tokenizer.decode(idsOf(corpus.validation))).toBe('abcdefghij');
    expect(corpus.separator).toBeUndefined();
    expect(corpus.train.textBytes).toBe(90);
  });

  test('of several documents sets a separator behind each', async () => {
    const folder = join(scratch, 'folder');
    file('folder/b.txt', 'second');
    file('folder/a.txt', 'first');
    file('folder/sub/c.jsonl', '{"text":"third"}\n\n{"text":"fourth"}\n');
    file('folder/ignored.png', 'no text');
    const corpus = await open([folder], { validationFraction: 0.01 });
    const text = corpus.tokenizer.decode([...idsOf(corpus.train), ...idsOf(corpus.validation)], {
      specialTokens: true,
    });
    expect(text.replaceAll('<|endoftext|>', '|')).toMatch(/^first\|second\|third\|fourt\|?h\|$/);
    expect(corpus.separator).toBe(corpus.tokenizer.endOfText);
  });

  test('is the whale when nothing is named', async () => {
    const corpus = await open([]);
    expect(corpus.train.length + corpus.validation.length).toBeGreaterThan(1_100_000);
    expect(corpus.tokenizer.decode(idsOf(corpus.train)).includes('Call me Ishmael.')).toBe(true);
  });

  test('has a fingerprint that follows its content and its tokenizer', async () => {
    const print = async (text: string, tokenizer: string) =>
      (await open([file('print.txt', text)], { tokenizer })).fingerprint;
    const first = await print('some text', 'byte');
    expect(await print('some text', 'byte')).toBe(first);
    expect(await print('some test', 'byte')).not.toBe(first);
    expect(await print('some text', 'character')).not.toBe(first);
  });

  test('drops a byte order mark, and keeps characters of several bytes whole across chunks', async () => {
    const text = 'é東🙂'.repeat(200_000);
    const corpus = await open([file('wide.txt', `\u{FEFF}${text}`)], { tokenizer: 'byte' });
    const all = corpus.tokenizer.decode([...idsOf(corpus.train), ...idsOf(corpus.validation)]);
    expect(all === text).toBe(true);
  });

  const missing = missingData('tinyshakespeare.txt');
  test.skipIf(missing)(
    `tinyshakespeare splits as nanoGPT splits it${missing ? ` (skipped: ${missing})` : ''}`,
    async () => {
      const corpus = await open([join(SHARED_DATA, 'tinyshakespeare.txt')]);
      expect([corpus.train.length, corpus.validation.length]).toEqual([1_003_854, 111_540]);
      expect(corpus.tokenizer.vocabSize).toBe(65);
    },
  );

  test.each<[string, string | Uint8Array, RegExp]>([
    ['empty.txt', '', /empty\.txt is empty|no text/],
    ['blank.txt', ' \n ', /no text/],
    ['latin.txt', Uint8Array.of(0x61, 0xe9, 0x62), /latin\.txt is not UTF-8.*byte 1/],
    ['cut.txt', Uint8Array.of(0x61, 0xe2, 0x82), /cut\.txt is not UTF-8/],
    ['bad.jsonl', '{"text":"a"}\n{"text":\n', /bad\.jsonl: line 2 is not JSON/],
    ['field.jsonl', '{"body":"a"}\n', /field\.jsonl: line 1 has no text in field "text"/],
  ])('%s is refused', async (name, content, message) => {
    await expect(open([file(name, content)])).rejects.toThrow(message);
  });

  test('missing files and mixed kinds are refused', async () => {
    await expect(open([join(scratch, 'none.txt')])).rejects.toThrow(/none\.txt/);
    const shard = join(scratch, 'mixed.bin');
    const writer = new ShardWriter(shard, 300);
    writer.push(1);
    writer.close();
    await expect(open([shard, file('m.txt', 'x')])).rejects.toThrow(/different kinds/);
  });
});

describe('shards', () => {
  test.each([
    [256, 2],
    [70_000, 4],
  ])('of a vocabulary of %i take %i bytes a token and read back', (vocabSize, width) => {
    const path = join(scratch, `shard-${width}.bin`);
    const writer = new ShardWriter(path, vocabSize);
    const ids = Array.from({ length: 40_000 }, (_, i) => (i * 7919) % vocabSize);
    for (const id of ids) writer.push(id);
    writer.close();
    const header = new Int32Array(readFileSync(path).buffer.slice(0, 12));
    expect([...header]).toEqual(width === 2 ? [20240520, 1, 40_000] : [20240801, 7, 40_000]);
    expect(readFileSync(path).length).toBe(1024 + 40_000 * width);
    const source = new ShardSource([path, path], vocabSize);
    expect(idsOf(source)).toEqual([...ids, ...ids]);
    const across = new Int32Array(4);
    source.read(39_998, across, 0, 4);
    expect([...across]).toEqual([ids[39_998], ids[39_999], ids[0], ids[1]]);
    expect(() => source.read(80_000, across, 0, 1)).toThrow(RangeError);
    source.close();
  });

  test('nanoGPT’s form without a header reads', () => {
    const path = join(scratch, 'nano.bin');
    writeFileSync(path, Uint16Array.of(5, 6, 7));
    expect(idsOf(new ShardSource([path], 256))).toEqual([5, 6, 7]);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['an empty file', new Uint8Array(0), /is no token shard|0 bytes/],
    ['odd bytes', new Uint8Array(3), /is no token shard/],
    ['a wrong version', new Uint8Array(Int32Array.of(20240520, 9, 0).buffer), /has version 9, not 1/],
    ['a count that lies', new Uint8Array(Int32Array.of(20240520, 1, 50).buffer), /says it has 50 tokens/],
  ])('%s is refused', (_, bytes, message) => {
    const path = join(scratch, 'lying.bin');
    writeFileSync(path, bytes);
    expect(() => openShard(path)).toThrow(message);
  });
});

describe('batches', () => {
  const [B, T] = [4, 8];
  const batch = () => ({ ids: new Int32Array(B * T), targets: new Int32Array(B * T) });
  const samplerOf = (source: TokenSource, order: 'shuffle' | 'random' | 'sequential', seed = 1) =>
    new BatchSampler(source, { batchSize: B, sequenceLength: T, order, seed });

  test.each(['shuffle', 'random', 'sequential'] as const)('%s: targets are the ids that follow', (order) => {
    const { ids, targets } = batch();
    samplerOf(counting(1000), order).fill(3, ids, targets);
    for (let i = 0; i < ids.length; i++) expect(targets[i]).toBe(ids[i] + 1);
  });

  test.each(['shuffle', 'random', 'sequential'] as const)('%s: a step is a function of seed and number', (order) => {
    const [one, again, other] = [batch(), batch(), batch()];
    const used = samplerOf(counting(1000), order);
    for (let step = 1; step <= 40; step++) used.fill(step, one.ids, one.targets);
    samplerOf(counting(1000), order).fill(40, again.ids, again.targets);
    expect(again.ids).toEqual(one.ids);
    used.fill(3, one.ids, one.targets); // and back
    samplerOf(counting(1000), order).fill(3, again.ids, again.targets);
    expect(again.ids).toEqual(one.ids);
    samplerOf(counting(1000), order, 2).fill(3, other.ids, other.targets);
    if (order === 'sequential') expect(other.ids).toEqual(one.ids);
    else expect(other.ids).not.toEqual(one.ids);
  });

  test.each([33, 40, 41, 100, 1000])('shuffle: an epoch of %i tokens visits every window once', (length) => {
    const sampler = samplerOf(counting(length), 'shuffle');
    const { ids, targets } = batch();
    const starts: number[] = [];
    for (let step = 1; starts.length < sampler.windowsPerEpoch; step++) {
      sampler.fill(step, ids, targets);
      for (let b = 0; b < B && starts.length < sampler.windowsPerEpoch; b++) starts.push(ids[b * T]);
    }
    starts.sort((a, b) => a - b);
    for (let i = 1; i < starts.length; i++) expect(starts[i] - starts[i - 1]).toBe(T);
    expect(starts[0]).toBeLessThan(T);
    expect(sampler.windowsPerEpoch * T).toBeGreaterThanOrEqual(length - 1 - 2 * T);
  });

  test('epochs are counted, and differ', () => {
    const sampler = samplerOf(counting(1000), 'shuffle');
    const [first, second] = [batch(), batch()];
    const perEpoch = sampler.windowsPerEpoch / B;
    expect(sampler.fill(1, first.ids, first.targets)).toBe(0);
    expect(sampler.fill(Math.ceil(perEpoch) + 1, second.ids, second.targets)).toBe(1);
    expect(second.ids).not.toEqual(first.ids);
  });

  test('text shorter than a batch is refused with the numbers', () => {
    expect(() => samplerOf(counting(32), 'shuffle')).toThrow(/has 32 tokens, a batch of 4 x 8 needs 33/);
    expect(() => samplerOf(counting(8), 'random')).toThrow(/needs 9/);
    expect(() => samplerOf(counting(9), 'random')).not.toThrow();
  });

  test('validation windows follow each other and leave the rest out', () => {
    const windows = validationWindows(counting(28), T);
    expect(windows.count).toBe(3);
    const { ids, targets } = batch();
    windows.fill(2, ids, targets, T);
    expect([...ids.subarray(T, 2 * T)]).toEqual([16, 17, 18, 19, 20, 21, 22, 23]);
    expect(targets[2 * T - 1]).toBe(24);
    expect(validationWindows(counting(8), T).count).toBe(0);
  });
});

test('a range of a source is a source', () => {
  const range = new SourceRange(counting(100), 10, 5);
  expect(idsOf(range)).toEqual([10, 11, 12, 13, 14]);
  expect(() => range.read(4, new Int32Array(2), 0, 2)).toThrow(RangeError);
});

test('the bigram model’s loss, worked by hand', () => {
  const source = (...ids: number[]) => new MemorySource(tokenArray(ids, 2));
  // 0 is followed by 1 twice and by 0 once; 1 by 0 once
  const loss = bigramLoss(source(0, 1, 0, 0, 1), source(0, 1, 0), 2);
  expect(loss).toBeCloseTo(-(Math.log(2.1 / 3.2) + Math.log(1.1 / 1.2)) / 2, 12);
});

describe('prepare', () => {
  const rows = Array.from({ length: 400 }, (_, i) => `document ${i} about whale ${(i * 31) % 97}`);
  const jsonl = file('rows.jsonl', rows.map((text) => JSON.stringify({ text })).join('\n'));
  const common = { tokenizer: 'bpe', bpeVocabSize: 300, validationFraction: 0.1 };

  test('makes shards that hold every document, held out by a hash of its text', async () => {
    const folder = join(scratch, 'prepared');
    const record = await prepare({ ...common, files: [jsonl], outputDirectory: folder, shardTokens: 2000 });
    expect(record.train.documents + record.validation.documents).toBe(400);
    expect(record.validation.documents).toBeGreaterThan(15);
    expect(record.validation.documents).toBeLessThan(80);
    expect(readdirSync(folder).filter((name) => name.startsWith('train_')).length).toBeGreaterThan(1);
    const corpus = await open([folder]);
    const textOf = (source: TokenSource) => corpus.tokenizer.decode(idsOf(source), { specialTokens: true });
    const found = `${textOf(corpus.train)}${textOf(corpus.validation)}`
      .split('<|endoftext|>')
      .filter((text) => text !== '');
    expect(found.sort()).toEqual([...rows].sort());
    corpus.close();
  });

  test('gives the tokens that tokenising the whole text gives, however it is read', async () => {
    const text = 'Call me Ishmael. Some years ago—never mind how long precisely.\n\n  '.repeat(30_000);
    const folder = join(scratch, 'long');
    await prepare({ ...common, files: [file('long.txt', text)], outputDirectory: folder });
    const corpus = await open([folder]);
    const ids = idsOf(corpus.train);
    const cut = Math.floor(text.length * 0.9);
    expect(ids).toEqual(corpus.tokenizer.encode(text.slice(0, cut)));
    expect(corpus.tokenizer.decode(idsOf(corpus.validation))).toBe(text.slice(cut));
    corpus.close();
  });

  test('is refused where something stands, and leaves nothing behind when it fails', async () => {
    const taken = join(scratch, 'taken');
    file('taken/mine.txt', 'mine');
    await expect(prepare({ ...common, files: [jsonl], outputDirectory: taken })).rejects.toThrow(/is not empty/);
    expect(readdirSync(taken)).toEqual(['mine.txt']);
    const failed = join(scratch, 'failed');
    const broken = file('broken.jsonl', '{"text":"a"}\n{');
    await expect(prepare({ ...common, files: [broken], outputDirectory: failed })).rejects.toThrow(/line 2/);
    expect(readdirSync(scratch).filter((name) => name.startsWith('failed'))).toEqual([]);
  });

  test('a changed shard or another tokenizer is noticed', async () => {
    const folder = join(scratch, 'watched');
    await prepare({ ...common, files: [jsonl], outputDirectory: folder });
    const before = await open([folder]);
    const shard = join(folder, 'train_000001.bin');
    const bytes = readFileSync(shard);
    bytes[1500] ^= 1;
    writeFileSync(shard, bytes);
    const after = await open([folder]);
    expect(after.fingerprint).not.toBe(before.fingerprint);
    before.close();
    after.close();
    const tokenizer = join(folder, 'tokenizer.json');
    const json = JSON.parse(readFileSync(tokenizer, 'utf8')) as { model: { vocab: Record<string, number> } };
    [json.model.vocab['a'], json.model.vocab['b']] = [json.model.vocab['b'], json.model.vocab['a']];
    writeFileSync(tokenizer, JSON.stringify(json));
    await expect(open([folder])).rejects.toThrow(/was made with another tokenizer/);
  });
});
