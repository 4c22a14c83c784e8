// Hugging Face directories: every tensor to its place and back, and configs that do not fit their tensors.

import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Tokenizer } from '../core/data/tokenizer.ts';
import { GemmoeError } from '../core/errors.ts';
import { exportFamily, FAMILIES } from '../core/formats/families/index.ts';
import { loadModel, readModelConfig, saveModel } from '../core/formats/hugging-face.ts';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../core/formats/safetensors.ts';
import { type ModelConfig, ropeBase } from '../core/model/config.ts';
import { Transformer } from '../core/model/transformer.ts';
import { toBf16 } from '../core/ops/cast.ts';
import { FIXTURES, readJson } from './support/golden.ts';
import { referenceKernels } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';

const HF = join(FIXTURES, 'hf');
const kernels = referenceKernels();

let folder: string;
let count = 0;
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'gemmoe-hf-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A path that does not exist yet. */
function fresh(): string {
  return join(folder, `model-${count++}`);
}

/** A copy of a fixture, its config.json changed. */
function copyOf(family: string, changes: Record<string, unknown> = {}): string {
  const directory = fresh();
  cpSync(join(HF, family), directory, { recursive: true });
  const path = join(directory, 'config.json');
  writeFileSync(path, JSON.stringify({ ...readJson<object>(path), ...changes }));
  return directory;
}

/** What an action throws, which must be an error made for users. */
type Floats = { shape: readonly number[]; data: Float32Array };

function tensorsIn(directory: string): Map<string, Floats> {
  const file = openSafetensors(join(directory, 'model.safetensors'));
  const tensors = [...file.tensors].map(([name, { shape, begin, end }]): [string, Floats] => {
    const data = new Float32Array((end - begin) / 4);
    file.read(name, data);
    return [name, { shape, data }];
  });
  file.close();
  return new Map(tensors);
}

function writeTensors(directory: string, tensors: Map<string, Floats>, file = 'model.safetensors'): void {
  const list = [...tensors].map(([name, { shape, data }]): TensorToWrite => ({
    name,
    dtype: 'F32',
    shape,
    parts: [data],
  }));
  writeSafetensors(join(directory, file), list);
}

/** A copy of a fixture, its tensors changed. */
function withTensors(family: string, change: (tensors: Map<string, Floats>) => void): string {
  const directory = copyOf(family);
  const tensors = tensorsIn(directory);
  change(tensors);
  writeTensors(directory, tensors);
  return directory;
}

const SMALL: ModelConfig = {
  vocabSize: 11,
  hiddenSize: 8,
  numLayers: 2,
  numHeads: 2,
  numKvHeads: 1,
  headDim: 4,
  numExperts: 3,
  topK: 2,
  expertWidth: 5,
  maxSequenceLength: 16,
  ropeTheta: 10000,
  ropeAlpha: 1,
  normEps: 1e-5,
  tieEmbeddings: false,
  auxLossCoefficient: 0.02,
  auxLossReduction: 'perLayer',
};

function newModel(changes: Partial<ModelConfig> = {}): Transformer {
  const model = new Transformer({ ...SMALL, ...changes }, kernels);
  model.initialise(3);
  return model;
}

describe('import and export', () => {
  test.each([
    ...['llama', 'llama3', 'llama_linear', 'llama_yarn', 'mistral', 'qwen2', 'qwen3'],
    ...['mixtral', 'mixtral_mqa', 'train_mixtral', 'train_mixtral/after'],
    ...['olmoe', 'olmoe_clip', 'qwen3_moe', 'qwen2_moe', 'granitemoe', 'granitemoeshared'],
  ])('%s comes out with the bytes that went in', (family) => {
    const { model, original, generation } = loadModel(join(HF, family), kernels);
    const directory = fresh();
    saveModel(directory, model, { original, generation });
    const bytes = (path: string) => readFileSync(join(path, 'model.safetensors'));
    expect(bytes(directory).equals(bytes(join(HF, family)))).toBe(true);
    expect(readModelConfig(directory).config).toEqual(model.config);
    expect(readJson(directory, 'generation_config.json')).toEqual(readJson(HF, family, 'generation_config.json'));
    const written = readJson<Record<string, unknown>>(directory, 'config.json');
    const { head_dim: _, ...read } = original;
    expect(written).toMatchObject(read);
  });

  const sizes = fc.record({
    vocabSize: fc.integer({ min: 1, max: 9 }),
    hiddenSize: fc.integer({ min: 1, max: 9 }),
    numLayers: fc.integer({ min: 1, max: 3 }),
    numKvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    halfHead: fc.integer({ min: 1, max: 3 }),
    numExperts: fc.integer({ min: 1, max: 4 }),
    expertWidth: fc.integer({ min: 1, max: 5 }),
    tieEmbeddings: fc.boolean(),
    auxLossReduction: fc.constantFrom('perLayer' as const, 'pooled' as const),
  });

  test('the places of every layout cover every element of every parameter once', () => {
    fc.assert(
      fc.property(sizes, ({ group, halfHead, ...rest }) => {
        const config = { ...SMALL, ...rest, numHeads: rest.numKvHeads * group, headDim: 2 * halfHead, topK: 1 };
        const model = new Transformer(config, kernels);
        const family = FAMILIES.filter((candidate) => candidate.exports(config));
        expect(exportFamily(config).modelType).toBe(config.numExperts > 1 ? 'mixtral' : 'llama');
        for (const places of family.flatMap((each) => each.layouts(config))) {
          expect(new Set(places.map(({ name }) => name)).size).toBe(places.length);
          for (const { data } of model.parameters.parameters) data.fill(0);
          for (const { parameter, offset, shape } of places) {
            const { data } = model.parameters.get(parameter);
            const end = offset + shape.reduce((product, size) => product * size, 1);
            expect(end).toBeLessThanOrEqual(data.length);
            for (let i = offset; i < end; i++) data[i]++;
          }
          expect(model.parameters.parameters.filter(({ data }) => data.some((times) => times !== 1))).toEqual([]);
        }
      }),
      { numRuns: 50, seed: 5 },
    );
  });

  test('any shape of model comes back with its weights and its config', () => {
    fc.assert(
      fc.property(sizes, ({ group, halfHead, ...rest }) => {
        const E = rest.numExperts;
        const shape = { ...rest, numHeads: rest.numKvHeads * group, headDim: 2 * halfHead, topK: Math.min(2, E) };
        // a dense model has no auxiliary loss, and its file no place for one
        const model = newModel({ ...shape, ...(E === 1 && { auxLossCoefficient: 0, auxLossReduction: 'pooled' }) });
        const directory = fresh();
        saveModel(directory, model);
        const back = loadModel(directory, kernels).model;
        expect(back.config).toEqual(model.config);
        expect(back.parameters.data).toEqual(model.parameters.data);
        expect(existsSync(join(directory, 'model.safetensors.index.json'))).toBe(false);
      }),
      { numRuns: 25, seed: 5 },
    );
  });

  test('q, k and v are rows of qkv; w1, w3 and w2 of an expert are rows of gate_up and down', () => {
    const tensors = tensorsIn(join(HF, 'mixtral'));
    const { model } = loadModel(join(HF, 'mixtral'), kernels);
    const joined = (...names: string[]) =>
      Float32Array.from(names.flatMap((name) => [...(tensors.get(`model.layers.1.${name}.weight`) as Floats).data]));
    const qkv = joined('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj');
    expect(model.parameters.get('layers.1.attention.qkv').data).toEqual(qkv);
    const experts = Array.from({ length: model.config.numExperts }, (_, e) => `block_sparse_moe.experts.${e}`);
    const gateUp = joined(...experts.flatMap((expert) => [`${expert}.w1`, `${expert}.w3`]));
    expect(model.parameters.get('layers.1.experts.gate_up').data).toEqual(gateUp);
    expect(model.parameters.get('layers.1.experts.down').data).toEqual(joined(...experts.map((e) => `${e}.w2`)));
  });

  test.each(['mlp', 'block_sparse_moe'])('the fused layout of transformers 5 loads, under %s', (part) => {
    const classic = loadModel(join(HF, 'mixtral'), kernels).model;
    const { numLayers, numExperts: E, hiddenSize: C, expertWidth: F } = classic.config;
    const directory = withTensors('mixtral', (tensors) => {
      for (const name of tensors.keys()) if (name.includes('block_sparse_moe')) tensors.delete(name);
      for (let layer = 0; layer < numLayers; layer++) {
        const data = (name: string) => classic.parameters.get(`layers.${layer}.${name}`).data as Float32Array;
        const file = `model.layers.${layer}.${part}`;
        tensors.set(`${file}.gate.weight`, { shape: [E, C], data: data('router') });
        tensors.set(`${file}.experts.gate_up_proj`, { shape: [E, 2 * F, C], data: data('experts.gate_up') });
        tensors.set(`${file}.experts.down_proj`, { shape: [E, C, F], data: data('experts.down') });
      }
    });
    expect(loadModel(directory, kernels).model.parameters.data).toEqual(classic.parameters.data);
  });

  test('bfloat16 weights load, exactly', () => {
    const directory = copyOf('llama');
    const rounded = new Map<string, Float32Array>();
    const list = [...tensorsIn(directory)].map(([name, { shape, data }]): TensorToWrite => {
      const bits = new Uint16Array(data.length);
      toBf16(bits, data);
      rounded.set(name, new Float32Array(Uint32Array.from(bits, (b) => b << 16).buffer));
      return { name, dtype: 'BF16', shape, parts: [bits] };
    });
    writeSafetensors(join(directory, 'model.safetensors'), list);
    const { model } = loadModel(directory, kernels);
    expect(model.parameters.get('embedding').data).toEqual(rounded.get('model.embed_tokens.weight'));
    expect(model.parameters.get('layers.1.attention.output').data).toEqual(
      rounded.get('model.layers.1.self_attn.o_proj.weight'),
    );
  });

  test('weights load into float64 too', () => {
    const { model } = loadModel(join(HF, 'llama'), kernels, { dtype: 'f64' });
    const { model: single } = loadModel(join(HF, 'llama'), kernels);
    expect(model.parameters.data).toEqual(Float64Array.from(single.parameters.data));
  });

  test('a tied model is written without lm_head, and read with one or without', () => {
    const model = newModel({ tieEmbeddings: true });
    const directory = fresh();
    saveModel(directory, model);
    const tensors = tensorsIn(directory);
    expect(tensors.has('lm_head.weight')).toBe(false);
    tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight') as Floats);
    writeTensors(directory, tensors);
    expect(loadModel(directory, kernels).model.parameters.data).toEqual(model.parameters.data);
  });

  test('the NTK stretch is baked into rope_theta, and computes the same', () => {
    const model = newModel({ ropeAlpha: 8 });
    const directory = fresh();
    saveModel(directory, model);
    const theta = ropeBase(model.config);
    expect(theta).toBeCloseTo(10000 * 8 ** 2, 3);
    const { model: back, original } = loadModel(directory, kernels);
    expect(original).toMatchObject({
      rope_theta: theta,
      rope_scaling: null,
      rope_parameters: { rope_type: 'default', rope_theta: theta },
    });
    expect(back.config).toEqual({ ...model.config, ropeTheta: theta, ropeAlpha: 1 });
    const ids = Int32Array.of(1, 2, 3, 4, 5);
    expect(Float32Array.from(back.forward(ids, 1, 5))).toEqual(Float32Array.from(model.forward(ids, 1, 5)));
  });
});

describe('config.json', () => {
  test('names the family, the type and both forms of rope', () => {
    for (const numExperts of [1, 3]) {
      const directory = fresh();
      saveModel(directory, newModel({ numExperts, topK: 1 }));
      expect(readJson(directory, 'config.json')).toMatchObject({
        model_type: numExperts > 1 ? 'mixtral' : 'llama',
        architectures: [numExperts > 1 ? 'MixtralForCausalLM' : 'LlamaForCausalLM'],
        torch_dtype: 'float32',
        dtype: 'float32',
        hidden_act: 'silu',
        head_dim: 4,
        rope_theta: 10000,
        rope_scaling: null,
        rope_parameters: { rope_type: 'default', rope_theta: 10000 },
      });
    }
  });

  test('keeps the keys of the original that are not ours, and corrects those that are', () => {
    const directory = fresh();
    const original = {
      pad_token_id: 0,
      eos_token_id: [2, 7],
      made_by: { someone: 1 },
      dtype: 'bfloat16',
      vocab_size: 5,
    };
    saveModel(directory, newModel(), { original });
    expect(readJson(directory, 'config.json')).toMatchObject({
      pad_token_id: 0,
      eos_token_id: [2, 7],
      made_by: { someone: 1 },
      dtype: 'float32',
      vocab_size: 11,
    });
  });

  test('reads the form of transformers 4, and fields left to their defaults', () => {
    const old = { rope_parameters: undefined, rope_theta: 12345, rope_scaling: null, torch_dtype: 'float32' };
    expect(readModelConfig(copyOf('mixtral', old)).config.ropeTheta).toBe(12345);
    const none = { rope_parameters: undefined, router_aux_loss_coef: undefined, rms_norm_eps: undefined };
    expect(readModelConfig(copyOf('mixtral', none)).config).toMatchObject({
      ropeTheta: 1e6,
      auxLossCoefficient: 0.001,
      normEps: 1e-5,
    });
    const dense = { rope_parameters: undefined, rms_norm_eps: undefined, head_dim: null, num_key_value_heads: null };
    expect(readModelConfig(copyOf('llama', dense)).config).toMatchObject({
      ropeTheta: 10000,
      normEps: 1e-6,
      headDim: 8,
      numKvHeads: 4,
    });
  });

  const refused: [string, Record<string, unknown>, RegExp][] = [
    ['llama', { model_type: 'lama' }, /model_type "lama" is not supported.*did you mean "llama"\?.*llama, .*mixtral/],
    ['llama', { model_type: undefined }, /model_type undefined is not supported/],
    ['llama', { hidden_act: 'gelu' }, /hidden_act is "gelu", and anything but "silu"/],
    ['llama', { attention_bias: 1 }, /attention_bias is 1; true or false/],
    ['llama', { mlp_bias: 'yes' }, /mlp_bias is "yes"; true or false/],
    ['llama', { sliding_window: 4096 }, /sliding_window is 4096/],
    ['mixtral', { sliding_window: -1 }, /sliding_window is -1; a whole number/],
    ['mistral', { sliding_window: 'all' }, /sliding_window is "all"/],
    ['qwen2', { use_sliding_window: true, layer_types: ['full_attention'] }, /layer_types is .*a list of 2 names/],
    ['qwen2', { layer_types: ['full_attention', 'linear_attention'] }, /layer_types is "linear_attention"/],
    [
      'qwen3',
      { layer_types: ['full_attention', 'sliding_attention'] },
      /layer_types is .*, but use_sliding_window is false/,
    ],
    ['mixtral', { router_jitter_noise: 0.1 }, /router_jitter_noise is 0.1/],
    ['llama', { quantization_config: { bits: 4 } }, /quantization_config is \{"bits":4\}/],
    [
      'llama',
      { rope_scaling: { type: 'linear', factor: 2 } },
      /rope_scaling.type is "linear", but rope_type is "default"/,
    ],
    [
      'llama',
      { rope_scaling: { rope_type: 'default' }, rope_parameters: { rope_type: 'yarn' } },
      /rope_scaling.rope_type is "default", but rope_type is "yarn"/,
    ],
    ['llama', { rope_parameters: { rope_type: 'ntk', factor: 8 } }, /rope_parameters.rope_type is "ntk".*llama3/],
    ['llama', { rope_parameters: { rope_type: 'llama3', factor: 8 } }, /rope_parameters.low_freq_factor is missing/],
    ['llama', { rope_parameters: { rope_type: 'linear' } }, /rope_parameters.factor is missing/],
    ['llama', { rope_parameters: { rope_type: 'linear', factor: 0 } }, /ropeScaling.factor/],
    ['llama', { rope_parameters: { rope_type: 'default', mrope_section: [1] } }, /rope_parameters.mrope_section is/],
    ['llama', { rope_parameters: { rope_type: 'longrope' } }, /rope_parameters.short_factor is missing; a list/],
    ['llama', { rope_theta: 5 }, /rope_parameters.rope_theta is 10000, but rope_theta is 5/],
    [
      'llama',
      { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } },
      /partial_rotary_factor is 0.5/,
    ],
    ['llama', { partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5/],
    ['llama', { rope_parameters: { full_attention: { rope_theta: 1 } } }, /rope_parameters.full_attention is \{/],
    ['llama', { rope_parameters: 'default' }, /rope_parameters is "default"; an object/],
    ['llama', { rope_parameters: { rope_theta: -1 } }, /rope_theta is -1; a number above 0/],
    ['llama', { hidden_size: undefined }, /hidden_size is missing; a whole number of at least 1/],
    ['llama', { hidden_size: '32' }, /hidden_size is "32"/],
    ['llama', { num_hidden_layers: 0 }, /num_hidden_layers is 0/],
    ['llama', { num_hidden_layers: 1.5 }, /num_hidden_layers is 1.5/],
    ['llama', { vocab_size: 1e300 }, /vocab_size is 1e\+300/],
    ['llama', { rms_norm_eps: 'small' }, /rms_norm_eps is "small"; a number/],
    ['llama', { rms_norm_eps: -1 }, /normEps/],
    ['llama', { tie_word_embeddings: 1 }, /tie_word_embeddings is 1; true or false/],
    ['llama', { hidden_size: 33, head_dim: null }, /head_dim is missing/],
    ['llama', { head_dim: 7 }, /headDim is 7/],
    ['llama', { num_key_value_heads: 3 }, /numHeads is 4, which numKvHeads 3 does not divide/],
    ['mixtral', { gemmoe_aux_loss_reduction: 'sum' }, /gemmoe_aux_loss_reduction is "sum"; "perLayer" or "pooled"/],
    ['mixtral', { num_local_experts: 1 }, /num_local_experts is 1; a whole number of at least 2/],
    ['mixtral', { num_experts_per_tok: 99 }, /topK is 99 but there are only/],
  ];

  test.each(refused)('%s with %j is refused by name', (family, changes, message) => {
    const directory = copyOf(family, changes);
    const error = refusal(() => loadModel(directory, kernels));
    expect(`${error.message} (${error.hint})`).toMatch(message);
    expect(error.message).toContain(join(directory, 'config.json'));
    expect(error.hint).toBeTruthy();
  });

  test.each([
    ['{"model_type":', /config.json is not JSON/],
    ['[]', /config.json holds no JSON object/],
    ['null', /config.json holds no JSON object/],
  ])('the text %s is refused', (text, message) => {
    const directory = copyOf('llama');
    writeFileSync(join(directory, 'config.json'), text);
    expect(refusal(() => readModelConfig(directory)).message).toMatch(message);
  });

  test('a directory without one, or without weights, is refused', () => {
    expect(refusal(() => loadModel(folder, kernels)).message).toBe(`${join(folder, 'config.json')} does not exist`);
    const directory = copyOf('llama');
    rmSync(join(directory, 'model.safetensors'));
    expect(refusal(() => loadModel(directory, kernels)).message).toMatch(/cannot open .*model.safetensors/);
  });

  test('with any value in any field is refused by a clear error, or loads', () => {
    const directory = copyOf('mixtral');
    const path = join(directory, 'config.json');
    const honest = readJson<Record<string, unknown>>(path);
    const value = fc.oneof(
      fc.integer({ min: -2, max: 64 }),
      fc.double(),
      fc.boolean(),
      fc.constantFrom(2 ** 31, 2 ** 53, {}),
      fc.jsonValue(),
    );
    let loaded = 0;
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(honest)), value, (key, lie) => {
        writeFileSync(path, JSON.stringify({ ...honest, [key]: lie }));
        try {
          loadModel(directory, kernels);
          loaded++;
        } catch (error) {
          expect(error).toBeInstanceOf(GemmoeError);
          expect((error as GemmoeError).message).toContain(directory);
        }
      }),
      { numRuns: 300, seed: 5 },
    );
    expect(loaded).toBeGreaterThan(50); // fields that the model does not read
    expect(loaded).toBeLessThan(250);
  });
});

describe('a config.json that disagrees with the tensors', () => {
  test.each<[string, Record<string, unknown>, RegExp]>([
    ['llama', { vocab_size: 97 }, /tensor model.embed_tokens.weight is \[96,32\] in the file, .* implies \[97,32\]/],
    [
      'llama',
      { intermediate_size: 47 },
      /tensor model.layers.0.mlp.gate_proj.weight is \[48,32\] .* implies \[47,32\]/,
    ],
    ['llama', { num_key_value_heads: 1 }, /tensor model.layers.0.self_attn.k_proj.weight is \[16,32\] .* \[8,32\]/],
    ['llama', { num_hidden_layers: 3 }, /tensor model.layers.2.input_layernorm.weight \[32\] .* is missing/],
    ['llama', { num_hidden_layers: 1 }, /tensor model.layers.1.\S+ is none that config.json implies/],
    ['llama', { num_hidden_layers: 1e12 }, /1000000000000 layers of 1 experts cannot be in \d+ bytes/],
    ['mixtral', { num_local_experts: 1e12 }, /layers of 1000000000000 experts cannot be/],
    [
      'mixtral',
      { tie_word_embeddings: false, model_type: 'llama' },
      /tensor model.layers.0.mlp.gate_proj.weight .* missing/,
    ],
  ])('%s with %j', (family, changes, message) => {
    const directory = copyOf(family, changes);
    const error = refusal(() => loadModel(directory, kernels));
    expect(error.message).toMatch(message);
    expect(error.message).toContain(directory);
  });

  test('a tensor too few, too many, transposed, or of integers', () => {
    const without = withTensors('llama', (tensors) => tensors.delete('lm_head.weight'));
    expect(refusal(() => loadModel(without, kernels)).message).toMatch(/tensor lm_head.weight \[96,32\] .* is missing/);
    const bias = { shape: [32], data: new Float32Array(32) };
    const more = withTensors('llama', (tensors) => tensors.set('model.layers.0.self_attn.o_proj.bias', bias));
    expect(refusal(() => loadModel(more, kernels)).message).toMatch(/o_proj.bias is none that config.json implies/);
    const turned = withTensors('llama', (tensors) => {
      const head = tensors.get('lm_head.weight') as Floats;
      tensors.set('lm_head.weight', { ...head, shape: [32, 96] });
    });
    expect(refusal(() => loadModel(turned, kernels)).message).toMatch(
      /lm_head.weight is \[32,96\] .* implies \[96,32\]/,
    );
  });

  test('rope frequencies that old tools stored are passed over', () => {
    const inverse = { shape: [4], data: new Float32Array(4) };
    const name = 'model.layers.0.self_attn.rotary_emb.inv_freq';
    const directory = withTensors('llama', (tensors) => tensors.set(name, inverse));
    expect(loadModel(directory, kernels).model.config.numLayers).toBe(2);
  });

  test('an expert missing is named in the layout that the file has', () => {
    const name = 'model.layers.1.block_sparse_moe.experts.2.w3.weight';
    const directory = withTensors('mixtral', (tensors) => tensors.delete(name));
    expect(refusal(() => loadModel(directory, kernels)).message).toContain(`tensor ${name} [`);
  });
});

describe('shards', () => {
  let directory: string;
  let model: Transformer;
  const INDEX = 'model.safetensors.index.json';
  beforeEach(() => {
    directory = fresh();
    model = newModel();
    saveModel(directory, model, { maxShardBytes: 600 });
  });

  function index(): { metadata: { total_size: number }; weight_map: Record<string, string> } {
    return readJson(directory, INDEX);
  }

  function shards(): string[] {
    return readdirSync(directory)
      .filter((name) => name.endsWith('.safetensors'))
      .toSorted();
  }

  test('are named and numbered, keep the limit, and load', () => {
    const names = shards();
    expect(names.length).toBeGreaterThan(5);
    const total = String(names.length).padStart(5, '0');
    expect(names.at(-1)).toBe(`model-${total}-of-${total}.safetensors`);
    expect(existsSync(join(directory, 'model.safetensors'))).toBe(false);
    expect(index().metadata.total_size).toBe(model.parameters.data.byteLength);
    expect(new Set(Object.values(index().weight_map))).toEqual(new Set(names));
    for (const name of names) {
      const file = openSafetensors(join(directory, name));
      const sizes = [...file.tensors.values()].map(({ begin, end }) => end - begin);
      file.close();
      expect(sizes.length === 1 || sizes.reduce((sum, size) => sum + size, 0) <= 600).toBe(true);
    }
    expect(loadModel(directory, kernels).model.parameters.data).toEqual(model.parameters.data);
  });

  test('a missing shard is named', () => {
    rmSync(join(directory, shards()[1]));
    expect(refusal(() => loadModel(directory, kernels)).message).toBe(
      `${join(directory, INDEX)} names ${shards()[0].replace('00001', '00002')}, which is missing`,
    );
  });

  test('a tensor that its shard does not hold is named', () => {
    const [first, second] = shards();
    const { weight_map: map, metadata } = index();
    const name = Object.keys(map).find((tensor) => map[tensor] === first) as string;
    writeFileSync(join(directory, INDEX), JSON.stringify({ metadata, weight_map: { ...map, [name]: second } }));
    expect(refusal(() => loadModel(directory, kernels)).message).toBe(
      `${join(directory, INDEX)} says ${name} is in ${second}, which does not hold it`,
    );
  });

  test('a tensor in two shards is named, with both', () => {
    const [first, second] = shards();
    cpSync(join(directory, first), join(directory, 'copy.safetensors'));
    const { weight_map: map, metadata } = index();
    const name = Object.keys(map).find((tensor) => map[tensor] === first) as string;
    const lying = { ...map, other: 'copy.safetensors' };
    writeFileSync(join(directory, INDEX), JSON.stringify({ metadata, weight_map: lying }));
    const { message } = refusal(() => loadModel(directory, kernels));
    expect(message).toBe(`${directory}: tensor ${name} is in ${first} and in copy.safetensors`);
    expect(second).toBeTruthy();
  });

  test.each(['../model.safetensors', '/etc/passwd', '..', '.', '', 'deep/model.safetensors', 7])(
    'the place %j, outside the directory or no file, is refused',
    (place) => {
      mkdirSync(join(directory, 'deep'));
      writeTensors(folder, new Map([['x', { shape: [1], data: new Float32Array(1) }]]));
      writeTensors(join(directory, 'deep'), new Map([['x', { shape: [1], data: new Float32Array(1) }]]));
      const lying = { metadata: {}, weight_map: { ...index().weight_map, x: place } };
      writeFileSync(join(directory, INDEX), JSON.stringify(lying));
      const { message } = refusal(() => loadModel(directory, kernels));
      expect(message).toContain(directory);
      expect(message).toMatch(/is no file/);
    },
  );

  test.each(['{}', '{"weight_map":null}', '{"weight_map":"x"}', '{"weight_map":[]}', '{"weight_map":{}}'])(
    'the index %s is refused',
    (text) => {
      writeFileSync(join(directory, INDEX), text);
      expect(refusal(() => loadModel(directory, kernels)).message).toMatch(
        /weight_map is missing|cannot be in 0 bytes/,
      );
    },
  );
});

describe('saving', () => {
  const tokenizer: Tokenizer = {
    kind: 'byte',
    vocabSize: 11,
    endOfText: 10,
    encode: () => [],
    decode: (ids, options) => (ids[0] === 10 && options?.specialTokens ? '<|end|>' : ''),
    toJSON: () => ({ version: '1.0', model: { type: 'BPE' } }),
  };

  test('writes the tokenizer beside the model', () => {
    const directory = fresh();
    saveModel(directory, newModel(), { tokenizer });
    expect(readdirSync(directory).toSorted()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(readJson(directory, 'tokenizer.json')).toEqual(tokenizer.toJSON());
    expect(readJson(directory, 'tokenizer_config.json')).toMatchObject({
      tokenizer_class: 'PreTrainedTokenizerFast',
      eos_token: '<|end|>',
      model_max_length: 16,
    });
    expect(readJson(directory, 'config.json')).toMatchObject({ eos_token_id: 10 });
    expect(readJson(directory, 'generation_config.json')).toMatchObject({ eos_token_id: 10 });
    expect(loadModel(directory, kernels).generation).toMatchObject({ eos_token_id: 10 });
  });

  test('refuses a folder that holds something, and leaves it as it was', () => {
    const directory = copyOf('llama');
    const before = readdirSync(directory).map((name) => readFileSync(join(directory, name), 'hex'));
    expect(refusal(() => saveModel(directory, newModel())).code).toBe('exists');
    expect(readdirSync(directory).map((name) => readFileSync(join(directory, name), 'hex'))).toEqual(before);
  });

  test('leaves nothing behind when it fails', () => {
    const directory = fresh();
    const broken: Tokenizer = {
      ...tokenizer,
      toJSON: () => {
        throw new Error('no such thing');
      },
    };
    expect(refusal(() => saveModel(directory, newModel(), { tokenizer: broken })).message).toContain(directory);
    expect(readdirSync(folder).filter((name) => name.includes('tmp'))).toEqual([]);
    expect(existsSync(directory)).toBe(false);
  });
});
