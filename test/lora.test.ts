// Low-rank adapters: what they compute, what trains, how PEFT's files name it, and what is refused.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readAdapterConfig } from '../core/formats/adapter-config.ts';
import { loadAdapter, saveAdapter } from '../core/formats/adapter.ts';
import { loadModel } from '../core/formats/hugging-face.ts';
import { chooseModules, linearModules } from '../core/formats/linear-modules.ts';
import { readJsonObject, writeJson } from '../core/formats/json-files.ts';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../core/formats/safetensors.ts';
import { LoraAdapter } from '../core/model/lora.ts';
import type { Transformer } from '../core/model/transformer.ts';
import { Random } from '../core/random.ts';
import { expectGradient } from './support/differences.ts';
import { type Expected, FIXTURES, readJson } from './support/golden.ts';
import { bindKernels } from '../core/kernels.ts';
import { backendNamed, referenceKernels, USABLE_BACKENDS } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';
import { BATCH, exampleBatch, LENGTH, modelOf, SMALL } from './support/small-model.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-lora-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const kernels = referenceKernels();
const fixture = (family: string) => join(FIXTURES, 'hf', family);
const load = (family: string, use = kernels) => loadModel(fixture(family), use).model;

/** An adapter on what `patterns` mean, both factors filled. */
function adapterOn(model: Transformer, patterns: string[], rank = 3, rsLora = false): LoraAdapter {
  const adapter = new LoraAdapter(model, chooseModules(linearModules(model), patterns), { rank, alpha: 5, rsLora });
  adapter.initialise(1);
  for (const [i, { b }] of adapter.targets.entries()) new Random(2, 'test').fillNormal(b.data, 0, 0.1, i);
  return adapter;
}

function logitsOf(model: Transformer, family: string): Float32Array {
  const { ids } = readJson<Expected>(fixture(family), 'expected.json');
  return Float32Array.from(model.forward(Int32Array.from(ids.flat()), ids.length, ids[0].length));
}

const bytesOf = ({ data }: { readonly data: ArrayBufferView }) =>
  Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');

const FAMILIES = ['llama', 'mixtral', 'granitemoe', 'granitemoeshared', 'qwen2_moe', 'olmoe'];

describe('the sum W + s·B·A', () => {
  test.each(USABLE_BACKENDS)('with B = 0 gives the logits of the model to the bit, on %s', (name) => {
    const backend = backendNamed(name);
    const model = load('mixtral', bindKernels(backend));
    const before = logitsOf(model, 'mixtral');
    const adapter = new LoraAdapter(model, linearModules(model), { rank: 4, alpha: 8 });
    adapter.initialise(7);
    adapter.merge();
    expect(Buffer.from(logitsOf(model, 'mixtral').buffer).equals(Buffer.from(before.buffer))).toBe(true);
    backend.close();
  });

  test.each(USABLE_BACKENDS)('counts where weights were held packed before, on %s', (name) => {
    const backend = backendNamed(name);
    const model = load('mixtral', bindKernels(backend));
    const before = logitsOf(model, 'mixtral');
    const adapter = adapterOn(model, ['attention|expert']);
    model.holdWeights();
    adapter.merge();
    const merged = logitsOf(model, 'mixtral');
    expect(merged).not.toEqual(before);
    model.holdWeights();
    expect(logitsOf(model, 'mixtral')).toEqual(merged);
    adapter.unmerge();
    expect(logitsOf(model, 'mixtral')).toEqual(before);
    model.releaseWeights();
    backend.close();
  });

  test.each([false, true])('is what the equation says, rank-stabilised: %s', (rsLora) => {
    const model = load('mixtral');
    const adapter = adapterOn(model, ['k_proj', 'experts.2.w3'], 3, rsLora);
    const before = model.parameters.data.slice();
    adapter.merge();
    const scale = rsLora ? 5 / Math.sqrt(3) : 5 / 3;
    const wanted = before.slice();
    for (const { module, weight, a, b } of adapter.targets) {
      const { rows, columns } = module;
      for (let o = 0; o < rows; o++) {
        for (let i = 0; i < columns; i++) {
          let sum = 0;
          for (let r = 0; r < 3; r++) sum += b.data[o * 3 + r] * a.data[r * columns + i];
          wanted[weight.offset + module.offset + o * columns + i] += scale * sum;
        }
      }
    }
    let [changed, worst] = [0, 0];
    for (let i = 0; i < wanted.length; i++) {
      worst = Math.max(worst, Math.abs(model.parameters.data[i] - wanted[i]));
      if (model.parameters.data[i] !== before[i]) changed++;
    }
    expect(worst).toBeLessThan(1e-6);
    expect(changed).toBeGreaterThan(0.9 * adapter.targetSize);
    expect(changed).toBeLessThanOrEqual(adapter.targetSize);
  });

  test.each(FAMILIES)('taken back, %s has its bytes again', (family) => {
    const model = load(family);
    const before = bytesOf(model.parameters);
    const adapter = adapterOn(model, ['attention|expert|router']);
    adapter.merge();
    expect(bytesOf(model.parameters)).not.toBe(before);
    adapter.merge(); // again, as after a step: not added twice
    const once = load(family);
    adapterOn(once, ['attention|expert|router']).mergeForGood();
    expect(bytesOf(model.parameters)).toBe(bytesOf(once.parameters));
    adapter.unmerge();
    expect(adapter.isMerged).toBe(false);
    expect(bytesOf(model.parameters)).toBe(before);
  });

  test('the gradients of A and B are those of finite differences, and the rest is left zero', () => {
    const model = modelOf({ ...SMALL, family: 'mixtral' });
    const adapter = adapterOn(model, ['*']);
    expect(adapter.targets.length).toBe(2 * (4 + 1 + 4 * 3) + 1);
    const { ids, targets } = exampleBatch(SMALL.vocabSize);
    adapter.merge();
    model.forwardBackward(ids, targets, BATCH, LENGTH);
    adapter.takeGradients();
    expect(model.parameters.gradient.every((value) => value === 0)).toBe(true);
    const gradients = adapter.store.gradient.slice();
    const loss = () => {
      adapter.merge();
      const { lossSum, tokens, auxLoss } = model.evaluate(ids, targets, BATCH, LENGTH);
      return lossSum / tokens + SMALL.auxLossCoefficient * (auxLoss ?? 0);
    };
    // a layer of each kind; expert 0 of layer 1 is chosen by some row
    for (const name of [
      '0.self_attn.k_proj',
      '1.self_attn.o_proj',
      '0.block_sparse_moe.gate',
      '1.block_sparse_moe.experts.0.w2',
    ]) {
      const target = adapter.targets.find(({ module }) => module.name.endsWith(name));
      for (const factor of [target?.a, target?.b]) {
        if (!factor) throw new Error(`no ${name}`);
        const { offset, size } = factor;
        expectGradient(factor.name, factor.data, gradients.subarray(offset, offset + size), loss);
      }
    }
  });

  test('the gradients of a tensor of all experts are those of its experts apart', () => {
    const model = load('granitemoe');
    const adapter = adapterOn(model, ['expert'], 2);
    const { ids } = readJson<Expected>(fixture('granitemoe'), 'expected.json');
    const flat = Int32Array.from(ids.flat());
    const kept = adapter.store;
    adapter.merge();
    model.forwardBackward(flat, flat, ids.length, ids[0].length);
    const { module, weight, a, b } = adapter.targets[0];
    const { rows, columns, experts, offset } = module;
    const dW = weight.gradient.slice();
    adapter.takeGradients();
    expect(experts).toBe(8);
    const e = 5;
    let largest = 0;
    for (let r = 0; r < 2; r++) {
      for (let i = 0; i < columns; i++) {
        let sum = 0;
        for (let o = 0; o < rows; o++) {
          sum += b.data[e * rows * 2 + o * 2 + r] * dW[offset + (e * rows + o) * columns + i];
        }
        largest = Math.max(largest, Math.abs(sum));
        expect(Math.abs(a.gradient[(e * 2 + r) * columns + i] - (5 / 2) * sum)).toBeLessThan(1e-6);
      }
    }
    expect(largest).toBeGreaterThan(1e-5);
    expect(kept.total).toBe(adapter.size);
  });
});

describe('PEFT’s files', () => {
  /** Names and shapes as `model.named_parameters()` of PEFT has them. */
  const LAYERS: Record<
    string,
    [patterns: string[], tensors: Record<string, number[]>, config: Record<string, unknown>]
  > = {
    llama: [
      ['q_proj', 'model.layers.1.mlp.down_proj'],
      {
        'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight': [3, 32],
        'base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight': [32, 3],
        'base_model.model.model.layers.1.mlp.down_proj.lora_A.weight': [3, 48],
        'base_model.model.model.layers.1.mlp.down_proj.lora_B.weight': [32, 3],
        'base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight': [3, 32],
        'base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight': [32, 3],
      },
      { target_modules: ['model.layers.1.mlp.down_proj', 'q_proj'], target_parameters: null },
    ],
    mixtral: [
      ['layers.1.attention.qkv', 'experts.3.w1', 'lm_head'],
      {
        'base_model.model.lm_head.lora_A.weight': [3, 32],
        'base_model.model.lm_head.lora_B.weight': [96, 3],
        'base_model.model.model.layers.0.block_sparse_moe.experts.3.w1.lora_A.weight': [3, 32],
        'base_model.model.model.layers.0.block_sparse_moe.experts.3.w1.lora_B.weight': [24, 3],
        'base_model.model.model.layers.1.block_sparse_moe.experts.3.w1.lora_A.weight': [3, 32],
        'base_model.model.model.layers.1.block_sparse_moe.experts.3.w1.lora_B.weight': [24, 3],
        'base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight': [3, 32],
        'base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight': [16, 3],
        'base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight': [3, 32],
        'base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight': [32, 3],
        'base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight': [3, 32],
        'base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight': [16, 3],
      },
      {
        target_modules: [
          'lm_head',
          'model.layers.0.block_sparse_moe.experts.3.w1',
          'model.layers.1.block_sparse_moe.experts.3.w1',
          'model.layers.1.self_attn.k_proj',
          'model.layers.1.self_attn.q_proj',
          'model.layers.1.self_attn.v_proj',
        ],
      },
    ],
    // experts in one tensor: 8 of them, A [E·r,in] and B [out,r·E]
    granitemoe: [
      ['layers.0.experts.*', 'o_proj'],
      {
        'base_model.model.model.layers.0.block_sparse_moe.input_linear.lora_A.weight': [24, 32],
        'base_model.model.model.layers.0.block_sparse_moe.input_linear.lora_B.weight': [48, 24],
        'base_model.model.model.layers.0.block_sparse_moe.output_linear.lora_A.weight': [24, 24],
        'base_model.model.model.layers.0.block_sparse_moe.output_linear.lora_B.weight': [32, 24],
        'base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight': [3, 32],
        'base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight': [32, 3],
        'base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight': [3, 32],
        'base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight': [32, 3],
      },
      {
        target_modules: ['o_proj'],
        target_parameters: [
          'model.layers.0.block_sparse_moe.input_linear.weight',
          'model.layers.0.block_sparse_moe.output_linear.weight',
        ],
      },
    ],
  };

  test.each(Object.entries(LAYERS))('of %s have its names and shapes', (family, [patterns, tensors, config]) => {
    const directory = join(scratch, `names-${family}`);
    saveAdapter(directory, adapterOn(load(family), patterns), 'some/model');
    const file = openSafetensors(join(directory, 'adapter_model.safetensors'));
    expect(Object.fromEntries([...file.tensors].map(([name, { shape }]) => [name, shape]))).toEqual(tensors);
    file.close();
    expect(readJsonObject(join(directory, 'adapter_config.json'))).toMatchObject({
      ...{ peft_type: 'LORA', task_type: 'CAUSAL_LM', r: 3, lora_alpha: 5, lora_dropout: 0, bias: 'none' },
      ...{ fan_in_fan_out: false, use_rslora: false, use_dora: false, base_model_name_or_path: 'some/model' },
      ...config,
    });
  });

  test('hold the factors as they are, those of a tensor of experts with the experts innermost in B', () => {
    const directory = join(scratch, 'factors');
    const adapter = adapterOn(load('granitemoe'), ['layers.0.experts.gate_up', 'layers.0.attention.output']);
    saveAdapter(directory, adapter, null);
    const file = openSafetensors(join(directory, 'adapter_model.safetensors'));
    const read = (name: string, size: number) => {
      const values = new Float32Array(size);
      file.read(`base_model.model.model.layers.0.${name}.weight`, values);
      return values;
    };
    const [plain, fused] = adapter.targets;
    expect(read('self_attn.o_proj.lora_A', 3 * 32)).toEqual(plain.a.data);
    expect(read('self_attn.o_proj.lora_B', 32 * 3)).toEqual(plain.b.data);
    expect(read('block_sparse_moe.input_linear.lora_A', 24 * 32)).toEqual(fused.a.data);
    const b = read('block_sparse_moe.input_linear.lora_B', 48 * 24);
    // element (out 7, r 2) of expert 5
    expect(b[7 * 24 + 2 * 8 + 5]).toBe(fused.b.data[5 * 48 * 3 + 7 * 3 + 2]);
    file.close();
  });

  test.each(FAMILIES)('give the same adapter of %s when they are read', (family) => {
    const directory = join(scratch, `again-${family}`);
    const adapter = adapterOn(load(family), ['attention|expert|router'], 2, true);
    saveAdapter(directory, adapter, null);
    const again = loadAdapter(directory, load(family));
    expect([again.rank, again.alpha, again.rsLora, again.scale]).toEqual([2, 5, true, adapter.scale]);
    expect(again.targets.map(({ module }) => module.name)).toEqual(adapter.targets.map(({ module }) => module.name));
    expect(bytesOf(again.store)).toBe(bytesOf(adapter.store));
  });

  test('an adapter of PEFT’s in bfloat16, with the fields that PEFT writes, is read', () => {
    const directory = join(scratch, 'bfloat16');
    const adapter = adapterOn(load('llama'), ['v_proj']);
    saveAdapter(directory, adapter, null);
    rewrite(directory, ({ name, shape, dtype, parts }) => {
      const [part] = parts as Float32Array[];
      const bits = new Uint16Array(part.length);
      kernels.toBf16(bits, part);
      return dtype === 'F32' ? { name, shape, dtype: 'BF16', parts: [bits] } : { name, shape, dtype, parts };
    });
    change(directory, {
      ...{
        eva_config: null,
        loftq_config: {},
        megatron_config: null,
        megatron_core: 'megatron.core',
        lora_dropout: 0.1,
      },
      ...{ qalora_group_size: 16, use_qalora: false, trainable_token_indices: null, layers_to_transform: null },
      ...{ peft_version: '0.19.1', target_modules: ['v_proj'], exclude_modules: null, corda_config: null },
    });
    const read = loadAdapter(directory, load('llama'));
    const [values, wanted] = [read.store.data, adapter.store.data];
    let different = 0;
    for (let i = 0; i < wanted.length; i++) {
      expect(Math.abs(values[i] - wanted[i])).toBeLessThanOrEqual(2 ** -8 * Math.abs(wanted[i]));
      if (values[i] !== wanted[i]) different++;
    }
    expect(different).toBeGreaterThan(10);
  });
});

describe('a model that takes no such adapter', () => {
  test('names a target that there is not', () => {
    const modules = linearModules(load('mixtral'));
    const { message, hint } = refusal(() => chooseModules(modules, ['attention', 'experts']));
    expect(message).toMatch(/^experts is no linear layer of this model/);
    expect(hint).toMatch(/roles: attention, router, expert, head; layers: q_proj, .*w1.*lm_head/);
  });

  test('an embedding and a tied head are no linear layers', () => {
    const tied = linearModules(load('granitemoe'));
    expect(tied.some(({ name }) => /embed|lm_head/.test(name))).toBe(false);
    expect(() => chooseModules(tied, ['head'])).toThrow(/head is no linear layer/);
  });

  test('weights that are held as bfloat16 are refused', () => {
    const { model } = loadModel(fixture('llama'), kernels, { weights: 'bf16' });
    expect(() => new LoraAdapter(model, linearModules(model), { rank: 2, alpha: 2 })).toThrow(/held in bfloat16/);
  });
});

describe('an adapter that cannot be used is refused by name', () => {
  const made = (name: string) => {
    const directory = join(scratch, name);
    saveAdapter(directory, adapterOn(load('llama'), ['q_proj', 'v_proj']), null, { replace: true });
    return directory;
  };

  test.each([
    ['use_dora', true],
    ['bias', 'lora_only'],
    ['modules_to_save', ['lm_head']],
    ['rank_pattern', { 'model.layers.0.self_attn.q_proj': 4 }],
    ['alpha_pattern', { q_proj: 4 }],
    ['fan_in_fan_out', true],
    ['lora_bias', true],
    ['init_lora_weights', 'pissa'],
    ['peft_type', 'LOHA'],
    ['layer_replication', [[0, 1]]],
    ['trainable_token_indices', [3]],
    ['use_of_the_future', true],
  ])('%s: %j', (key, value) => {
    const directory = made('fields');
    change(directory, { [key]: value });
    const { code, message } = refusal(() => loadAdapter(directory, load('llama')));
    expect(code).toBe('unavailable');
    expect(message).toBe(
      `${join(directory, 'adapter_config.json')}: ${key} is ${JSON.stringify(value)}, which is not supported`,
    );
  });

  test.each([
    ['r', 2.5, /r is 2.5; a whole number is wanted/],
    ['r', undefined, /r is missing; a positive number is wanted/],
    ['lora_alpha', -1, /lora_alpha is -1; a positive number/],
    ['use_rslora', 'yes', /use_rslora is "yes"; true or false/],
    ['r', 4, /q_proj\.lora_A\.weight is \[3,32\], the model and the rank want \[4,32\]/],
    ['target_modules', ['q_proj', 'k_proj'], /names k_proj as a target, of which .* has no tensor/],
    ['target_parameters', ['experts.weight'], /names experts as a target/],
  ])('%s: %j', (key, value, wanted) => {
    const directory = made('values');
    change(directory, { [key]: value });
    expect(refusal(() => loadAdapter(directory, load('llama'))).message).toMatch(wanted);
  });

  test('made for another model', () => {
    const directory = made('other-model');
    // as wide, but with a narrower value projection
    expect(refusal(() => loadAdapter(directory, modelOf(SMALL))).message).toMatch(
      /lora_[AB]\.weight is \[\d+,\d+\], the model and the rank want/,
    );
  });

  test('with a tensor of an unknown name, and without one of a pair', () => {
    const directory = made('names');
    rewrite(directory, (tensor) => ({
      ...tensor,
      name: tensor.name.replace('layers.1.self_attn.q_proj', 'layers.9.self_attn.q_proj'),
    }));
    expect(refusal(() => loadAdapter(directory, load('llama'))).message).toMatch(
      /tensor .*layers\.9\.self_attn\.q_proj\.lora_A\.weight belongs to no linear layer/,
    );
    const half = made('half');
    rewrite(half, (tensor) => (tensor.name.endsWith('layers.1.self_attn.q_proj.lora_B.weight') ? undefined : tensor));
    expect(refusal(() => loadAdapter(half, load('llama'))).message).toMatch(
      /layers\.1\.self_attn\.q_proj\.lora_B\.weight is missing/,
    );
    const embedding = made('embedding');
    rewrite(embedding, (tensor) => ({ ...tensor, name: tensor.name.replace('lora_A', 'lora_embedding_A') }));
    expect(refusal(() => loadAdapter(embedding, load('llama'))).message).toMatch(/lora_embedding_A/);
  });

  test('without its files', () => {
    expect(refusal(() => loadAdapter(fixture('llama'), load('llama'))).message).toMatch(
      /is no adapter: it has no adapter_config.json/,
    );
    const directory = made('no-weights');
    rmSync(join(directory, 'adapter_model.safetensors'));
    expect(refusal(() => loadAdapter(directory, load('llama'))).message).toMatch(
      /there is no .*adapter_model\.safetensors/,
    );
    expect(readAdapterConfig(directory).rank).toBe(3);
  });
});

/** Changes fields of an adapter's config; undefined removes one. */
function change(directory: string, fields: Record<string, unknown>): void {
  const path = join(directory, 'adapter_config.json');
  writeJson(path, { ...readJsonObject(path), ...fields });
}

/** Writes the tensors of an adapter anew, each as `map` gives it. */
function rewrite(directory: string, map: (tensor: TensorToWrite) => TensorToWrite | undefined): void {
  const path = join(directory, 'adapter_model.safetensors');
  const file = openSafetensors(path);
  const tensors = [...file.tensors].map(([name, { dtype, shape }]): TensorToWrite => {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    file.read(name, values);
    return { name, dtype, shape, parts: [values] };
  });
  file.close();
  writeSafetensors(
    path,
    tensors.flatMap((tensor) => map(tensor) ?? []),
  );
}
