// Low-rank adapters: their gradients, PEFT's files, merging and taking apart, and runs that train them.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createAdapter, loadAdapter, mergeDirectory, saveAdapter } from '../core/formats/adapter.ts';
import { loadModel, saveModel } from '../core/formats/hugging-face.ts';
import { openSafetensors, writeSafetensors } from '../core/formats/safetensors.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { Random } from '../core/random.ts';
import { commandLine } from './support/cli.ts';
import { FIXTURES, readJson } from './support/golden.ts';
import { referenceKernels } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';
import { smallSettings, traceOf, trainAndResume } from './support/runs.ts';
import { BATCH, exampleBatch, LENGTH, modelOf, SMALL } from './support/small-model.ts';

vi.setConfig({ testTimeout: 60_000 });
const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-lora-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const { gemmoe } = commandLine(scratch);
const kernels = referenceKernels();
const EVERYTHING = ['attention', 'expert', 'router', 'head'];

/** An adapter of small random values, B not zero. */
function randomAdapter(model: Transformer, targets: readonly string[], rank = 2) {
  const adapter = createAdapter(model, targets, { rank, alpha: 3 }, 1);
  new Random(9, 'adapter').fillNormal(adapter.store.data, 0, 0.2, 0);
  return adapter;
}

describe('the gradients of A and B', () => {
  test.each([
    ['experts', SMALL],
    ['a dense model', { ...SMALL, numExperts: 1, topK: 1 }],
  ])('equal central differences in float64: %s', (_, config) => {
    const model = modelOf(config);
    const { ids, targets } = exampleBatch(config.vocabSize);
    const isDense = config.numExperts === 1;
    const adapter = randomAdapter(model, isDense ? ['attention', 'expert', 'head'] : EVERYTHING);
    const lossAt = () => {
      adapter.merge();
      const { lossSum, tokens, auxLoss } = model.evaluate(ids, targets, BATCH, LENGTH);
      return lossSum / tokens + config.auxLossCoefficient * (auxLoss ?? 0);
    };
    adapter.merge();
    model.forwardBackward(ids, targets, BATCH, LENGTH);
    const gradients = adapter.gradients();
    const values = adapter.store.data;
    for (const { name, offset, size } of adapter.store.parameters) {
      let [worst, norm] = [0, 0];
      for (let i = offset; i < offset + size; i++) {
        const kept = values[i];
        values[i] = kept + 1e-5;
        const above = lossAt();
        values[i] = kept - 1e-5;
        const below = lossAt();
        values[i] = kept;
        worst = Math.max(worst, Math.abs((above - below) / 2e-5 - gradients[i]));
        norm = Math.max(norm, Math.abs(gradients[i]));
      }
      expect(worst / Math.max(norm, 1e-3), name).toBeLessThan(1e-6);
    }
    expect(gradients.some((value) => Math.abs(value) > 1e-4)).toBe(true);
  });
});

describe('an adapter', () => {
  test('without B changes no bit, and taken out it leaves the weights as they were', () => {
    const model = new Transformer(SMALL, kernels);
    model.initialise(1);
    const before = model.parameters.data.slice();
    const adapter = createAdapter(model, EVERYTHING, { rank: 3, alpha: 6 }, 1);
    adapter.merge();
    expect(model.parameters.data).toEqual(before);
    new Random(9, 'adapter').fillNormal(adapter.store.data, 0, 0.2, 0);
    adapter.merge();
    expect(model.parameters.data).not.toEqual(before);
    adapter.merge(); // again is the same, not twice as much
    const once = model.parameters.data.slice();
    adapter.merge();
    expect(model.parameters.data).toEqual(once);
    adapter.unmerge();
    expect(model.parameters.data).toEqual(before);
  });

  test('adds alpha / r times B·A, or alpha / √r', () => {
    for (const [rankStabilised, scale] of [
      [false, 3 / 4],
      [true, 3 / 2],
    ] as const) {
      const model = modelOf(SMALL);
      const adapter = createAdapter(
        model,
        ['model.layers.0.self_attn.k_proj'],
        { rank: 4, alpha: 3, rankStabilised },
        1,
      );
      new Random(9, 'adapter').fillNormal(adapter.store.data, 0, 0.2, 0);
      const before = model.parameters.data.slice();
      adapter.merge();
      const { headDim, numHeads, numKvHeads, hiddenSize: C } = SMALL;
      const qkv = model.parameters.get('layers.0.attention.qkv');
      const [{ a, b }] = adapter.layers;
      for (let row = 0; row < qkv.shape[0]; row++) {
        const k = row - numHeads * headDim;
        for (let c = 0; c < C; c++) {
          let sum = 0;
          for (let r = 0; r < 4; r++)
            sum += k >= 0 && k < numKvHeads * headDim ? b.data[k * 4 + r] * a.data[r * C + c] : 0;
          expect(qkv.data[row * C + c] - before[qkv.offset + row * C + c]).toBeCloseTo(scale * sum, 12);
        }
      }
    }
  });

  test('may have any layers: by role, by the last part of a name, by a whole name', () => {
    const model = modelOf(SMALL);
    const modules = (...targets: string[]) =>
      createAdapter(model, targets, { rank: 1, alpha: 1 }, 1).layers.map(({ place }) => place.module);
    expect(modules('q_proj')).toEqual(['model.layers.0.self_attn.q_proj', 'model.layers.1.self_attn.q_proj']);
    expect(modules('model.layers.1.block_sparse_moe.experts.2.*')).toEqual(
      ['w1', 'w3', 'w2'].map((part) => `model.layers.1.block_sparse_moe.experts.2.${part}`),
    );
    expect(modules('attention')).toHaveLength(2 * 4);
    expect(modules('expert', 'w1')).toHaveLength(2 * 4 * 3);
    expect(modules('router', 'head')).toHaveLength(3);
    expect(refusal(() => modules('qproj')).message).toMatch(/no linear layer .* qproj/);
    expect(refusal(() => modules('qproj')).hint).toMatch(/attention, q_proj, .*lm_head/);
  });
});

describe('PEFT’s directory', () => {
  test('has the names and shapes of a Mixtral', () => {
    const model = modelOf(SMALL);
    const directory = join(scratch, 'mixtral');
    saveAdapter(
      directory,
      randomAdapter(model, ['v_proj', 'model.layers.0.block_sparse_moe.experts.3.w2']),
      model,
      'base',
    );
    const config = readJson<Record<string, unknown>>(directory, 'adapter_config.json');
    expect(config).toMatchObject({
      peft_type: 'LORA',
      r: 2,
      lora_alpha: 3,
      base_model_name_or_path: 'base',
      bias: 'none',
    });
    // v_proj alone would do, but w2 means all experts: whole names
    expect(config['target_modules']).toEqual([
      'model.layers.0.self_attn.v_proj',
      'model.layers.0.block_sparse_moe.experts.3.w2',
      'model.layers.1.self_attn.v_proj',
    ]);
    const file = openSafetensors(join(directory, 'adapter_model.safetensors'));
    const shapes = Object.fromEntries([...file.tensors].map(([name, { shape }]) => [name, shape]));
    file.close();
    const prefix = 'base_model.model.model.layers';
    expect(shapes).toEqual({
      [`${prefix}.0.self_attn.v_proj.lora_A.weight`]: [2, 6],
      [`${prefix}.0.self_attn.v_proj.lora_B.weight`]: [8, 2],
      [`${prefix}.1.self_attn.v_proj.lora_A.weight`]: [2, 6],
      [`${prefix}.1.self_attn.v_proj.lora_B.weight`]: [8, 2],
      [`${prefix}.0.block_sparse_moe.experts.3.w2.lora_A.weight`]: [2, 5],
      [`${prefix}.0.block_sparse_moe.experts.3.w2.lora_B.weight`]: [6, 2],
    });
  });

  test.each(['llama', 'mixtral', 'olmoe', 'qwen2_moe', 'qwen3_moe', 'granitemoe'])(
    'of a %s is read back to the same logits',
    (family) => {
      const source = join(FIXTURES, 'hf', family);
      const { model } = loadModel(source, kernels);
      const ids = Int32Array.from({ length: 8 }, (_, i) => (i * 5) % model.config.vocabSize);
      const plain = model.forward(ids, 1, 8).slice();
      const adapter = randomAdapter(model, ['attention']);
      adapter.merge();
      const wanted = model.forward(ids, 1, 8).slice();
      expect(wanted).not.toEqual(plain);
      const directory = join(scratch, `adapter-${family}`);
      saveAdapter(directory, adapter, model, source);
      const { model: other } = loadModel(source, kernels);
      const loaded = loadAdapter(directory, other);
      loaded.merge();
      expect(other.forward(ids, 1, 8)).toEqual(wanted);
      loaded.unmerge();
      expect(other.forward(ids, 1, 8)).toEqual(plain);
      const merged = join(scratch, `merged-${family}`);
      mergeDirectory(source, directory, merged, kernels);
      expect(loadModel(merged, kernels).model.forward(ids, 1, 8)).toEqual(wanted);
    },
  );

  describe('that cannot be used is refused by name', () => {
    const made = join(scratch, 'sound');
    const model = modelOf(SMALL);

    beforeAll(() => saveAdapter(made, randomAdapter(model, ['q_proj']), model, null));

    /** What loading says of a copy whose config or tensors were changed. */
    function refused(
      name: string,
      config: Record<string, unknown>,
      rename: (tensor: string) => string | null = (tensor) => tensor,
    ): string {
      const directory = join(scratch, name);
      cpSync(made, directory, { recursive: true });
      const original = readJson<Record<string, unknown>>(made, 'adapter_config.json');
      writeFileSync(join(directory, 'adapter_config.json'), JSON.stringify({ ...original, ...config }));
      const file = openSafetensors(join(made, 'adapter_model.safetensors'));
      const tensors = [...file.tensors].flatMap(([tensor, { dtype, shape }]) => {
        const wanted = rename(tensor);
        return wanted === null ? [] : [{ name: wanted, dtype, shape, parts: [file.readRaw(tensor)] }];
      });
      writeSafetensors(join(directory, 'adapter_model.safetensors'), tensors);
      file.close();
      return refusal(() => loadAdapter(directory, modelOf(SMALL))).message;
    }

    test.each<[string, Record<string, unknown>, RegExp]>([
      ['dora', { use_dora: true }, /use_dora is true, which is not supported/],
      ['bias', { bias: 'all' }, /bias is "all", and anything but "none"/],
      ['transposed', { fan_in_fan_out: true }, /fan_in_fan_out is true/],
      ['modules', { modules_to_save: ['lm_head'] }, /modules_to_save is \["lm_head"\]/],
      ['ranks', { rank_pattern: { q_proj: 4 } }, /rank_pattern is/],
      ['kind', { peft_type: 'IA3' }, /peft_type is "IA3"/],
      ['rank', { r: 5 }, /lora_A\.weight is \[2,6\], but \[5,6\] fits the model and rank 5/],
      ['no-rank', { r: null }, /r is missing; a whole number/],
      ['alpha', { lora_alpha: 0 }, /lora_alpha is 0/],
    ])('%s', (name, config, message) => {
      expect(refused(name, config)).toMatch(message);
    });

    test('tensors of other layers, halves of a pair, and none', () => {
      expect(refused('stray', {}, (tensor) => tensor.replace('layers.1', 'layers.7'))).toMatch(
        /model\.layers\.7\.self_attn\.q_proj is no linear layer of this model/,
      );
      expect(
        refused('half', {}, (tensor) => (tensor.includes('layers.1') && tensor.includes('_B') ? null : tensor)),
      ).toMatch(/layers\.1\.self_attn\.q_proj has no tensor lora_B/);
      expect(refused('other', {}, (tensor) => tensor.replace('lora_A', 'lora_embedding_A'))).toMatch(
        /is none of a LoRA/,
      );
      expect(refused('none', {}, () => null)).toMatch(/there is no tensor in it/);
      expect(refusal(() => loadAdapter(scratch, model)).message).toMatch(
        /is no adapter: it has no adapter_config\.json/,
      );
    });

    test('weights that are held as bfloat16', () => {
      const held = new Transformer(SMALL, kernels, { weights: 'bf16' });
      expect(refusal(() => loadAdapter(made, held)).message).toMatch(/held in bfloat16/);
    });
  });
});

describe('a run', () => {
  const base = join(scratch, 'base');
  const lora = { rank: 2, alpha: 4, targets: ['attention', 'expert'] };
  const settings = (changes = {}) => smallSettings(scratch, { initFrom: base, lora, steps: 12, ...changes });

  beforeAll(async () => {
    await trainAndResume(smallSettings(scratch, { steps: 2, learningRate: 1e-3 }), join(scratch, 'base-run'));
    cpSync(join(scratch, 'base-run', 'model'), base, { recursive: true });
  });

  test('learns by adapters alone: the base stays, its model is the base with the adapter', async () => {
    const before = readFileSync(join(base, 'model.safetensors'));
    const run = join(scratch, 'tuned');
    const tokenizer = join(base, 'tokenizer.json');
    const summary = await trainAndResume(settings({ tokenizer, steps: 30, learningRate: 0.02 }), run);
    const first = traceOf(run).metrics.find((record) => record.kind === 'step');
    expect(summary.trainingLoss).toBeLessThan((first as { loss: number }).loss);
    expect(readFileSync(join(base, 'model.safetensors'))).toEqual(before);

    const [{ model: start }, { model: tuned }] = [loadModel(base, kernels), loadModel(join(run, 'model'), kernels)];
    for (const { name, role, data } of start.parameters.parameters) {
      const isAdapted = role === 'attention' || role === 'expert';
      expect(tuned.parameters.get(name).data, name).toEqual(isAdapted ? expect.not.objectContaining(data) : data);
    }
    loadAdapter(join(run, 'adapter'), start).merge();
    expect(start.parameters.data).toEqual(tuned.parameters.data);
  });

  test.each(['adamw', 'muon', 'schedule-free'])(
    'with %s, stopped and resumed, has the same bits',
    async (optimizer) => {
      const tokenizer = join(base, 'tokenizer.json');
      const schedule = optimizer === 'schedule-free' ? 'constant' : 'warmup-cosine';
      const all = settings({ tokenizer, optimizer, schedule });
      const [whole, stopped] = [join(scratch, `whole-${optimizer}`), join(scratch, `stopped-${optimizer}`)];
      await trainAndResume(all, whole);
      await trainAndResume(all, stopped, 5);
      expect(traceOf(stopped)).toEqual(traceOf(whole));
      const adapter = (run: string) => readFileSync(join(run, 'adapter', 'adapter_model.safetensors'));
      expect(adapter(stopped)).toEqual(adapter(whole));
    },
  );

  test('clips by the norm of the adapters’ gradients', async () => {
    const tokenizer = join(base, 'tokenizer.json');
    const run = join(scratch, 'clipped');
    await trainAndResume(settings({ tokenizer, steps: 1 }), run);
    const [first] = traceOf(run).metrics.flatMap((record) => (record.kind === 'step' ? [record] : []));
    const { model } = loadModel(base, kernels);
    const adapter = createAdapter(model, lora.targets, lora, 5);
    expect(first.gradientNorm).toBeGreaterThan(0);
    // B is zero at first, and with it the gradient of A: less than all of the model's
    expect(adapter.layers.every(({ b }) => b.data.every((value) => value === 0))).toBe(true);
    expect(first.gradientNorm).toBeLessThan(1);
  });
});

describe('on the command line', () => {
  const text = join(scratch, 'fox.txt');
  const base = join(scratch, 'cli-base');
  const run = join(scratch, 'cli-tuned');
  const TRAIN = ['train', '--data', text, '--backend', 'reference', '--sequence-length', '16', '--batch-size', '2'];

  beforeAll(async () => {
    writeFileSync(text, 'the quick brown fox jumps over the lazy dog\n'.repeat(50));
    const made = await gemmoe([...TRAIN, '--preset', 'tiny', '--hidden-size', '16', '--steps', '2', '--out', base]);
    expect(made.code, made.err).toBe(0);
    const tuned = await gemmoe([...TRAIN, '--init-from', base, '--lora-rank', '2', '--steps', '6', '--out', run]);
    expect(tuned.code, tuned.err).toBe(0);
    expect(tuned.out).toMatch(/adapter\/ .*PEFT/);
  });

  test('the tuned model, the base with its adapter, and both merged to a directory measure the same', async () => {
    const measured = async (...args: string[]) => {
      const { code, out, err } = await gemmoe([
        'evaluate',
        '--data',
        text,
        '--backend',
        'reference',
        '--json',
        ...args,
      ]);
      expect(code, err).toBe(0);
      return (JSON.parse(out) as { loss: number }).loss;
    };
    const wanted = await measured('--model', run);
    expect(await measured('--model', base)).not.toBe(wanted);
    expect(await measured('--model', base, '--adapter', run)).toBe(wanted);
    expect(await measured('--model', base, '--adapter', join(run, 'adapter'))).toBe(wanted);
    const merged = join(scratch, 'cli-merged');
    const made = await gemmoe(['convert', base, merged, '--adapter', run, '--backend', 'reference']);
    expect(made.code, made.err).toBe(0);
    expect(await measured('--model', merged)).toBe(wanted);
    const half = await gemmoe(['convert', base, `${merged}-half`, '--adapter', run, '--dtype', 'bf16']);
    expect(half.code, half.err).toBe(0);
    expect(await measured('--model', `${merged}-half`)).toBeCloseTo(wanted, 2);
    const again = await gemmoe(['convert', base, merged, '--adapter', run]);
    expect(again.code).toBe(1);
    expect(again.err).toMatch(/exists|not empty/);
  });

  test.each([
    [['--lora-rank', '2'], /--lora-rank adapts a model, and none is given/],
    [['--lora-alpha', '2', '--init-from', base], /no --lora-rank/],
    [['--lora-targets', 'attention', '--init-from', base], /no --lora-rank/],
    [['--lora-rank', '2', '--init-from', base, '--train-only', 'router'], /--train-only chooses weights/],
    [['--lora-rank', '2', '--init-from', base, '--ema', '0.9'], /ema averages weights/],
    [['--lora-rank', '2', '--init-from', base, '--lora-targets', 'qproj'], /no linear layer .* qproj/],
    [['--lora-rank', '0', '--init-from', base], /lora-rank/],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await gemmoe([...TRAIN, '--steps', '1', '--out', join(scratch, 'never'), ...args]);
    expect(code).not.toBe(0);
    expect(err).toMatch(message);
  });

  test('what would be passed over is refused', async () => {
    const held = await gemmoe(['generate', '--model', base, '--adapter', run, '--weights', 'bf16', '--prompt', 'the']);
    expect(held.err).toMatch(/held in bfloat16/);
    const gguf = await gemmoe(['convert', base, join(scratch, 'x.gguf'), '--to', 'gguf', '--adapter', run]);
    expect(gguf.err).toMatch(/not merged into a GGUF/);
    const idle = await gemmoe(['convert', base, join(scratch, 'y'), '--backend', 'reference']);
    expect(idle.err).toMatch(/--backend has no meaning without --adapter/);
    const resumed = await gemmoe(['train', '--resume', run, '--steps', '6', '--lora-rank', '4']);
    expect(resumed.err).toMatch(/--lora-rank/);
  });
});

test('a directory of adapters is written whole, and not over another', () => {
  const model = new Transformer({ ...PRESETS['tiny'].config, vocabSize: 11 }, kernels);
  model.initialise(1);
  saveModel(join(scratch, 'occupied'), model);
  const adapter = createAdapter(model, ['attention'], { rank: 1, alpha: 1 }, 1);
  expect(() => saveAdapter(join(scratch, 'occupied'), adapter, model, null)).toThrow();
});
