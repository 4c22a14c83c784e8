// Runs that train an adapter: what they move, what they leave, resuming, and every way to use what comes out.

import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { convertDirectory } from '../core/formats/convert.ts';
import { mixtral } from '../core/formats/families/mixtral.ts';
import { loadAdapter, saveAdapter } from '../core/formats/adapter.ts';
import { loadModel, readModelConfig } from '../core/formats/hugging-face.ts';
import { chooseModules, linearModules } from '../core/formats/linear-modules.ts';
import { readJsonObject, writeJson } from '../core/formats/json-files.ts';
import { openSafetensors, writeSafetensors } from '../core/formats/safetensors.ts';
import { LoraAdapter } from '../core/model/lora.ts';
import { Random } from '../core/random.ts';
import { latestCheckpoint, modelDirectoryOf, modelPlaceOf } from '../core/training/checkpoint.ts';
import { readMetrics } from '../core/training/metrics-log.ts';
import { planRun, resume, train } from '../core/training/run.ts';
import { assembleRun } from '../core/training/run-parts.ts';
import type { RunSettings } from '../core/training/settings.ts';
import { commandLine } from './support/cli.ts';
import { type Expected, FIXTURES, readJson } from './support/golden.ts';
import { referenceKernels } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';
import { referenceServices, smallSettings, traceOf, trainAndResume } from './support/runs.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });
const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-lora-run-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const { gemmoe, json } = commandLine(scratch);
const kernels = referenceKernels();
const base = join(scratch, 'base', 'model');
const tuned = join(scratch, 'tuned');
const quiet = { planned() {}, record() {} };

/** Settings of a run on other text than the base's, with an adapter on it. */
function loraSettings(changes: Partial<RunSettings> = {}): RunSettings {
  const other = join(scratch, 'other.txt');
  writeFileSync(other, 'over the dog the lazy fox jumps, and on the quick brown dog sleeps.\n'.repeat(60));
  return smallSettings(scratch, {
    ...{ model: readModelConfig(base).config, initFrom: base, tokenizer: join(base, 'tokenizer.json') },
    ...{ data: [other], loraRank: 4, learningRate: 1e-2, ...changes },
  });
}

const filesOf = (directory: string) =>
  Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'base64')]));

let baseFiles: Record<string, string>;

beforeAll(async () => {
  using services = referenceServices();
  const taught = { steps: 150, learningRate: 1e-2, evalInterval: 0, saveInterval: 0 };
  await train(smallSettings(scratch, taught), join(scratch, 'base'), services, quiet);
  baseFiles = filesOf(base);
  await train(loraSettings({ steps: 60, saveInterval: 10, keepLast: 99 }), tuned, services, quiet);
});

describe('a run with an adapter', () => {
  test('learns, and leaves the model that it began with byte for byte', () => {
    const losses = readMetrics(tuned).flatMap((record) => (record.kind === 'step' ? [record.loss] : []));
    expect(losses).toHaveLength(60);
    expect(losses[59]).toBeLessThan(0.7 * losses[0]);
    expect(filesOf(base)).toEqual(baseFiles);
  });

  test('changes nothing but the matrices that have an adapter', () => {
    const [before, after] = [base, join(tuned, 'model')].map((path) =>
      openSafetensors(join(path, 'model.safetensors')),
    );
    for (const name of before.tensors.keys()) {
      const isSame = Buffer.compare(before.readRaw(name), after.readRaw(name)) === 0;
      expect(isSame, name).toBe(!/_proj|\.w[123]\./.exec(name)?.[0]);
    }
    before.close();
    after.close();
  });

  test('writes the model with the adapter merged: what base and adapter give together', () => {
    const { model } = loadModel(base, kernels);
    const adapter = loadAdapter(join(tuned, 'adapter'), model);
    expect(adapter.targets).toHaveLength(3 * (4 + 3 * 4));
    adapter.merge();
    expect(model.parameters.data).toEqual(loadModel(join(tuned, 'model'), kernels).model.parameters.data);
    expect(readJsonObject(join(tuned, 'adapter', 'adapter_config.json'))).toMatchObject({
      ...{ r: 4, lora_alpha: 8, base_model_name_or_path: base },
      target_modules: ['k_proj', 'o_proj', 'q_proj', 'v_proj', 'w1', 'w2', 'w3'],
    });
  });

  test('has checkpoints of the adapter and its optimizer alone', () => {
    const checkpoint = join(tuned, 'checkpoints', 'step-00000010');
    expect(readdirSync(checkpoint).sort()).toEqual([
      ...['adapter_config.json', 'adapter_model.safetensors', 'optimizer.safetensors', 'tokenizer.json'],
      'training_state.json',
    ]);
    const elements = (file: string) => {
      const opened = openSafetensors(join(checkpoint, file));
      const sizes = [...opened.tensors.values()].map(({ begin, end }) => (end - begin) / 4);
      opened.close();
      return sizes.reduce((sum, size) => sum + size, 0);
    };
    const weights = elements('adapter_model.safetensors');
    expect(elements('optimizer.safetensors')).toBe(2 * weights);
    // before the first step moved it, B was zero and A as PEFT makes it
    const { model } = loadModel(base, kernels);
    const adapter = loadAdapter(checkpoint, model);
    expect(adapter.targets.every(({ b }) => b.data.some((value) => value !== 0))).toBe(true);
  });

  test('clips by the norm of the adapter’s gradients alone', async () => {
    using services = referenceServices();
    const norms: number[] = [];
    const observer = {
      planned() {},
      record(record: { kind: string }) {
        if (record.kind === 'step') norms.push((record as unknown as { gradientNorm: number }).gradientNorm);
      },
    };
    // with B = 0 there is no gradient for A, and only that of the one B counts
    const run = join(scratch, 'clipped');
    await train(loraSettings({ steps: 1, loraTargets: ['layers.0.attention.output'] }), run, services, observer);
    const whole: number[] = [];
    const observeWhole = {
      ...observer,
      record: (record: { kind: string }) =>
        void (record.kind === 'step' && whole.push((record as unknown as { gradientNorm: number }).gradientNorm)),
    };
    await train(loraSettings({ steps: 1, loraRank: 0 }), join(scratch, 'whole'), services, observeWhole);
    expect(norms[0]).toBeGreaterThan(0);
    expect(norms[0]).toBeLessThan(0.5 * whole[0]);
  });

  test.each<[string, Partial<RunSettings>]>([
    ['adamw, and accumulation', { accumulate: 2 }],
    ['an average of the weights', { ema: 0.9 }],
    ['schedule-free', { optimizer: 'schedule-free' }],
    ['muon', { optimizer: 'muon' }],
    ['sixteen bits and spikes', { precision: 'fp16', skipSpikes: 6 }],
    ['B faster than A, and router and head too', { optimizer: 'adamw:groups=*.lora_B(rate=4)', loraTargets: ['*'] }],
  ])('that is stopped and resumed gives the bits of one that is not: %s', async (name, changes) => {
    const [whole, parts] = [join(scratch, `${name} whole`), join(scratch, `${name} parts`)];
    await trainAndResume(loraSettings(changes), whole);
    await trainAndResume(loraSettings(changes), parts, 5);
    expect(traceOf(parts)).toEqual(traceOf(whole));
    expect(filesOf(join(parts, 'adapter'))).toEqual(filesOf(join(whole, 'adapter')));
    // the adapter that is saved is the one of the weights that are saved
    const { model } = loadModel(base, kernels);
    loadAdapter(join(whole, 'adapter'), model).merge();
    expect(model.parameters.data).toEqual(loadModel(join(whole, 'model'), kernels).model.parameters.data);
  });

  test('whose steps are timed first begins as one whose steps are not', async () => {
    using services = referenceServices();
    const [plain, timed] = [
      await assembleRun(loraSettings(), services),
      await assembleRun(loraSettings(), services, { seconds: 0.2 }),
    ];
    expect(timed.expectedSeconds).toBeGreaterThan(0);
    expect(timed.adapter?.store.data).toEqual(plain.adapter?.store.data);
    expect(timed.model.parameters.data).toEqual(plain.model.parameters.data);
    plain.corpus.close();
    timed.corpus.close();
  });

  test('is not resumed on another model than it began with', async () => {
    using services = referenceServices();
    const copy = join(scratch, 'copy');
    cpSync(base, copy, { recursive: true });
    const run = join(scratch, 'on-copy');
    const abort = new AbortController();
    const observer = {
      planned() {},
      record: (record: { kind: string; step: number }) => void (record.step === 4 && abort.abort()),
    };
    await train(loraSettings({ initFrom: copy }), run, services, observer, { signal: abort.signal });
    cpSync(join(tuned, 'model'), copy, { recursive: true });
    await expect(resume(run, services, quiet)).rejects.toThrow(/weights in .*copy are not those that the adapter/);
    cpSync(base, copy, { recursive: true });
    expect((await resume(run, services, quiet)).steps).toBe(8);
  });

  test('is planned with what it holds: gradients of all, the optimizer of the adapter', async () => {
    using services = referenceServices();
    const [lora, whole] = [
      await planRun(loraSettings(), join(scratch, 'never'), services),
      await planRun(loraSettings({ loraRank: 0 }), join(scratch, 'never'), services),
    ];
    const { model } = loadModel(base, kernels);
    const adapter = loadAdapter(join(tuned, 'adapter'), model);
    expect(lora.memory.optimizer).toBe(2 * 4 * adapter.size);
    expect(whole.memory.optimizer).toBe(2 * 4 * model.parameters.total);
    expect(lora.memory.gradients).toBe(4 * (model.parameters.total + adapter.size));
    expect(lora.memory.weights).toBe(lora.memory.gradients + 4 * adapter.targetSize);
    expect(lora.notes.join()).toMatch(
      new RegExp(`rank 4 and alpha 8 on 48 linear layers is trained: ${adapter.size} parameters`),
    );
  });

  test.each<[string, Partial<RunSettings>, RegExp]>([
    ['without a model', { initFrom: null }, /loraRank is 4, but the run begins with random weights/],
    ['selection biases', { routerBias: 1e-3 }, /routerBias is 0.001, but selection biases are no part of an adapter/],
    ['a rank beyond the matrices', { loraRank: 99 }, /loraRank is 99, more than any of the matrices has/],
    ['a target that is none', { loraTargets: ['q_prj'] }, /q_prj is no linear layer of this model/],
  ])('is refused: %s', async (_, changes, message) => {
    using services = referenceServices();
    await expect(train(loraSettings(changes), join(scratch, 'never'), services, quiet)).rejects.toThrow(message);
    expect(existsSync(join(scratch, 'never'))).toBe(false);
  });
});

describe('what a run leaves when it is not finished', () => {
  const run = () => {
    const path = join(scratch, 'unfinished');
    if (!existsSync(path)) {
      mkdirSync(path);
      cpSync(join(tuned, 'checkpoints'), join(path, 'checkpoints'), { recursive: true });
    }
    return path;
  };

  test('stands for its base with the adapter of the latest checkpoint', () => {
    expect(modelPlaceOf(run())).toEqual({ directory: base, adapter: latestCheckpoint(run()) });
    expect(modelPlaceOf(join(tuned, 'adapter'))).toEqual({ directory: base, adapter: join(tuned, 'adapter') });
    expect(modelPlaceOf(tuned)).toEqual({ directory: join(tuned, 'model'), adapter: undefined });
  });

  test('is no model by itself', () => {
    const { message, hint } = refusal(() => modelDirectoryOf(run()));
    expect(message).toMatch(/has no model of its own, only an adapter of/);
    expect(hint).toContain(`gemmoe convert ${base} OUT --merge-adapter ${latestCheckpoint(run())}`);
  });

  test('an adapter of a model that is elsewhere says what to name', () => {
    const directory = join(scratch, 'elsewhere');
    cpSync(join(tuned, 'adapter'), directory, { recursive: true });
    const config = join(directory, 'adapter_config.json');
    writeJson(config, { ...readJsonObject(config), base_model_name_or_path: 'someone/some-model' });
    const { message, hint } = refusal(() => modelPlaceOf(directory));
    expect(message).toMatch(/is an adapter of someone\/some-model, which is no model directory here/);
    expect(hint).toContain(`--model DIR --adapter ${directory}`);
  });
});

describe('convert --merge-adapter', () => {
  const logitsOf = (directory: string, adapter?: string) => {
    const { model } = loadModel(directory, kernels);
    if (adapter !== undefined) loadAdapter(adapter, model).mergeForGood();
    const { ids } = readJson<Expected>(join(FIXTURES, 'hf', 'mixtral'), 'expected.json');
    return Float32Array.from(model.forward(Int32Array.from(ids.flat()), ids.length, ids[0].length));
  };

  /** An adapter with both factors filled, in a folder. */
  function adapterFor(directory: string, patterns: string[], out: string): string {
    const { model } = loadModel(directory, kernels);
    const adapter = new LoraAdapter(model, chooseModules(linearModules(model), patterns), { rank: 2, alpha: 4 });
    adapter.initialise(1);
    for (const [i, { b }] of adapter.targets.entries()) new Random(2, 'test').fillNormal(b.data, 0, 0.1, i);
    saveAdapter(out, adapter, directory);
    return out;
  }

  test.each(['llama', 'mixtral', 'granitemoe', 'qwen2_moe'])('gives the logits of %s with its adapter', (family) => {
    const source = join(FIXTURES, 'hf', family);
    const adapter = adapterFor(
      source,
      ['attention|expert|router'.replace(family === 'llama' ? '|router' : '', '')],
      join(scratch, `${family} adapter`),
    );
    const target = join(scratch, `${family} merged`);
    convertDirectory(source, target, { merge: { adapter, kernels } });
    expect(logitsOf(target)).toEqual(logitsOf(source, adapter));
    expect(logitsOf(target)).not.toEqual(logitsOf(source));
  });

  test('leaves the layout and every other tensor as they are, also where experts are in one tensor', () => {
    const source = join(scratch, 'fused');
    const classic = join(FIXTURES, 'hf', 'mixtral');
    cpSync(classic, source, { recursive: true });
    const { model } = loadModel(classic, kernels);
    const [, fused] = mixtral.layouts(model.config);
    writeSafetensors(
      join(source, 'model.safetensors'),
      fused.map(({ name, shape, parameter, offset }) => {
        const size = shape.reduce((product, length) => product * length, 1);
        return {
          name,
          shape,
          dtype: 'F32',
          parts: [model.parameters.get(parameter).data.subarray(offset, offset + size)],
        };
      }),
    );
    const adapter = adapterFor(source, ['experts.1.w2', 'v_proj'], join(scratch, 'fused adapter'));
    const target = join(scratch, 'fused merged');
    convertDirectory(source, target, { merge: { adapter, kernels } });
    expect(logitsOf(target)).toEqual(logitsOf(classic, adapter));
    const [before, after] = [source, target].map((path) => openSafetensors(join(path, 'model.safetensors')));
    expect([...after.tensors.keys()]).toEqual([...before.tensors.keys()]);
    for (const name of before.tensors.keys()) {
      const isSame = Buffer.compare(before.readRaw(name), after.readRaw(name)) === 0;
      expect(isSame, name).toBe(!/v_proj|down_proj/.test(name));
    }
    before.close();
    after.close();
  });

  test('rounds the sum to the type that is asked for, or that the tensor has', () => {
    const half = join(scratch, 'half');
    convertDirectory(base, half, { dtype: 'BF16' });
    const [kept, floats] = [join(scratch, 'half merged'), join(scratch, 'half merged, floats')];
    const merge = { adapter: join(tuned, 'adapter'), kernels };
    convertDirectory(half, kept, { merge });
    convertDirectory(half, floats, { merge, dtype: 'F32' });
    const name = 'model.layers.0.self_attn.q_proj.weight';
    const read = (directory: string) => {
      const file = openSafetensors(join(directory, 'model.safetensors'));
      const values = new Float32Array(16 * 16);
      file.read(name, values);
      const { dtype } = file.tensors.get(name) ?? {};
      file.close();
      return { dtype, values };
    };
    expect([read(kept).dtype, read(floats).dtype]).toEqual(['BF16', 'F32']);
    const rounded = new Uint16Array(16 * 16);
    kernels.toBf16(rounded, read(floats).values);
    const wanted = new Float32Array(16 * 16);
    kernels.fromBf16(wanted, rounded);
    expect(read(kept).values).toEqual(wanted);
    expect(read(floats).values).not.toEqual(wanted);
  });
});

describe('the command line', () => {
  const run = 'by-command';
  const text = join(scratch, 'other.txt');
  const idsFile = join(scratch, 'ids.json');
  const reference = ['--backend', 'reference'];
  const lora = [
    'train',
    '--data',
    text,
    '--init-from',
    base,
    '--lora-rank',
    '2',
    '--sequence-length',
    '16',
    ...reference,
  ];

  beforeAll(async () => {
    writeFileSync(idsFile, '[[1,2,3,4,5]]');
    const targets = ['--lora-alpha', '6', '--lora-targets', 'q_proj', '--lora-targets', 'expert'];
    const { code, out, err } = await gemmoe([...lora, ...targets, '--steps', '4', '--out', run]);
    expect(code, err).toBe(0);
    expect(out).toMatch(/model\/ .*adapter merged\n {2}adapter\/ .*PEFT/);
  });

  test('trains, and says what of', () => {
    const config = readJsonObject(join(scratch, run, 'adapter', 'adapter_config.json'));
    expect(config).toMatchObject({ r: 2, lora_alpha: 6, target_modules: ['q_proj', 'w1', 'w2', 'w3'] });
    expect(existsSync(join(scratch, run, 'report.html'))).toBe(true);
  });

  test('gives the same logits of the run, of base and adapter, and of what convert merges', async () => {
    const logits = async (args: string[]) =>
      (await json<{ logits: number[] }>(['logits', '--ids-file', idsFile, ...reference, ...args])).logits;
    const merged = await logits(['--model', run]);
    expect(await logits(['--model', base, '--adapter', run])).toEqual(merged);
    expect(await logits(['--model', base, '--adapter', join(run, 'adapter')])).toEqual(merged);
    expect(await logits(['--model', join(run, 'adapter')])).toEqual(merged);
    expect(await logits(['--model', base])).not.toEqual(merged);
    const { code, err } = await gemmoe(['convert', base, 'merged', '--merge-adapter', run]);
    expect(code, err).toBe(0);
    const converted = await logits(['--model', 'merged']);
    // products of another backend, where there is one
    expect(Math.max(...converted.map((value, i) => Math.abs(value - merged[i])))).toBeLessThan(1e-5);
  });

  test('generates, evaluates and compares with an adapter', async () => {
    const common = ['--model', base, '--adapter', run, ...reference];
    const written = await json<{ text: string }>(['generate', ...common, '--prompt', 'the', '--max-new-tokens', '8']);
    const alone = await json<{ text: string }>([
      'generate',
      '--model',
      run,
      ...reference,
      '--prompt',
      'the',
      '--max-new-tokens',
      '8',
    ]);
    expect(written.text).toBe(alone.text);
    const adapted = await json<{ loss: number }>(['evaluate', ...common, '--data', text]);
    const whole = await json<{ loss: number }>(['evaluate', '--model', run, ...reference, '--data', text]);
    expect(adapted.loss).toBe(whole.loss);
    const dump = join(scratch, 'dump.safetensors');
    const { logits, shape } = await json<{ logits: number[]; shape: number[] }>([
      'logits',
      ...common,
      '--ids-file',
      idsFile,
    ]);
    writeSafetensors(dump, [
      { name: 'input_ids', dtype: 'I64', shape: [1, 5], parts: [BigInt64Array.from([1n, 2n, 3n, 4n, 5n])] },
      { name: 'logits', dtype: 'F32', shape, parts: [Float32Array.from(logits)] },
    ]);
    expect((await gemmoe(['parity', ...common, '--against', dump])).code).toBe(0);
    expect((await gemmoe(['parity', '--model', base, ...reference, '--against', dump])).code).toBe(1);
  });

  test('resumes with the same adapter, and with no other', async () => {
    const same = await gemmoe(['train', '--resume', run, '--steps', '6', '--lora-rank', '2', ...reference]);
    expect(same.code, same.err).toBe(0);
    const other = await gemmoe(['train', '--resume', run, '--steps', '8', '--lora-rank', '3', '--force', ...reference]);
    expect(other.code).toBe(2);
    expect(other.err).toMatch(/--lora-rank is 3, but the run .* was made with 2/);
  });

  test('sweeps over learning rates of an adapter', async () => {
    const args = ['lr-find', ...lora.slice(1), '--steps', '40', '--from-rate', '1e-4', '--to-rate', '1'];
    const { settings } = await json<{ settings: RunSettings }>(args);
    expect(settings.loraRank).toBe(2);
    expect(filesOf(base)).toEqual(baseFiles);
  });

  test.each([
    [['train', '--lora-rank', '8', '--steps', '1'], /begins with random weights.*\n.*--init-from/],
    [
      ['train', '--init-from', base, '--lora-alpha', '8'],
      /--lora-alpha 8 says something of an adapter, but none is trained\n.*--lora-rank 8/,
    ],
    [['train', '--init-from', base, '--lora-targets', 'router'], /--lora-targets router says something/],
    [[...lora, '--steps', '1', '--lora-targets', 'experts'], /experts is no linear layer of this model/],
    [
      ['generate', '--model', base, '--adapter', 'nowhere', '--prompt', 'x'],
      /nowhere is no adapter: it has no adapter_config.json/,
    ],
    [
      ['generate', '--model', base, '--adapter', run, '--weights', 'bf16', '--prompt', 'x'],
      /too coarse to add an adapter to\n.*--merge-adapter/,
    ],
    [['generate', '--model', join(run, 'adapter'), '--adapter', run, '--prompt', 'x'], /--adapter names another/],
    [
      ['convert', base, 'x.gguf', '--to', 'gguf', '--merge-adapter', run],
      /--merge-adapter has no meaning with --to gguf/,
    ],
    [['convert', base, 'never', '--merge-adapter', base], /is no adapter/],
    [['inspect', join(run, 'adapter')], /has no model of its own, only an adapter/],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await gemmoe([
      ...args,
      ...(['convert', 'inspect'].includes(args[0]) || args.includes('--backend') ? [] : reference),
    ]);
    expect(code).not.toBe(0);
    expect(err).toMatch(message);
    expect(existsSync(join(scratch, 'never'))).toBe(false);
  });
});
