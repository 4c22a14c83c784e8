// Model directories written without a model in memory: other types, other shards, random weights.

import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { byteTokenizer } from '../core/data/bpe-tokenizer.ts';
import { convertDirectory } from '../core/formats/convert.ts';
import { loadModel, saveModel } from '../core/formats/hugging-face.ts';
import { initDirectory } from '../core/formats/init-directory.ts';
import { openSafetensors, writeSafetensors } from '../core/formats/safetensors.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { toBf16 } from '../core/ops/cast.ts';
import { Random } from '../core/random.ts';
import { commandLine } from './support/cli.ts';
import { FIXTURES, readJson } from './support/golden.ts';
import { referenceKernels } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-convert-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const MIXTRAL = join(FIXTURES, 'hf', 'mixtral');
const kernels = referenceKernels();
let count = 0;
const fresh = () => join(scratch, `out-${count++}`);

const weights = (directory: string) => loadModel(directory, kernels).model.parameters.data;

describe('between storage types', () => {
  test('bf16 holds every weight rounded, and config.json says so', () => {
    const out = fresh();
    const summary = convertDirectory(MIXTRAL, out, { dtype: 'BF16' });
    const before = weights(MIXTRAL);
    const rounded = new Uint16Array(before.length);
    toBf16(rounded, before);
    const after = new Uint16Array(before.length);
    const read = weights(out);
    toBf16(after, read);
    expect(after).toEqual(rounded);
    expect(read).not.toEqual(before);
    expect(summary.bytesAfter * 2).toBe(summary.bytesBefore);
    expect(readJson(out, 'config.json')).toMatchObject({ dtype: 'bfloat16', torch_dtype: 'bfloat16' });
    const file = openSafetensors(join(out, 'model.safetensors'));
    expect(new Set([...file.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['BF16']));
    file.close();
  });

  test.each(['BF16', 'F16'] as const)('%s to f32 and back gives the same bytes', (dtype) => {
    const [small, large, again] = [fresh(), fresh(), fresh()];
    convertDirectory(MIXTRAL, small, { dtype });
    convertDirectory(small, large, { dtype: 'F32' });
    convertDirectory(large, again, { dtype });
    const bytes = (directory: string) => readFileSync(join(directory, 'model.safetensors'));
    expect(bytes(again).equals(bytes(small))).toBe(true);
    expect(bytes(large).length).toBeGreaterThan(bytes(small).length);
  });

  test('a type that is not named stays, and so do tensors that are no floats', () => {
    const [mixed, out] = [fresh(), fresh()];
    mkdirSync(mixed);
    writeFileSync(join(mixed, 'config.json'), '{"model_type":"anything"}');
    writeSafetensors(join(mixed, 'model.safetensors'), [
      { name: 'steps', dtype: 'I64', shape: [2], parts: [BigInt64Array.of(3n, 4n)] },
      { name: 'half', dtype: 'BF16', shape: [2], parts: [Uint16Array.of(0x3f80, 0x4000)] },
      { name: 'single', dtype: 'F32', shape: [1], parts: [Float32Array.of(1.5)] },
    ]);
    convertDirectory(mixed, out);
    const bytes = (directory: string) => readFileSync(join(directory, 'model.safetensors'));
    expect(bytes(out).equals(bytes(mixed))).toBe(true);
    const cast = fresh();
    convertDirectory(mixed, cast, { dtype: 'F16' });
    const file = openSafetensors(join(cast, 'model.safetensors'));
    expect(file.tensors.get('steps')?.dtype).toBe('I64');
    expect([...new BigInt64Array(file.readRaw('steps').buffer)]).toEqual([3n, 4n]);
    const values = new Float32Array(2);
    file.read('half', values);
    expect([...values]).toEqual([1, 2]);
    file.close();
  });

  test('tensors that are read in several pieces are whole', () => {
    const [source, half, same] = [fresh(), fresh(), fresh()];
    mkdirSync(source);
    writeFileSync(join(source, 'config.json'), '{}');
    // small whole numbers, which bf16 holds, and a length that is no multiple of a piece
    const values = Float32Array.from({ length: 2 * (1 << 20) + 77 }, (_, i) => (i >>> 11) % 251);
    writeSafetensors(join(source, 'model.safetensors'), [
      { name: 'x', dtype: 'F32', shape: [values.length], parts: [values] },
    ]);
    convertDirectory(source, half, { dtype: 'BF16' });
    convertDirectory(source, same);
    for (const directory of [half, same]) {
      const file = openSafetensors(join(directory, 'model.safetensors'));
      const read = new Float32Array(values.length);
      file.read('x', read);
      file.close();
      expect(Buffer.from(read.buffer).equals(Buffer.from(values.buffer))).toBe(true);
    }
  });

  test('refuses a number that float16 cannot hold, naming the tensor, and leaves nothing behind', () => {
    const [large, out] = [fresh(), fresh()];
    cpSync(MIXTRAL, large, { recursive: true });
    const { model } = loadModel(MIXTRAL, kernels);
    model.parameters.get('final_norm').data[0] = 65520;
    saveModel(join(large, 'saved'), model);
    const { message, hint } = refusal(() => convertDirectory(join(large, 'saved'), out, { dtype: 'F16' }));
    expect(message).toMatch(/tensor model.norm.weight holds 65520, which float16 cannot/);
    expect(hint).toContain('bf16');
    expect(readdirSync(scratch).filter((name) => name.startsWith(out.slice(scratch.length + 1)))).toEqual([]);
  });

  test('refuses weights that are quantised', () => {
    const [quantised, out] = [fresh(), fresh()];
    mkdirSync(quantised);
    writeFileSync(join(quantised, 'config.json'), '{"quantization_config":{"quant_method":"fp8"}}');
    writeSafetensors(join(quantised, 'model.safetensors'), [
      { name: 'w', dtype: 'F8_E4M3', shape: [2], parts: [Uint8Array.of(1, 2)] },
    ]);
    expect(refusal(() => convertDirectory(quantised, out, { dtype: 'F32' })).message).toMatch(/tensor w holds F8_E4M3/);
    convertDirectory(quantised, out);
    expect(existsSync(join(out, 'model.safetensors'))).toBe(true);
  });
});

describe('shards', () => {
  test('are cut between tensors, and joined again give the same file', () => {
    const [shards, joined] = [fresh(), fresh()];
    convertDirectory(MIXTRAL, shards, { maxShardBytes: 20_000 });
    const files = readdirSync(shards).filter((name) => name.endsWith('.safetensors'));
    expect(files.length).toBeGreaterThan(2);
    for (const name of files) {
      const shard = openSafetensors(join(shards, name));
      const bytes = [...shard.tensors.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
      if (shard.tensors.size > 1) expect(bytes).toBeLessThanOrEqual(20_000);
      shard.close();
    }
    expect(weights(shards)).toEqual(weights(MIXTRAL));
    convertDirectory(shards, joined);
    convertDirectory(MIXTRAL, fresh());
    const file = (directory: string) => readFileSync(join(directory, 'model.safetensors'));
    expect(file(joined).equals(file(join(scratch, `out-${count - 1}`)))).toBe(true);
    expect(existsSync(join(joined, 'model.safetensors.index.json'))).toBe(false);
  });
});

describe('what stands beside the weights', () => {
  test('is copied as it is, but for other formats of the weights', () => {
    const [source, out] = [fresh(), fresh()];
    cpSync(MIXTRAL, source, { recursive: true });
    writeFileSync(join(source, 'chat_template.jinja'), '{{ messages }}');
    writeFileSync(join(source, 'tokenizer_config.json'), '{"chat_template": "x",  "odd": 1}');
    writeFileSync(join(source, 'pytorch_model.bin'), 'old');
    mkdirSync(join(source, 'additional_chat_templates'));
    writeFileSync(join(source, 'additional_chat_templates', 'tool.jinja'), 'tools');
    convertDirectory(source, out, { dtype: 'F16' });
    for (const name of ['chat_template.jinja', 'tokenizer_config.json', 'additional_chat_templates/tool.jinja']) {
      expect(readFileSync(join(out, name), 'utf8')).toBe(readFileSync(join(source, name), 'utf8'));
    }
    expect(existsSync(join(out, 'pytorch_model.bin'))).toBe(false);
  });
});

describe('what is there already', () => {
  test('is kept, unless it is a model directory and replacing was asked for', () => {
    const out = fresh();
    convertDirectory(MIXTRAL, out);
    expect(refusal(() => convertDirectory(MIXTRAL, out, { dtype: 'BF16' })).code).toBe('exists');
    convertDirectory(MIXTRAL, out, { dtype: 'BF16', replace: true });
    expect(readJson(out, 'config.json')).toMatchObject({ dtype: 'bfloat16' });
    const other = fresh();
    mkdirSync(other);
    writeFileSync(join(other, 'diary.txt'), 'dear');
    expect(refusal(() => convertDirectory(MIXTRAL, other, { replace: true })).message).toContain(
      'is no model directory',
    );
    expect(readFileSync(join(other, 'diary.txt'), 'utf8')).toBe('dear');
  });

  test('may be the source itself, never a folder above it', () => {
    const folder = fresh();
    const model = join(folder, 'model');
    cpSync(MIXTRAL, model, { recursive: true });
    writeFileSync(join(folder, 'config.json'), '{}');
    expect(refusal(() => convertDirectory(model, folder, { replace: true })).message).toContain(
      'holds the model that is read',
    );
    convertDirectory(model, model, { dtype: 'F16', replace: true });
    expect(readJson(model, 'config.json')).toMatchObject({ dtype: 'float16' });
    expect(loadModel(model, kernels).model.parameters.total).toBe(weights(MIXTRAL).length);
  });
});

describe('random weights', () => {
  const config = { ...PRESETS['char-mini'].config, vocabSize: 257, numLayers: 3 };

  test('are those of a model that is initialised in memory', () => {
    const out = fresh();
    initDirectory(out, new Transformer(config, kernels), { seed: 5, dtype: 'F32', tokenizer: byteTokenizer() });
    const model = new Transformer(config, kernels);
    model.initialise(5);
    const loaded = loadModel(out, kernels);
    expect(loaded.model.parameters.data).toEqual(model.parameters.data);
    expect(loaded.model.config).toEqual(model.config);
    expect(readJson(out, 'config.json')).toMatchObject({ eos_token_id: 256, dtype: 'float32' });
  });

  test('of tensors that are made in several pieces, too', () => {
    const wide = { ...config, vocabSize: 20_000, numLayers: 1 };
    const out = fresh();
    initDirectory(out, new Transformer(wide, kernels), { seed: 5, dtype: 'F32' });
    const model = new Transformer(wide, kernels);
    model.initialise(5);
    const same = Buffer.from(weights(out).buffer).equals(Buffer.from(model.parameters.data.buffer));
    expect(same).toBe(true);
  });

  test('in bf16 are the same, rounded, and never all in memory', () => {
    const [out, converted] = [fresh(), fresh()];
    const model = new Transformer(config, kernels);
    let last = 0;
    initDirectory(out, model, { seed: 5, dtype: 'BF16', onProgress: (done) => (last = done) });
    expect(last).toBe(2 * model.parameters.total);
    expect(() => model.parameters.declare('one more', 'norm', [1])).not.toThrow(); // it would after allocation
    const single = fresh();
    initDirectory(single, new Transformer(config, kernels), { seed: 5, dtype: 'F32' });
    convertDirectory(single, converted, { dtype: 'BF16' });
    const file = (directory: string) => readFileSync(join(directory, 'model.safetensors'));
    expect(file(out).equals(file(converted))).toBe(true);
  });

  test('a range of normal values is that range of the whole', () => {
    const random = new Random(3, 'ranges');
    const whole = new Float64Array(41);
    random.fillNormal(whole, 1, 2, 7);
    for (const [start, length] of [
      [0, 41],
      [1, 5],
      [4, 8],
      [6, 1],
      [7, 30],
      [40, 1],
      [2, 0],
    ]) {
      const part = new Float64Array(length);
      random.fillNormal(part, 1, 2, 7, start);
      expect([...part]).toEqual([...whole.subarray(start, start + length)]);
    }
  });
});

describe('as commands', () => {
  const { gemmoe, json } = commandLine(scratch);

  test('init, then convert into shards of half the type, then generate', async () => {
    const made = await json<{ parameters: number; bytes: number }>([
      ...['init', 'random', '--preset', 'char-mini', '--tokenizer', 'byte', '--seed', '3'],
    ]);
    expect(made.bytes).toBe(4 * made.parameters);
    const halves = await json<{ bytesBefore: number; bytesAfter: number }>([
      ...['convert', 'random', 'halves', '--dtype', 'bf16', '--max-shard-size', '200KB'],
    ]);
    expect(halves.bytesAfter * 2).toBe(halves.bytesBefore);
    const shards = readdirSync(join(scratch, 'halves')).filter((name) => name.endsWith('.safetensors'));
    expect(shards.length).toBe(Math.ceil(halves.bytesAfter / 200_000));
    const text = await json<{ ids: number[] }>([
      ...['generate', '--model', 'halves', '--prompt', 'a', '--max-new-tokens', '3', '--ignore-eos'],
    ]);
    expect(text.ids).toHaveLength(3);
    const again = await gemmoe(['convert', 'random', 'halves']);
    expect(again).toMatchObject({ code: 1, out: '' });
    expect(again.err).toContain('halves is not empty');
    expect((await gemmoe(['convert', 'random', 'halves', '--force'])).code).toBe(0);
  });

  test.each([
    [['init'], /no folder to write is named/],
    [['init', 'x'], /no shape is named\n.*default6_9b/],
    [['init', 'x', '--preset', 'tiny', '--tokenizer', 'bpe'], /made from text, and init reads none/],
    [['init', 'x', '--preset', 'tiny', '--dtype', 'q8_0'], /q8_0 is a type of GGUF files/],
    [['init', 'x', '--preset', 'tiny', '--heads', '7'], /7 heads do not divide/],
    [['convert'], /no model is named/],
    [['convert', MIXTRAL], /nothing to write is named/],
    [['convert', MIXTRAL, 'a', 'b'], /does not know what "b" is/],
    [['convert', MIXTRAL, 'a', '--max-shard-size', '2 pigs'], /--max-shard-size is "2 pigs"/],
    [['convert', MIXTRAL, 'a', '--dtype', 'q4'], /--dtype is "q4"/],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await gemmoe(args);
    expect(err).toMatch(message);
    expect(code).toBe(2);
  });
});
