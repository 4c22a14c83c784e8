// What llama.cpp makes of our GGUF files, where its binding for Node.js is installed: `npm install --no-save node-llama-cpp`,
// or NODE_LLAMA_CPP=/path/to/node_modules/node-llama-cpp/dist/index.js.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { byteTokenizer } from '../core/data/bpe-tokenizer.ts';
import type { Tokenizer } from '../core/data/tokenizer.ts';
import { loadTokenizer, tokenizerFromJSON } from '../core/data/tokenizers.ts';
import { exportGguf } from '../core/formats/gguf/export.ts';
import type { WrittenType } from '../core/formats/gguf/types.ts';
import { loadModel } from '../core/formats/hugging-face.ts';
import { initDirectory } from '../core/formats/init-directory.ts';
import { Generator } from '../core/generation/generator.ts';
import { createChain } from '../core/generation/sampler-chain.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { Registry } from '../core/registry.ts';
import { greedy } from '../plugins/samplers/greedy.ts';
import { commandLine } from './support/cli.ts';
import { GGUF_FAMILIES, withCharacters } from './support/gguf.ts';
import { type Expected, FIXTURES, missingData, readJson, SHARED_DATA } from './support/golden.ts';
import { referenceKernels } from './support/kernels.ts';

/** The parts of node-llama-cpp that are used here. */
interface LlamaModel {
  tokenize(text: string, specialTokens?: boolean): number[];
  detokenize(ids: readonly number[]): string;
  createContext(options: object): Promise<{
    getSequence(): { evaluate(ids: readonly number[], options: object): AsyncIterable<number> };
    dispose(): Promise<void>;
  }>;
  dispose(): Promise<void>;
}
interface Llama {
  loadModel(options: object): Promise<LlamaModel>;
  dispose(): Promise<void>;
}

const PACKAGE = process.env['NODE_LLAMA_CPP'] ?? 'node-llama-cpp';
const binding = await (import(PACKAGE) as Promise<{ getLlama(options: object): Promise<Llama> }>).catch(
  () => undefined,
);

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-llama-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const kernels = referenceKernels();
let count = 0;
const fresh = () => join(scratch, `x${count++}`);

/** What gemmoe continues a prompt with. */
async function ours(directory: string, prompt: readonly number[], length: number): Promise<number[]> {
  const generator = new Generator(loadModel(directory, kernels).model);
  const sampler = createChain('greedy', new Registry('sampler', [greedy]), 1);
  const ids: number[] = [];
  for await (const { id } of generator.generate(prompt, { sampler, maxNewTokens: length }))
    if (id !== null) ids.push(id);
  return ids;
}

describe.skipIf(binding === undefined)(`llama.cpp (${binding ? PACKAGE : 'node-llama-cpp is not installed'})`, () => {
  let llama: Llama;
  beforeAll(async () => {
    llama = (await binding?.getLlama({ gpu: false, build: 'never', logLevel: 'error' })) as Llama;
  }, 60_000);
  afterAll(() => llama?.dispose());

  async function open(directory: string, type?: WrittenType): Promise<LlamaModel> {
    const modelPath = `${fresh()}.gguf`;
    exportGguf(directory, modelPath, { type });
    return llama.loadModel({ modelPath, useMmap: false });
  }

  /** Greedy ids, with keys and values in float32 as gemmoe has them. */
  async function continued(model: LlamaModel, prompt: readonly number[], length: number): Promise<number[]> {
    const f32 = { experimentalKvCacheKeyType: 'F32', experimentalKvCacheValueType: 'F32', flashAttention: false };
    const context = await model.createContext({ contextSize: 256, threads: 1, ...f32 });
    const ids: number[] = [];
    for await (const id of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      ids.push(id);
      if (ids.length === length) break;
    }
    await context.dispose();
    return ids;
  }

  test.each(GGUF_FAMILIES)('continues as transformers does: %s', async (family) => {
    const directory = fresh();
    withCharacters(family, directory);
    const { ids, greedy: expected } = readJson<Expected>(FIXTURES, 'hf', family, 'expected.json');
    const model = await open(directory);
    expect(await continued(model, ids[0].slice(0, 8), expected.length)).toEqual(expected);
    await model.dispose();
  });

  test('continues a model that gemmoe trained as gemmoe does, and reads its characters', async () => {
    const { gemmoe } = commandLine(scratch);
    const text = 'It was the best of times,\nit was the worst of times — naïve 𝄞.\n'.repeat(60);
    writeFileSync(join(scratch, 'text.txt'), text);
    const { code, err } = await gemmoe([
      ...['train', '--data', 'text.txt', '--preset', 'char-mini', '--steps', '40', '--out', 'run', '--batch-size', '4'],
      ...['--backend', 'reference', '--sequence-length', '32', '--max-sequence-length', '128'],
    ]);
    expect(code, err).toBe(0);
    const directory = join(scratch, 'run', 'model');
    const tokenizer = loadTokenizer(directory);
    const prompt = tokenizer.encode('it was the');
    const model = await open(directory);
    expect([...model.tokenize('it was the')]).toEqual(prompt);
    const next = await continued(model, prompt, 64);
    expect(next).toEqual(await ours(directory, prompt, 64));
    expect(model.detokenize(next)).toBe(tokenizer.decode(next));
    await model.dispose();
  }, 120_000);

  const stories = join(SHARED_DATA, 'stories260k');
  describe.skipIf(missingData('stories260k') !== undefined)('stories260k', () => {
    const expected = () =>
      readJson<{ prompt: string; prompt_ids: number[]; greedy_ids: number[]; text: string }>(stories, 'expected.json');

    test('tells its story, from text to text', async () => {
      const { prompt, prompt_ids: ids, greedy_ids: next, text } = expected();
      const model = await open(stories);
      expect([...model.tokenize(prompt)]).toEqual(ids.slice(1));
      expect(await continued(model, ids, next.length)).toEqual(next);
      expect(model.detokenize([...ids.slice(1), ...next])).toBe(text);
      await model.dispose();
    });

    test.each(['F16', 'BF16', 'Q8_0'] as const)('begins it alike in %s', async (type) => {
      const { prompt_ids: ids, greedy_ids: next } = expected();
      const model = await open(stories, type);
      expect(await continued(model, ids, 12)).toEqual(next.slice(0, 12));
      await model.dispose();
    });
  });

  /** Texts that tokenizers trip over. */
  const TEXTS = ['Hello world', "  two  spaces, it's 2024!\n\n\tTabs", 'naïve — 𝄞 日本', 'a .b , c'];

  async function compareTokenizers(tokenizer: Tokenizer, prepare: (text: string) => string = (text) => text) {
    const directory = fresh();
    const config = { ...PRESETS['char-mini'].config, vocabSize: tokenizer.vocabSize, numLayers: 1 };
    initDirectory(directory, new Transformer(config, kernels), { seed: 1, dtype: 'F32', tokenizer });
    const model = await open(directory);
    for (const text of TEXTS) {
      const ids = tokenizer.encode(text);
      expect([...model.tokenize(text)]).toEqual(ids);
      expect(model.detokenize(ids)).toBe(prepare(tokenizer.decode(ids)));
    }
    const end = tokenizer.endOfText;
    if (end !== undefined)
      expect([...model.tokenize(`a${tokenizer.decode([end], { specialTokens: true })}`, true)].at(-1)).toBe(end);
    await model.dispose();
  }

  test('reads bytes as we do', () => compareTokenizers(byteTokenizer()));

  test('reads a trained BPE as we do', () =>
    compareTokenizers(loadTokenizer(join(FIXTURES, 'tokenizer', 'tokenizer.json'))));

  test('reads a Unigram vocabulary as Hugging Face does', async () => {
    const letters = [...new Set(TEXTS.join('').replace(/[\s]/g, ''))];
    const pieces = [
      ['<unk>', 0],
      ['</s>', 0],
      ['▁', -2],
      ...letters.map((c, i) => [c, -4 - i / 100]),
      ['▁He', -5],
      ['llo', -5.5],
      ['or', -6],
      ['▁wor', -9.5],
    ];
    const json = {
      version: '1.0',
      added_tokens: [0, 1].map((id) => ({
        id,
        content: pieces[id][0],
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      })),
      normalizer: null,
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
      post_processor: null,
      decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
      model: { type: 'Unigram', unk_id: 0, vocab: pieces, byte_fallback: false },
    };
    const tokenizer = tokenizerFromJSON(json, { eos_token: '</s>' });
    const directory = fresh();
    const config = { ...PRESETS['char-mini'].config, vocabSize: tokenizer.vocabSize, numLayers: 1 };
    initDirectory(directory, new Transformer(config, kernels), { seed: 1, dtype: 'F32', tokenizer });
    const model = await open(directory);
    for (const text of ['Hello world', 'Helloworld', 'a .b , c', 'dHello']) {
      expect([...model.tokenize(text)]).toEqual(tokenizer.encode(text));
    }
    await model.dispose();
    expect(readFileSync(join(directory, 'tokenizer.json'), 'utf8')).toContain('Unigram');
  });
});
