// Dense models as models of experts: the same logits, and noise that is asked for.

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { convertDirectory } from '../core/formats/convert.ts';
import { loadModel } from '../core/formats/hugging-face.ts';
import { upcycleDirectory } from '../core/formats/upcycle.ts';
import { commandLine } from './support/cli.ts';
import { type Expected, FIXTURES, missingData, readJson, SHARED_DATA } from './support/golden.ts';
import { referenceKernels } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-upcycle-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;
const fresh = () => join(scratch, `x${count++}`);

const LLAMA = join(FIXTURES, 'hf', 'llama');
const kernels = referenceKernels();
const PLAIN = { numExperts: 4, topK: 2, seed: 1 };

function logitsOf(directory: string): Float32Array {
  const { ids } = readJson<Expected>(LLAMA, 'expected.json');
  const { model } = loadModel(directory, kernels);
  return Float32Array.from(model.forward(Int32Array.from(ids.flat()), ids.length, ids[0].length));
}

const furthest = (a: ArrayLike<number>, b: Float32Array) =>
  b.reduce((worst, value, i) => Math.max(worst, Math.abs(value - a[i])), 0);

describe('without noise', () => {
  test.each([
    [2, 1],
    [4, 2],
    [3, 3],
  ])('%i experts, %i chosen: the logits are those of transformers for the dense model', (numExperts, topK) => {
    const out = fresh();
    const { config } = upcycleDirectory(LLAMA, out, { numExperts, topK, seed: 1 });
    expect(config).toMatchObject({ numExperts, topK, auxLossReduction: 'perLayer' });
    expect(readJson(out, 'config.json')).toMatchObject({
      model_type: 'mixtral',
      num_local_experts: numExperts,
      num_experts_per_tok: topK,
    });
    const { logits } = readJson<Expected>(LLAMA, 'expected.json');
    expect(furthest(logits, logitsOf(out))).toBeLessThan(2e-5);
  });

  test('every expert is the feed-forward layer, and the router is random by its seed', () => {
    const [out, same, other] = [fresh(), fresh(), fresh()];
    upcycleDirectory(LLAMA, out, PLAIN);
    upcycleDirectory(LLAMA, same, PLAIN);
    upcycleDirectory(LLAMA, other, { ...PLAIN, seed: 2 });
    const parameter = (directory: string, name: string) => [
      ...loadModel(directory, kernels).model.parameters.get(name).data,
    ];
    for (const name of ['layers.1.experts.gate_up', 'layers.1.experts.down']) {
      const dense = parameter(LLAMA, name);
      const sparse = parameter(out, name);
      for (let e = 0; e < 4; e++) expect(sparse.slice(e * dense.length, (e + 1) * dense.length)).toEqual(dense);
    }
    const router = parameter(out, 'layers.0.router');
    const deviation = Math.sqrt(router.reduce((sum, x) => sum + x * x, 0) / router.length);
    expect(deviation).toBeGreaterThan(0.014);
    expect(deviation).toBeLessThan(0.026);
    expect(parameter(same, 'layers.0.router')).toEqual(router);
    expect(parameter(other, 'layers.0.router')).not.toEqual(router);
    expect(parameter(out, 'layers.1.router')).not.toEqual(router);
  });

  test('16-bit weights stay 16 bits, in shards where asked, and other files come along', () => {
    const [half, out] = [fresh(), fresh()];
    convertDirectory(LLAMA, half, { dtype: 'BF16' });
    writeFileSync(join(half, 'chat_template.jinja'), 'template');
    writeFileSync(join(half, 'generation_config.json'), '{"eos_token_id": [5, 6]}');
    expect(upcycleDirectory(half, out, { ...PLAIN, maxShardBytes: 50_000 }).dtype).toBe('BF16');
    expect(existsSync(join(out, 'model.safetensors.index.json'))).toBe(true);
    expect(readFileSync(join(out, 'chat_template.jinja'), 'utf8')).toBe('template');
    expect(readJson(out, 'generation_config.json')).toEqual({ eos_token_id: [5, 6] });
    expect(furthest(logitsOf(half), logitsOf(out))).toBeLessThan(2e-5);
  });
});

test('noise makes the copies differ by that share of their size, by their seed', () => {
  const [out, same] = [fresh(), fresh()];
  upcycleDirectory(LLAMA, out, { ...PLAIN, noise: 0.01 });
  upcycleDirectory(LLAMA, same, { ...PLAIN, noise: 0.01 });
  const read = (directory: string, name: string) => loadModel(directory, kernels).model.parameters.get(name).data;
  for (const name of ['layers.0.experts.gate_up', 'layers.0.experts.down']) {
    const dense = read(LLAMA, name);
    const sparse = read(out, name);
    let square = 0;
    let size = 0;
    for (let i = 0; i < sparse.length; i++) {
      square += (sparse[i] - dense[i % dense.length]) ** 2;
      size += dense[i % dense.length] ** 2;
    }
    const share = Math.sqrt(square / size);
    expect(share).toBeGreaterThan(0.0095);
    expect(share).toBeLessThan(0.0105);
    const copies = [0, 1].map((e) => [...sparse.subarray(e * dense.length, (e + 1) * dense.length)]);
    expect(copies[0]).not.toEqual(copies[1]);
    expect([...read(same, name)]).toEqual([...sparse]);
  }
  expect([...read(out, 'layers.0.attention.qkv')]).toEqual([...read(LLAMA, 'layers.0.attention.qkv')]);
  const moved = furthest(logitsOf(LLAMA), logitsOf(out));
  expect(moved).toBeGreaterThan(1e-4);
  expect(moved).toBeLessThan(0.5);
});

describe('refusals', () => {
  test.each([
    [{ ...PLAIN, numExperts: 1 }, /1 experts are no mixture/],
    [{ ...PLAIN, topK: 5 }, /topK is 5 but there are only 4 experts/],
    [{ ...PLAIN, noise: Number.NaN }, /noise is NaN/],
  ])('%j', (options, message) => {
    expect(refusal(() => upcycleDirectory(LLAMA, fresh(), options)).message).toMatch(message);
  });

  test('a model that has experts, and a folder that is not empty', () => {
    const mixtral = join(FIXTURES, 'hf', 'mixtral');
    expect(refusal(() => upcycleDirectory(mixtral, fresh(), PLAIN)).message).toMatch(/has \d experts already/);
    const out = fresh();
    cpSync(LLAMA, out, { recursive: true });
    expect(refusal(() => upcycleDirectory(LLAMA, out, PLAIN)).code).toBe('exists');
  });
});

describe('the command', () => {
  const { gemmoe, json } = commandLine(scratch);

  test('writes a model that trains', async () => {
    const made = await json<{ config: object }>(['upcycle', LLAMA, 'sparse', '--experts', '4', '--noise', '0.01']);
    expect(made.config).toMatchObject({ numExperts: 4, topK: 2 });
    expect((await gemmoe(['upcycle', LLAMA, 'x'])).err).toContain('how many experts is not said');
  });

  test.skipIf(missingData('stories260k') !== undefined)('stories260k upcycled tells the same story', async () => {
    const stories = join(SHARED_DATA, 'stories260k');
    const expected = readJson<{ prompt: string; greedy_ids: number[] }>(stories, 'expected.json');
    expect((await gemmoe(['upcycle', stories, 'tales', '--experts', '4'])).code).toBe(0);
    const told = await json<{ ids: number[] }>([
      ...['generate', '--model', 'tales', '--prompt', expected.prompt, '--sampler', 'greedy', '--backend', 'reference'],
      ...['--max-new-tokens', String(expected.greedy_ids.length)],
    ]);
    expect(told.ids).toEqual(expected.greedy_ids);
  });
});
