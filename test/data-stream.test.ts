// Text that a worker tokenises while training runs, and shuffling in blocks.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { BatchSampler } from '../core/data/batches.ts';
import { type Corpus, type CorpusOptions, openCorpus } from '../core/data/corpus.ts';
import { prepare } from '../core/data/prepare.ts';
import { readTargets, type TokenSource } from '../core/data/source.ts';
import { MemorySource } from '../core/data/sources.ts';
import { openStream, type StreamPace } from '../core/data/stream-corpus.ts';
import { smallSettings, traceOf, trainAndResume } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-streams-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(scratch, name);
  writeFileSync(path, content);
  return path;
}

const text = Array.from({ length: 4000 }, (_, i) => `line ${i}: ${(i * 7919) % 1009} whales and ${i % 7} ships.`).join(
  '\n',
);
const book = file('book.txt', text);
const rows = file(
  'rows.jsonl.gz',
  gzipSync(
    Array.from({ length: 300 }, (_, i) => `${JSON.stringify({ text: `row ${i} of ${(i * 31) % 97} rows` })}\n`).join(
      '',
    ),
  ),
);
const chats = file(
  'chats.jsonl',
  Array.from(
    { length: 90 },
    (_, i) => `${JSON.stringify({ prompt: `what is ${i}`, response: `a number, ${i}` })}\n`,
  ).join(''),
);

const OPTIONS = { tokenizer: 'character', bpeVocabSize: 300, validationFraction: 0.1 };
const stream = (path: string, changes: Partial<CorpusOptions> = {}, pace: StreamPace = {}) =>
  openStream([path], { data: [path], ...OPTIONS, ...changes }, pace);

function tokensOf(source: TokenSource, length = source.length): { ids: number[]; targets: number[] } {
  const [ids, targets] = [new Int32Array(length), new Int32Array(length)];
  source.read(0, ids, 0, length);
  readTargets(source, 0, targets, 0, length);
  return { ids: [...ids], targets: [...targets] };
}

/** All tokens, when the worker has come to the end. */
function drain(corpus: Corpus): { ids: number[]; targets: number[] } {
  expect(corpus.train.ensure?.(1e9)).toBe(false);
  return tokensOf(corpus.train);
}

describe('a stream', () => {
  test.each(['character', 'byte', 'bpe'])('holds the tokens that prepare writes (%s)', async (tokenizer) => {
    for (const [name, path] of [
      ['book', book],
      ['rows', rows],
    ] as const) {
      const folder = join(scratch, `prepared-${name}-${tokenizer}`);
      await prepare({ ...OPTIONS, tokenizer, files: [path], outputDirectory: folder });
      const prepared = await openCorpus({ data: [folder], ...OPTIONS });
      const streamed = await stream(path, { tokenizer });
      expect(drain(streamed).ids).toEqual(tokensOf(prepared.train).ids);
      expect(tokensOf(streamed.validation).ids).toEqual(tokensOf(prepared.validation).ids);
      expect(streamed.separator).toBe(prepared.separator);
      prepared.close();
      streamed.close();
    }
  });

  test('learns the answers of conversations alone, as in memory', async () => {
    const streamed = await stream(chats);
    const held = await openCorpus({ data: [chats], ...OPTIONS });
    const { ids, targets } = drain(streamed);
    const memory = tokensOf(held.train);
    const common = Math.min(ids.length, memory.ids.length);
    expect(common).toBeGreaterThan(1000);
    expect(ids.slice(0, common)).toEqual(memory.ids.slice(0, common));
    expect(targets.slice(0, common)).toEqual(memory.targets.slice(0, common));
    expect(streamed.train.isMasked).toBe(true);
    streamed.close();
  });

  test('has about the length that it says before it ends', async () => {
    const corpus = await stream(book, {}, { ahead: 0 });
    const estimate = corpus.train.length;
    expect(Math.abs(drain(corpus).ids.length / estimate - 1)).toBeLessThan(0.02);
    corpus.close();
  });

  test('stays within its bound ahead of the reader', async () => {
    const corpus = await stream(book, {}, { ahead: 20_000 });
    const { folder } = corpus.train as unknown as { folder: string };
    await new Promise((resolve) => setTimeout(resolve, 400));
    const made = () => readFileSync(join(folder, 'tokens.bin')).length / 4;
    expect(made()).toBeGreaterThan(16_000);
    expect(made()).toBeLessThan(20_000 + 2 ** 15);
    tokensOf(corpus.train, 60_000);
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(made()).toBeGreaterThan(70_000);
    expect(made()).toBeLessThan(80_000 + 2 ** 15);
    corpus.close();
  });

  test('gives the same batches whatever the pace', async () => {
    const batches = async (pace: StreamPace) => {
      const corpus = await stream(book, {}, pace);
      const options = { batchSize: 8, sequenceLength: 64, order: 'shuffle', seed: 3, shuffleBlock: 32 } as const;
      const sampler = new BatchSampler(corpus.train, options);
      const [ids, targets] = [new Int32Array(512), new Int32Array(512)];
      const seen: unknown[] = [];
      // more than an epoch
      for (let step = 1; step <= 300; step += 13)
        seen.push([sampler.fill(step, ids, targets), ids.join(), targets.join()]);
      corpus.close();
      return seen;
    };
    const fast = await batches({});
    expect(new Set(fast.map((batch) => (batch as unknown[])[0])).size).toBeGreaterThan(1);
    expect(await batches({ ahead: 0, slowness: 20 })).toEqual(fast);
  });

  test('does not wait for a tokenizer that is slower than a step, once it has a lead', async () => {
    const waitOf = async (ahead: number) => {
      const corpus = await stream(book, {}, { ahead, slowness: 60 });
      const options = { batchSize: 8, sequenceLength: 64, order: 'sequential', seed: 3 } as const;
      const sampler = new BatchSampler(corpus.train, options);
      const [ids, targets] = [new Int32Array(512), new Int32Array(512)];
      sampler.fill(1, ids, targets);
      let waited = 0;
      for (let step = 2; step <= 200; step++) {
        const start = performance.now();
        sampler.fill(step, ids, targets);
        waited += performance.now() - start;
        await new Promise((resolve) => setTimeout(resolve, 4)); // the step itself
      }
      corpus.close();
      return waited;
    };
    const [before, after] = [await waitOf(0), await waitOf(1 << 20)];
    expect(before).toBeGreaterThan(300); // six chunks of 60 ms
    expect(after).toBeLessThan(before / 3);
  });

  test.each<[string, Partial<Parameters<typeof smallSettings>[1]>, RegExp]>([
    ['order random', { dataOrder: 'random' }, /order random cannot be had from a stream/],
    ['padded documents', { documents: 'padded', data: [rows] }, /padded documents cannot be had from a stream/],
    ['weights', { data: [book, rows], dataWeights: [1, 1] }, /a stream is one source, without weights/],
  ])('is refused with %s', async (name, changes, message) => {
    const settings = smallSettings(scratch, { data: [book], stream: true, ...changes });
    await expect(trainAndResume(settings, join(scratch, `refused ${name}`))).rejects.toThrow(message);
  });

  test('finds a bad line before training, by its number', async () => {
    const bad = file('bad.jsonl', '{"text":"a"}\n{"text":\n');
    await expect(stream(bad)).rejects.toThrow(/bad\.jsonl: line 2 is not JSON/);
  });

  test('says what its worker failed of', async () => {
    const gone = file('gone.txt', text);
    const corpus = await stream(gone, {}, { ahead: 0 });
    writeFileSync(gone, Uint8Array.of(0x61, 0xff, 0x62));
    expect(() => drain(corpus)).toThrow(/the tokenizing worker failed: .*gone\.txt is not UTF-8/);
    corpus.close();
  });
});

describe('blocks', () => {
  const source = new MemorySource(Uint32Array.from({ length: 1001 }, (_, i) => i));

  test('keep neighbours together, visit all windows once an epoch, and differ between epochs', () => {
    const options = { batchSize: 5, sequenceLength: 10, order: 'shuffle', seed: 2, shuffleBlock: 20 } as const;
    const sampler = new BatchSampler(source, options);
    const [ids, targets] = [new Int32Array(50), new Int32Array(50)];
    const epochs = [0, 1].map((epoch) =>
      Array.from({ length: 20 }, (_, i) => {
        expect(sampler.fill(epoch * 20 + i + 1, ids, targets)).toBe(epoch);
        return [0, 10, 20, 30, 40].map((row) => ids[row] / 10);
      }).flat(),
    );
    for (const order of epochs) {
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
      for (let block = 0; block < 5; block++) {
        const windows = order.slice(block * 20, block * 20 + 20).map((window) => Math.floor(window / 20));
        expect(new Set(windows).size).toBe(1);
      }
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(epochs[0].slice(0, 20)).not.toEqual([...epochs[0].slice(0, 20)].sort((a, b) => a - b));
  });

  test('are refused for offsets at random', () => {
    const options = { batchSize: 5, sequenceLength: 10, order: 'random', seed: 2, shuffleBlock: 20 } as const;
    expect(() => new BatchSampler(source, options)).toThrow(/blocks of 20 windows are for windows in order/);
  });
});

describe('a run that is stopped and resumed', () => {
  test.each<[string, Parameters<typeof smallSettings>[1]]>([
    ['a stream', { data: [book], stream: true, shuffleBlock: 16 }],
    ['a stream of compressed rows, masked', { data: [rows], stream: true, documents: 'masked' }],
    ['a stream of conversations', { data: [chats], stream: true, batchSize: 4 }],
    ['blocks', { data: [book], shuffleBlock: 8 }],
  ])('on %s gives the bits of one that is not', async (name, changes) => {
    const settings = smallSettings(scratch, changes);
    const [whole, parts] = [join(scratch, `${name} whole`), join(scratch, `${name} parts`)];
    await trainAndResume(settings, whole);
    await trainAndResume(settings, parts, 5);
    expect(traceOf(parts)).toEqual(traceOf(whole));
  });

  test('on other text than it began with is refused', async () => {
    const changing = file('changing.txt', text);
    const settings = smallSettings(scratch, { data: [changing], stream: true });
    const run = join(scratch, 'changing');
    await trainAndResume(settings, run);
    writeFileSync(changing, text.replace('whales', 'snails'));
    const { resume } = await import('../core/training/run.ts');
    const { referenceServices } = await import('./support/runs.ts');
    using services = referenceServices();
    const observer = { planned() {}, record() {} };
    await expect(resume(run, services, observer)).rejects.toThrow(/the data have changed since .*checkpoints/);
  });
});
