// Every command on a model of every family: what a user does with a checkpoint that was downloaded.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { readModelConfig } from '../core/formats/hugging-face.ts';
import { commandLine } from './support/cli.ts';
import { withCharacters } from './support/gguf.ts';
import { readJson } from './support/golden.ts';

// many small files, each written for good: seconds on a slow disk
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const folder = mkdtempSync(join(tmpdir(), 'gemmoe-families-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { gemmoe, json } = commandLine(folder);

const TEXT = join(folder, 'text.txt');
writeFileSync(TEXT, 'A text (of no more than 90 characters) that is read again & again.\n'.repeat(40));

const FAMILIES = [
  ...['llama', 'llama3', 'llama_linear', 'llama_yarn', 'mistral', 'qwen2', 'qwen3', 'mixtral_mqa', 'olmoe'],
  ...['olmoe_clip', 'qwen3_moe', 'qwen2_moe', 'granitemoe', 'granitemoeshared'],
];

const REFERENCE = ['--backend', 'reference'];

describe.each(FAMILIES)('%s', (family) => {
  const model = join(folder, family);
  withCharacters(family, model);
  const { config } = readModelConfig(model);
  const modelType = readJson<{ model_type: string }>(model, 'config.json').model_type;

  test('inspect counts what is in the file', async () => {
    const { parameters } = await json<{ parameters: { total: number } }>(['inspect', model]);
    const { code, out } = await gemmoe(['inspect', model]);
    expect(code).toBe(0);
    expect(out).not.toContain('[object');
    const converted = join(folder, `${family}-bf16`);
    const result = await json<{ bytesAfter: number }>(['convert', model, converted, '--dtype', 'bf16']);
    expect(result.bytesAfter).toBe(2 * parameters.total);
    expect(readModelConfig(converted).config).toEqual(config);
  });

  test('generate and evaluate', async () => {
    const { code, out, err } = await gemmoe([
      ...[
        'generate',
        '--model',
        model,
        '--prompt',
        'A text',
        '--sampler',
        'greedy',
        '--max-new-tokens',
        '4',
        ...REFERENCE,
      ],
    ]);
    expect(`${code} ${err}`).toMatch(/^0/);
    expect(out.length).toBeGreaterThan('A text'.length);
    const evaluated = await json<{ loss: number }>(['evaluate', '--model', model, '--data', TEXT, ...REFERENCE]);
    expect(evaluated.loss).toBeGreaterThan(1);
  });

  test('train --init-from lowers the loss and writes the same family', async () => {
    const run = join(folder, `${family}-run`);
    const { code, err } = await gemmoe([
      ...['train', '--init-from', model, '--data', TEXT, '--out', run, '--steps', '6', '--learning-rate', '0.01'],
      ...['--batch-size', '2', '--sequence-length', '16', '--eval-interval', '0', ...REFERENCE],
    ]);
    expect(`${code} ${err}`).toMatch(/^0/);
    const trained = join(run, 'model');
    expect(readJson(trained, 'config.json')).toMatchObject({ model_type: modelType });
    expect(readModelConfig(trained).config).toEqual(config);
    const lossOf = async (of: string) =>
      (await json<{ loss: number }>(['evaluate', '--model', of, '--data', TEXT, ...REFERENCE])).loss;
    expect(await lossOf(trained)).toBeLessThan(await lossOf(model));
  });
});
