// How `gemmoe generate` chooses its sampling chain: options, the model's generation_config.json, the preset.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { commandLine } from './support/cli.ts';
import { FIXTURES, readJson } from './support/golden.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-sampler-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const { gemmoe, json } = commandLine(scratch);
const MIXTRAL = join(FIXTURES, 'hf', 'mixtral');

/** The model of transformers' golden values, with another generation_config.json, or none. */
function modelWith(name: string, generation?: Record<string, unknown>): string {
  const directory = join(scratch, name);
  cpSync(MIXTRAL, directory, { recursive: true });
  const file = join(directory, 'generation_config.json');
  rmSync(file);
  if (generation) writeFileSync(file, JSON.stringify(generation));
  return directory;
}

const generate = (model: string, ...more: string[]) => [
  ...['generate', '--model', model, '--prompt-ids', '5,6,7', '--max-new-tokens', '6', '--ignore-eos'],
  ...['--backend', 'reference', ...more],
];
const chainOf = async (model: string, ...more: string[]) =>
  (await json<{ sampler: string }>(generate(model, ...more))).sampler;

test('nothing said, the ids are those of transformers, which takes the most likely', async () => {
  const { ids: rows, greedy } = readJson<{ ids: number[][]; greedy: number[] }>(MIXTRAL, 'expected.json');
  const args = ['--prompt-ids', rows[0].slice(0, 8).join(','), '--max-new-tokens', String(greedy.length)];
  const { ids } = await json<{ ids: number[] }>(['generate', '--model', MIXTRAL, '--ignore-eos', ...args]);
  expect(ids).toEqual(greedy);
});

describe('the chain', () => {
  const bare = modelWith('bare');
  const warm = modelWith('warm', { do_sample: true, temperature: 0.6, top_k: 20, repetition_penalty: 1.1 });
  const cold = modelWith('cold', { temperature: 0.6, suppress_tokens: [3] });

  test.each<[string, string, string[], string]>([
    ['no file', bare, [], 'greedy'],
    ['no file, a temperature', bare, ['--temperature', '0.7'], 'temperature:value=0.7;top-k:k=50;sample'],
    [
      'no file, as llama.cpp',
      bare,
      ['--sampler', 'llamacpp'],
      'top-k:k=40;top-p:p=0.95;min-p:p=0.05;temperature:value=0.8;sample',
    ],
    ['the model’s', warm, [], 'repetition-penalty:penalty=1.1;temperature:value=0.6;top-k:k=20;sample'],
    [
      'an option over the model',
      warm,
      ['--top-k', '5', '--temperature', '1'],
      'repetition-penalty:penalty=1.1;top-k:k=5;sample',
    ],
    ['an option that ends it', warm, ['--temperature', '0'], 'repetition-penalty:penalty=1.1;greedy'],
    ['a temperature without do_sample', cold, [], 'ban-tokens:ids=3;greedy'],
    ['an option that asks to draw', cold, ['--top-k', '0'], 'ban-tokens:ids=3;temperature:value=0.6;sample'],
    [
      'the model’s in the order of llama.cpp',
      warm,
      ['--sampler', 'llamacpp'],
      'repetition-penalty:penalty=1.1,lastN=64;top-k:k=20;top-p:p=0.95;min-p:p=0.05;temperature:value=0.6;sample',
    ],
    [
      'all options',
      bare,
      [
        ...['--typical-p', '0.9', '--top-n-sigma', '3', '--xtc-probability', '0.5', '--min-p', '0.1', '--top-p', '0.8'],
        ...['--repetition-penalty', '1.2', '--frequency-penalty', '0.1', '--presence-penalty=-0.2', '--top-k', '0'],
        ...['--penalty-last-n', '16', '--dry-multiplier', '0.8'],
      ],
      [
        'repetition-penalty:penalty=1.2,lastN=16;frequency-penalty:penalty=0.1,lastN=16',
        'presence-penalty:penalty=-0.2,lastN=16;dry:multiplier=0.8,lastN=16',
        'top-n-sigma:n=3;top-p:p=0.8;min-p:p=0.1;typical:mass=0.9;xtc:probability=0.5;sample',
      ].join(';'),
    ],
    ['mirostat', bare, ['--mirostat', '3', '--temperature', '0.9'], 'temperature:value=0.9;mirostat:tau=3'],
    [
      'a chain of one’s own',
      warm,
      ['--sampler', 'ban-tokens:ids=1|2;top-a:a=0.1'],
      'ban-tokens:ids=1|2;top-a:a=0.1;sample',
    ],
  ])('%s', async (_, model, more, expected) => expect(await chainOf(model, ...more)).toBe(expected));

  test('what the model forbids does not come', async () => {
    const { ids } = await json<{ ids: number[] }>(generate(bare));
    const without = modelWith('without', { suppress_tokens: ids, bad_words_ids: [[7, 8]] });
    const others = await json<{ ids: number[]; sampler: string }>(generate(without));
    expect(others.ids.filter((id) => ids.includes(id))).toEqual([]);
    expect(others.sampler).toMatch(/^bad-words:ids=7 8;ban-tokens:ids=/);
  });

  test('what the model asks for and is not done is named', async () => {
    const beams = modelWith('beams', { num_beams: 4, top_h: 0.3, eos_token_id: 2 });
    expect((await gemmoe(generate(beams))).err).toMatch(
      /generation_config.json asks for what is not done here: num_beams=4, top_h=0.3/,
    );
    expect((await gemmoe(generate(warm))).err).not.toMatch(/not done here/);
  });

  test('a broken file is refused by key', async () => {
    const broken = modelWith('broken', { do_sample: true, top_p: 7 });
    const { code, err } = await gemmoe(generate(broken));
    expect(code).toBe(1);
    expect(err).toMatch(/generation_config.json: top_p is 7/);
  });
});

describe('bad input', () => {
  test.each([
    [['--top-p', '0'], /--top-p is 0: Too small/],
    [['--typical-p', '1.1'], /--typical-p is 1.1: Too big/],
    [['--repetition-penalty', '0'], /--repetition-penalty is 0: Too small/],
    [['--temperature=-1'], /--temperature is -1/],
    [['--temperature', 'nan'], /--temperature is "nan"/],
    [['--top-k', '1.5'], /--top-k is 1.5/],
    [['--penalty-last-n', '0'], /--penalty-last-n is 0/],
    [['--mirostat', '0'], /--mirostat is 0/],
    [['--presence-penality', '1'], /did you mean --presence-penalty\?/],
    [['--sampler', 'top-k:k=3', '--dry-multiplier', '1'], /--dry-multiplier has no place in the chain "top-k:k=3"/],
    [['--sampler', 'top-p:k=3'], /top-p has no option "k"/],
    [['--sampler', 'dry:breakers=\\n'], /dry: there is no tokenizer for its breakers/],
    [['--sampler', 'force-tokens:ids=96'], /force-tokens: token id 96 is outside the vocabulary of 96/],
  ])('%j is refused', async (more, message) => {
    const { code, err } = await gemmoe(generate(MIXTRAL, ...more));
    expect(err).toMatch(message);
    expect(code).toBe(2);
  });
});
