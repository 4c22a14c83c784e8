// Models whose matrices are held in bfloat16: the same logits in half the memory, for use and not for training.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { convertDirectory } from '../core/formats/convert.ts';
import { loadModel, saveModel } from '../core/formats/hugging-face.ts';
import { bindKernels } from '../core/kernels.ts';
import { KvCache } from '../core/model/kv-cache.ts';
import { commandLine } from './support/cli.ts';
import { FIXTURES } from './support/golden.ts';
import { backendNamed, referenceKernels, USABLE_BACKENDS } from './support/kernels.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-bf16-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const { gemmoe } = commandLine(scratch);

const FAMILIES = ['mixtral', 'qwen2_moe', 'granitemoeshared', 'olmoe', 'llama', 'qwen2', 'mixtral_mqa'];
const IDS = Int32Array.of(3, 17, 9, 42, 5, 8, 11, 2);

/** A fixture with its tensors stored as bfloat16. */
const stored = new Map(
  FAMILIES.map((name) => {
    const directory = join(scratch, name);
    convertDirectory(join(FIXTURES, 'hf', name), directory, { dtype: 'BF16' });
    return [name, directory];
  }),
);
const directoryOf = (name: string) => stored.get(name) ?? '';

describe.each(USABLE_BACKENDS)('on %s', (name) => {
  const kernels = bindKernels(backendNamed(name));

  test.each(FAMILIES)('%s gives the logits of the same weights as floats', (family) => {
    const floats = loadModel(directoryOf(family), kernels).model;
    const { model } = loadModel(directoryOf(family), kernels, { weights: 'bf16' });
    const wanted = Array.from(floats.forward(IDS, 1, IDS.length));
    const found = Array.from(model.forward(IDS, 1, IDS.length));
    const largest = Math.max(...wanted.map(Math.abs));
    const worst = Math.max(...found.map((value, i) => Math.abs(value - wanted[i])));
    expect(worst).toBeLessThan(3e-6 * largest);
    // one id at a time, as in decoding
    const cache = new KvCache(model.config, 1, IDS.length);
    for (const [i, id] of IDS.entries()) {
      const row = model.forward(Int32Array.of(id), 1, 1, { cache, logits: 'last' });
      const off = Array.from(row, (value, v) => Math.abs(value - wanted[i * row.length + v]));
      expect(Math.max(...off)).toBeLessThan(3e-5 * largest);
    }
  });
});

describe('weights held in bfloat16', () => {
  const kernels = referenceKernels();

  test('take half the memory, and count as many', () => {
    const floats = loadModel(directoryOf('mixtral'), kernels).model.parameters;
    const half = loadModel(directoryOf('mixtral'), kernels, { weights: 'bf16' }).model.parameters;
    expect(half.total).toBe(floats.total);
    expect(half.bytes / floats.bytes).toBeGreaterThan(0.5);
    expect(half.bytes / floats.bytes).toBeLessThan(0.53);
    for (const { role, bf16 } of half.parameters) {
      expect(bf16 !== null).toBe(['embedding', 'attention', 'expert', 'head'].includes(role));
    }
  });

  test('are those of the file rounded, whatever type that has', () => {
    const rounded = loadModel(join(FIXTURES, 'hf', 'mixtral'), kernels, { weights: 'bf16' }).model.parameters;
    const exact = loadModel(directoryOf('mixtral'), kernels, { weights: 'bf16' }).model.parameters;
    for (const { name, bf16 } of exact.parameters) expect(rounded.get(name).bf16).toEqual(bf16);
  });

  test('are written as they are', () => {
    const { model } = loadModel(directoryOf('mixtral'), kernels, { weights: 'bf16' });
    const again = join(scratch, 'again');
    saveModel(again, model);
    const copy = loadModel(again, kernels, { weights: 'bf16' }).model.parameters;
    for (const { name, bf16 } of model.parameters.parameters) if (bf16) expect(copy.get(name).bf16).toEqual(bf16);
    expect(JSON.parse(readFileSync(join(again, 'config.json'), 'utf8'))).toMatchObject({ dtype: 'bfloat16' });
  });

  test('are not trained', () => {
    const { model } = loadModel(directoryOf('mixtral'), kernels, { weights: 'bf16' });
    expect(() => model.forwardBackward(IDS, IDS, 1, IDS.length)).toThrow(/held in bfloat16/);
  });

  test('loading tells how far it is, to the end', () => {
    const told: [number, number][] = [];
    loadModel(directoryOf('mixtral'), kernels, { onProgress: (done, total) => void told.push([done, total]) });
    expect(told.length).toBeGreaterThan(5);
    told.slice(1).forEach(([done], i) => expect(done).toBeGreaterThan(told[i][0]));
    const [done, total] = told[told.length - 1];
    expect(done).toBe(total);
  });

  test('the commands take them', async () => {
    const args = ['generate', '--model', directoryOf('mixtral'), '--prompt-ids', '3,17,9', '--max-new-tokens', '6'];
    const floats = await gemmoe([...args, '--temperature', '0']);
    const half = await gemmoe([...args, '--temperature', '0', '--weights', 'bf16']);
    expect(half.code, half.err).toBe(0);
    expect(half.out).toBe(floats.out);
    expect((await gemmoe([...args, '--weights', 'int4'])).code).toBe(2);
  });
});
