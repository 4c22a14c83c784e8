// Documents in rows: packed, kept apart by attention, or one to a row.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BatchSampler, validationWindows } from '../core/data/batches.ts';
import { markDocuments } from '../core/data/document-rows.ts';
import { MemorySource } from '../core/data/sources.ts';
import { IGNORE_INDEX } from '../core/kernels.ts';
import { evaluateSource } from '../core/training/evaluate.ts';
import type { RunObserver } from '../core/training/events.ts';
import { train } from '../core/training/run.ts';
import { modelOf, SMALL } from './support/small-model.ts';
import { referenceServices, smallSettings, traceOf, trainAndResume } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-documents-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Id of the end of a document. */
const END = 9;
const source = (ids: readonly number[], ignored?: readonly number[]) =>
  new MemorySource(Uint32Array.from(ids), undefined, ignored && Uint8Array.from(ignored));

describe('a row', () => {
  const marked = (ids: readonly number[], targets: readonly number[]) => {
    const starts = new Int32Array(ids.length);
    markDocuments(starts, Int32Array.from(ids), Int32Array.from(targets), 0, ids.length, END);
    return [...starts];
  };

  test('begins a document with the separator that predicts its first token', () => {
    expect(marked([1, 2, END, 3, 4, END], [2, END, 3, 4, END, 5])).toEqual([0, 0, 2, 2, 2, 5]);
  });

  test('leaves a separator before a conversation to the document that it ends', () => {
    const no = IGNORE_INDEX;
    expect(marked([1, 2, END, 3, 4, END, 5], [no, END, no, no, END, no, no])).toEqual([0, 0, 0, 3, 3, 3, 6]);
  });
});

describe('padded rows', () => {
  const sample = (ids: readonly number[], ignored?: readonly number[]) => {
    const windows = validationWindows(source(ids, ignored), 4, { mode: 'padded', separator: END });
    return Array.from({ length: windows.count }, (_, i) => {
      const [row, targets] = [new Int32Array(4), new Int32Array(4)];
      windows.fill(i, row, targets, 0);
      return [...row, ...targets].map((id) => (id === IGNORE_INDEX ? '.' : id)).join('');
    });
  };

  test('hold one document each, a longer one in pieces, and no targets behind its end', () => {
    expect(sample([1, 2, END, 3, END, 1, 2, 3, 4, 5, 6, END])).toEqual([
      '1299' + '29..', // 1 2 and padding; targets 2 and the end
      '9399' + '39..',
      '9123' + '1234',
      '4569' + '569.',
    ]);
  });

  test('begin a conversation behind the separator, and drop pieces with nothing to learn', () => {
    // prompts 1 2 3 4 5 and 7 are not learned
    expect(sample([1, 2, 3, 4, 5, 6, END, 7, 8, END], [1, 1, 1, 1, 1, 0, 0, 1, 0, 0])).toEqual([
      '5699' + '69..',
      '7899' + '89..',
    ]);
  });

  test.each(['shuffle', 'sequential'] as const)('%s: visit every document once an epoch', (order) => {
    const ids = Array.from({ length: 20 }, (_, i) => [i + 10, i + 10, END]).flat();
    const documents = { mode: 'padded', separator: END } as const;
    const sampler = new BatchSampler(source(ids), { batchSize: 4, sequenceLength: 4, order, seed: 1, documents });
    const [batch, targets] = [new Int32Array(16), new Int32Array(16)];
    for (const epoch of [0, 1]) {
      const seen = new Set<number>();
      for (let step = 1; step <= 5; step++) {
        expect(sampler.fill(epoch * 5 + step, batch, targets)).toBe(epoch);
        for (let b = 0; b < 4; b++) seen.add(Math.max(...batch.subarray(b * 4, b * 4 + 4)));
      }
      expect(seen.size).toBe(20);
    }
  });

  test.each(['masked', 'padded'] as const)('%s documents of a single one are refused', (mode) => {
    const make = () =>
      new BatchSampler(source([1, 2, 3, 4, 5, 6, 7, 8, 9]), {
        ...{ batchSize: 1, sequenceLength: 4, order: 'shuffle', seed: 1 },
        documents: { mode, separator: undefined },
      });
    expect(make).toThrow(`documents are ${mode}, but nothing stands between them`);
  });
});

describe('a model', () => {
  const model = () => modelOf({ ...SMALL, vocabSize: 12, maxSequenceLength: 32 });
  // two rows of documents: 5 + 7 + 4 and 9 + 7
  const lengths = [
    [5, 7, 4],
    [9, 7],
  ];
  const ids = Int32Array.from({ length: 32 }, (_, i) => (i * 7 + (i >> 3)) % 12);
  const targets = Int32Array.from({ length: 32 }, (_, i) => (i * 5 + 1) % 12);
  const starts = Int32Array.from(
    lengths.flatMap((row) => row.flatMap((n, i) => Array<number>(n).fill(row.slice(0, i).reduce((a, b) => a + b, 0)))),
  );

  test('gives packed documents the loss and gradients of each alone', () => {
    const [packed, alone] = [model(), model()];
    const tokenScale = 1 / 32;
    const auxScale = 0; // balances over the rows of a pass, which differ
    const together = packed.forwardBackward(ids, targets, 2, 16, { tokenScale, auxScale, documentStarts: starts });
    let lossSum = 0;
    let at = 0;
    for (const length of lengths.flat()) {
      const [own, next] = [ids.subarray(at, at + length), targets.subarray(at, at + length)];
      lossSum += alone.forwardBackward(own, next, 1, length, { tokenScale, auxScale }).lossSum;
      at += length;
    }
    expect(together.lossSum).toBeCloseTo(lossSum, 10);
    expect(packed.evaluate(ids, targets, 2, 16, starts).lossSum).toBeCloseTo(lossSum, 10);
    const [mine, theirs] = [packed.parameters.gradient, alone.parameters.gradient];
    let largest = 0;
    for (let i = 0; i < mine.length; i++) largest = Math.max(largest, Math.abs(mine[i] - theirs[i]));
    expect(largest).toBeLessThan(1e-12);
    // and without the starts it is another loss
    expect(Math.abs(model().evaluate(ids, targets, 2, 16).lossSum - lossSum)).toBeGreaterThan(1e-4);
  });

  test('refuses starts behind their row, or that fall', () => {
    const wrong = (at: number, value: number) => starts.with(at, value);
    expect(() => model().evaluate(ids, targets, 2, 16, wrong(3, 4))).toThrow(
      /row 3 \(place 3 of its sequence\) starts at 4/,
    );
    expect(() => model().evaluate(ids, targets, 2, 16, wrong(13, 2))).toThrow(/row 13/);
  });

  test('is validated as it is trained', async () => {
    const text = [1, 2, 3, END, 4, 5, END, 6, 7, 8, END, 1, 2, END, 3, 4, 5, 6, END, 7, END];
    const of = (mode: 'packed' | 'masked' | 'padded') =>
      evaluateSource(model(), source(text), { batchSize: 2, sequenceLength: 8, documents: { mode, separator: END } });
    const [packed, masked, padded] = [await of('packed'), await of('masked'), await of('padded')];
    expect(masked.tokens).toBe(packed.tokens);
    expect(masked.loss).not.toBeCloseTo(packed.loss, 4);
    expect(padded.windows).toBe(6);
    expect(padded.tokens).toBe(text.length - 1);
  });
});

describe('a run', () => {
  const data = join(scratch, 'rows.jsonl');
  const words = (i: number) => 'alpha beta gamma delta'.slice(i % 9, 12 + (i % 9));
  writeFileSync(
    data,
    Array.from({ length: 120 }, (_, i) => `${JSON.stringify({ text: `${i} ${words(i)}` })}\n`).join(''),
  );

  test.each(['masked', 'padded'] as const)(
    'with %s documents goes on exactly, accumulation included',
    async (documents) => {
      const settings = smallSettings(scratch, { data: [data], documents, accumulate: 2, checkpointEvery: 1 });
      const [whole, parts] = [join(scratch, `${documents} whole`), join(scratch, `${documents} parts`)];
      await trainAndResume(settings, whole);
      await trainAndResume(settings, parts, 5);
      expect(traceOf(parts)).toEqual(traceOf(whole));
      const packed = join(scratch, `${documents} packed`);
      await trainAndResume({ ...settings, documents: 'packed' }, packed);
      expect(traceOf(packed).weights.equals(traceOf(whole).weights)).toBe(false);
    },
  );

  test.each(['packed', 'padded'] as const)(
    'counts beforehand the windows that %s documents are validated in',
    async (mode) => {
      using services = referenceServices();
      let planned: number | undefined;
      const observer: RunObserver = { planned: (plan) => void (planned = plan.validationWindows), record() {} };
      const settings = smallSettings(scratch, { data: [data], documents: mode });
      const { validation } = await train(settings, join(scratch, `${mode} counted`), services, observer);
      expect(planned).toBe(validation?.windows);
    },
  );

  test('of one document is refused before anything is written', async () => {
    const settings = smallSettings(scratch, { documents: 'masked' });
    await expect(trainAndResume(settings, join(scratch, 'refused'))).rejects.toThrow(/documents are masked/);
    expect(existsSync(join(scratch, 'refused'))).toBe(false);
  });
});
