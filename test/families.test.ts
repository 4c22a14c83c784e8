// Public model families: every layout of their files, those that have no fixture against a decoder of the test's own, what is
// written back, and what is refused.

import { cpSync, mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { exportFamily, FAMILIES } from '../core/formats/families/index.ts';
import { exportGguf } from '../core/formats/gguf/export.ts';
import { loadModel, readModelConfig, saveModel } from '../core/formats/hugging-face.ts';
import { openSafetensors, type TensorToWrite, writeSafetensors } from '../core/formats/safetensors.ts';
import { upcycleDirectory } from '../core/formats/upcycle.ts';
import { type ModelConfig, parseModelConfig } from '../core/model/config.ts';
import { Transformer } from '../core/model/transformer.ts';
import { Random } from '../core/random.ts';
import { GGUF_FAMILIES, withCharacters } from './support/gguf.ts';
import { type Expected, FIXTURES, readJson } from './support/golden.ts';
import { referenceKernels } from './support/kernels.ts';
import { plainLogits, plus, project, softmax, type StoredFloats, swiglu, times } from './support/plain-decoder.ts';
import { refusal } from './support/refusal.ts';
import { SMALL } from './support/small-model.ts';

const HF = join(FIXTURES, 'hf');
const kernels = referenceKernels();
// many small files, each written for good: seconds on a slow disk
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-families-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;
const fresh = () => join(scratch, `x${count++}`);

type Tensors = Map<string, { shape: readonly number[]; data: Float32Array }>;

function readTensors(directory: string): Tensors {
  const file = openSafetensors(join(directory, 'model.safetensors'));
  const tensors: Tensors = new Map();
  for (const [name, { shape }] of file.tensors) {
    const data = new Float32Array(shape.reduce((product, size) => product * size, 1));
    file.read(name, data);
    tensors.set(name, { shape, data });
  }
  file.close();
  return tensors;
}

/** A model directory of a config.json and tensors. */
function directoryOf(config: object, tensors: Tensors): string {
  const directory = fresh();
  mkdirSync(directory);
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  const list = [...tensors].map(([name, { shape, data }]): TensorToWrite => {
    return { name, shape, dtype: 'F32', parts: [data] };
  });
  writeSafetensors(join(directory, 'model.safetensors'), list);
  return directory;
}

/** A fixture whose config.json is changed. */
function changed(family: string, changes: object): string {
  return directoryOf({ ...readJson<object>(HF, family, 'config.json'), ...changes }, readTensors(join(HF, family)));
}

let stream = 0;

/** Random tensors of these names and shapes; norms near 1. */
function randomTensors(shapes: Record<string, readonly number[]>): Tensors {
  return new Map(
    Object.entries(shapes).map(([name, shape]) => {
      const data = new Float32Array(shape.reduce((product, size) => product * size, 1));
      const isNorm = name.endsWith('norm.weight');
      new Random(5, 'families').fillNormal(data, isNorm ? 1 : 0, isNorm ? 0.2 : 0.4, stream++);
      return [name, { shape, data }];
    }),
  );
}

function expectLogits(directory: string, wanted: (ids: number[]) => number[][]): void {
  const { model } = loadModel(directory, kernels);
  const ids = [3, 1, 4, 1, 5, 9, 2, 6];
  const logits = model.forward(Int32Array.from(ids), 1, ids.length);
  const truth = wanted(ids).flat();
  expect(logits.length).toBe(truth.length);
  const worst = truth.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0);
  expect(worst).toBeLessThan(2e-5);
}

/** Numbers of the k largest, in falling order; of equals the lowest. */
function best(x: readonly number[], k: number): number[] {
  return x
    .map((value, i) => ({ value, i }))
    .sort((a, b) => b.value - a.value || a.i - b.i)
    .slice(0, k)
    .map(({ i }) => i);
}

// ---------------------------------------------------------------- without fixtures

/** V 11, C 8, 4 heads on 2 of 4, 3 layers, 5 experts of 6. */
const SIZES = {
  ...{ vocab_size: 11, hidden_size: 8, num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2 },
  ...{ head_dim: 4, max_position_embeddings: 64, hidden_act: 'silu' },
};
const DECODER = { layers: 3, heads: 4, kvHeads: 2, headDim: 4, eps: 1e-5 };

function attentionShapes(layer: number, hasBias: boolean): Record<string, number[]> {
  const name = `model.layers.${layer}`;
  const rows = { q: 16, k: 8, v: 8 };
  const shapes: Record<string, number[]> = {
    [`${name}.self_attn.o_proj.weight`]: [8, 16],
    [`${name}.input_layernorm.weight`]: [8],
    [`${name}.post_attention_layernorm.weight`]: [8],
  };
  for (const [part, size] of Object.entries(rows)) {
    shapes[`${name}.self_attn.${part}_proj.weight`] = [size, 8];
    if (hasBias) shapes[`${name}.self_attn.${part}_proj.bias`] = [size];
  }
  if (!hasBias) return shapes;
  shapes[`${name}.self_attn.o_proj.bias`] = [8];
  shapes[`${name}.input_layernorm.bias`] = [8];
  shapes[`${name}.post_attention_layernorm.bias`] = [8];
  return shapes;
}

function swigluShapes(name: string, width: number, names = ['gate_proj', 'up_proj', 'down_proj']) {
  return {
    [`${name}.${names[0]}.weight`]: [width, 8],
    [`${name}.${names[1]}.weight`]: [width, 8],
    [`${name}.${names[2]}.weight`]: [8, width],
  };
}

const ERNIE = {
  model_type: 'ernie4_5_moe',
  ...SIZES,
  ...{ rms_norm_eps: 1e-5, rope_theta: 500, tie_word_embeddings: true, use_bias: false },
  ...{ moe_num_experts: 5, moe_k: 2, moe_intermediate_size: 6, moe_num_shared_experts: 2, intermediate_size: 10 },
  ...{ moe_layer_start_index: 1, moe_layer_end_index: -1, moe_layer_interval: 1, moe_norm_min: 1e-12 },
};

function ernieTensors(): Tensors {
  const shapes: Record<string, readonly number[]> = {
    'model.embed_tokens.weight': [11, 8],
    'model.norm.weight': [8],
    ...swigluShapes('model.layers.0.mlp', 10),
    'model.mtp_block.0.self_attn.q_proj.weight': [2, 2],
  };
  for (let layer = 0; layer < 3; layer++) {
    Object.assign(shapes, attentionShapes(layer, false));
    if (layer === 0) continue;
    const mlp = `model.layers.${layer}.mlp`;
    shapes[`${mlp}.gate.weight`] = [5, 8];
    shapes[`${mlp}.moe_statics.e_score_correction_bias`] = [1, 5];
    for (let e = 0; e < 5; e++) Object.assign(shapes, swigluShapes(`${mlp}.experts.${e}`, 6));
    Object.assign(shapes, swigluShapes(`${mlp}.shared_experts`, 12));
  }
  return randomTensors(shapes);
}

function ernieFeedForward(tensors: ReadonlyMap<string, StoredFloats>, floor: number) {
  return (layer: number, x: number[]): number[] => {
    const mlp = `model.layers.${layer}.mlp`;
    if (layer === 0) return swiglu(tensors, mlp, x);
    const p = softmax(project(tensors, `${mlp}.gate`, x));
    const bias = tensors.get(`${mlp}.moe_statics.e_score_correction_bias`)?.data ?? [];
    const chosen = best(
      p.map((value, e) => value + bias[e]),
      2,
    );
    const sum = Math.max(
      chosen.reduce((total, e) => total + p[e], 0),
      floor,
    );
    const routed = chosen.map((e) => times(swiglu(tensors, `${mlp}.experts.${e}`, x), p[e] / sum));
    return [...routed, swiglu(tensors, `${mlp}.shared_experts`, x)].reduce(plus);
  };
}

const PHI = {
  model_type: 'phimoe',
  architectures: ['PhiMoEForCausalLM'],
  ...SIZES,
  ...{ rms_norm_eps: 1e-5, rope_theta: 1000, tie_word_embeddings: false, attention_bias: true, lm_head_bias: true },
  ...{ num_local_experts: 5, num_experts_per_tok: 2, intermediate_size: 6, router_jitter_noise: 0.2 },
  ...{ input_jitter_noise: 0.01, sliding_window: 5, original_max_position_embeddings: 4 },
  rope_scaling: {
    ...{ type: 'longrope', short_factor: [1, 2], long_factor: [3, 4.5], short_mscale: 1.25, long_mscale: 1.5 },
    original_max_position_embeddings: 4,
  },
};

function phiTensors(): Tensors {
  const shapes: Record<string, readonly number[]> = {
    'model.embed_tokens.weight': [11, 8],
    'model.norm.weight': [8],
    'model.norm.bias': [8],
    'lm_head.weight': [11, 8],
    'lm_head.bias': [11],
  };
  for (let layer = 0; layer < 3; layer++) {
    const moe = `model.layers.${layer}.block_sparse_moe`;
    Object.assign(shapes, attentionShapes(layer, true), { [`${moe}.gate.weight`]: [5, 8] });
    for (let e = 0; e < 5; e++) Object.assign(shapes, swigluShapes(`${moe}.experts.${e}`, 6, ['w1', 'w3', 'w2']));
  }
  return randomTensors(shapes);
}

/** Share of expert e among those near it; `taken` is not among them. */
function share(logits: readonly number[], e: number, jitter: number, taken: number): number {
  const near = logits.map((logit, j) => {
    const isFar = (logits[e] - logit) / Math.max(Math.abs(logit), logits[e]) > 2 * jitter;
    return j === taken || isFar ? -Infinity : logit;
  });
  return softmax(near)[e];
}

function phiFeedForward(tensors: ReadonlyMap<string, StoredFloats>, jitter: number) {
  return (layer: number, x: number[]): number[] => {
    const moe = `model.layers.${layer}.block_sparse_moe`;
    const logits = project(tensors, `${moe}.gate`, x);
    const [first, second] = best(logits, 2);
    const expert = (e: number) => swiglu(tensors, `${moe}.experts.${e}`, x, ['w1', 'w3', 'w2']);
    return plus(
      times(expert(first), share(logits, first, jitter, -1)),
      times(expert(second), share(logits, second, jitter, first)),
    );
  };
}

describe('ERNIE 4.5 MoE', () => {
  const tensors = ernieTensors();
  const plain = {
    ...DECODER,
    tensors,
    interleaved: true,
    angle: (position: number, i: number) => position * 500 ** (-i / 2),
  };

  test('gives the logits of a decoder written once more', () => {
    const directory = directoryOf(ERNIE, tensors);
    expectLogits(directory, (ids) => plainLogits({ ...plain, feedForward: ernieFeedForward(tensors, 1e-12) }, ids));
    expect(loadModel(directory, kernels).model.config).toMatchObject({
      ...{ numExperts: 5, topK: 2, sharedWidth: 12, denseLayers: [0], denseWidth: 10, selectionBias: true },
      ...{ ropeInterleaved: true, tieEmbeddings: true },
    });
  });

  test('divides by moe_norm_min at least', () => {
    const directory = directoryOf({ ...ERNIE, moe_norm_min: 0.9 }, tensors);
    expectLogits(directory, (ids) => plainLogits({ ...plain, feedForward: ernieFeedForward(tensors, 0.9) }, ids));
  });

  test('with experts in every second layer up to an index, comes back as it was', () => {
    const range = { moe_layer_start_index: 0, moe_layer_end_index: 1, moe_layer_interval: 2, num_hidden_layers: 5 };
    const directory = directoryOf({ ...ERNIE, ...range }, tensors);
    const { config } = readModelConfig(directory);
    expect(config.denseLayers).toEqual([0, 2, 3, 4]);
    const out = fresh();
    saveModel(out, new Transformer(config, kernels));
    expect(readModelConfig(out).config).toEqual(config);
  });

  test('comes out with the tensors that went in, but for those of several tokens at once', () => {
    const { model, original } = loadModel(directoryOf(ERNIE, tensors), kernels);
    const out = fresh();
    saveModel(out, model, { original });
    const written = readTensors(out);
    const wanted = new Map([...tensors].filter(([name]) => !name.includes('mtp')));
    expect([...written.keys()].sort()).toEqual([...wanted.keys()].sort());
    for (const [name, { data }] of wanted) expect(written.get(name)?.data, name).toEqual(data);
    expect(readJson(out, 'config.json')).toMatchObject(ERNIE);
    expect(Object.keys(readJson<object>(out, 'config.json'))).not.toContain('gemmoe_selection_bias');
  });
});

describe('PhiMoE', () => {
  const tensors = phiTensors();

  test.each([
    ['beyond the length it was trained on', 4, [3, 4.5], 1.5],
    ['within it', 64, [1, 2], 1.25],
  ])('gives the logits of a decoder written once more, %s', (_, original, factors, ropeFactor) => {
    const rope = { ...PHI.rope_scaling, original_max_position_embeddings: original };
    const directory = directoryOf({ ...PHI, original_max_position_embeddings: original, rope_scaling: rope }, tensors);
    const feedForward = phiFeedForward(tensors, 0.2);
    const angle = (position: number, i: number) => (position * 1000 ** (-i / 2)) / factors[i];
    expectLogits(directory, (ids) =>
      plainLogits({ ...DECODER, tensors, layerNorm: true, angle, ropeFactor, feedForward }, ids),
    );
  });

  test('comes out with the tensors that went in', () => {
    const { model, original } = loadModel(directoryOf(PHI, tensors), kernels);
    const out = fresh();
    saveModel(out, model, { original });
    const written = readTensors(out);
    expect([...written.keys()].sort()).toEqual([...tensors.keys()].sort());
    for (const [name, { data }] of tensors) expect(written.get(name)?.data, name).toEqual(data);
    expect(readJson(out, 'config.json')).toMatchObject(PHI);
    // the code that comes with the checkpoints refuses any other number of fields
    const { rope_scaling: rope } = readJson<{ rope_scaling: object }>(out, 'config.json');
    expect(Object.keys(rope).sort()).toEqual(Object.keys(PHI.rope_scaling).sort());
  });
});

test('the decoder of this test gives the logits of transformers for Mixtral', () => {
  const tensors = readTensors(join(HF, 'mixtral'));
  const { ids, logits } = readJson<Expected>(HF, 'mixtral', 'expected.json');
  const found = plainLogits(
    {
      ...{ tensors, layers: 2, heads: 4, kvHeads: 2, headDim: 8, eps: 1e-5 },
      angle: (position, i) => position * 1e6 ** (-i / 4),
      feedForward(layer, x) {
        const moe = `model.layers.${layer}.block_sparse_moe`;
        const p = softmax(project(tensors, `${moe}.gate`, x));
        const chosen = best(p, 2);
        const sum = chosen.reduce((total, e) => total + p[e], 0);
        return chosen
          .map((e) => times(swiglu(tensors, `${moe}.experts.${e}`, x, ['w1', 'w3', 'w2']), p[e] / sum))
          .reduce(plus);
      },
    },
    ids[0],
  ).flat();
  expect(found.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0)).toBeLessThan(2e-5);
});

// ---------------------------------------------------------------- layouts

/** The tensors of a classic layout as transformers 5 has them in memory. */
function fused(tensors: Tensors, rename: (name: string) => string = (name) => name): Tensors {
  const out: Tensors = new Map();
  const experts = new Map<string, Float32Array[]>();
  for (const [name, tensor] of tensors) {
    const found = /^(.*)\.experts\.(\d+)\.(gate_proj|w1|up_proj|w3|down_proj|w2)\.weight$/.exec(name);
    if (!found) {
      out.set(rename(name), tensor);
      continue;
    }
    const [, part, number, which] = found;
    const isDown = which === 'down_proj' || which === 'w2';
    const target = rename(`${part}.experts.${isDown ? 'down_proj' : 'gate_up_proj'}`);
    const place = isDown ? Number(number) : 2 * Number(number) + (which === 'gate_proj' || which === 'w1' ? 0 : 1);
    const parts = experts.get(target) ?? [];
    parts[place] = tensor.data;
    experts.set(target, parts);
    const [rows, columns] = tensor.shape;
    const E = isDown ? parts.length : parts.length / 2;
    out.set(target, { shape: [E, isDown ? rows : 2 * rows, columns], data: new Float32Array() });
  }
  for (const [name, parts] of experts) {
    out.set(name, {
      shape: out.get(name)?.shape ?? [],
      data: Float32Array.from(parts.flatMap((part) => Array.from(part))),
    });
  }
  return out;
}

describe('the fused layout of transformers 5 loads as the classic one', () => {
  const inMemory = (name: string) =>
    name.replace('block_sparse_moe', 'mlp').replace('moe_statics', 'gate.moe_statics').replace('mtp_', 'mtp_');
  const fixture = (family: string) => ({
    config: readJson<object>(HF, family, 'config.json'),
    tensors: readTensors(join(HF, family)),
  });
  test.each<[string, { config: object; tensors: Tensors }, (name: string) => string]>([
    ['mixtral', fixture('mixtral'), inMemory],
    ['olmoe', fixture('olmoe'), inMemory],
    ['qwen3_moe', fixture('qwen3_moe'), inMemory],
    ['qwen2_moe', fixture('qwen2_moe'), inMemory],
    ['ernie4_5_moe', { config: ERNIE, tensors: ernieTensors() }, inMemory],
    [
      'phimoe',
      { config: PHI, tensors: phiTensors() },
      (name) => inMemory(name).replace('mlp.gate.weight', 'mlp.router.weight'),
    ],
  ])('%s', (_, { config, tensors }, rename) => {
    const classic = loadModel(directoryOf(config, tensors), kernels).model;
    const other = loadModel(directoryOf(config, fused(tensors, rename)), kernels).model;
    expect(other.parameters.data).toEqual(classic.parameters.data);
    expect(other.parameters.buffers).toEqual(classic.parameters.buffers);
  });
});

// ---------------------------------------------------------------- writing

const FIXED = [
  ...['llama', 'llama3', 'llama_linear', 'llama_yarn', 'mistral', 'qwen2', 'qwen3', 'mixtral', 'olmoe', 'olmoe_clip'],
  ...['qwen3_moe', 'qwen2_moe', 'granitemoe', 'granitemoeshared'],
];

describe('written again', () => {
  test.each(FIXED)('%s stays its family, with keys that are not known and the same bytes, twice', (family) => {
    const source = changed(family, { a_key_of_tomorrow: { deep: [1, 2] } });
    const original = readJson<Record<string, unknown>>(source, 'config.json');
    let from = source;
    for (const out of [fresh(), fresh()]) {
      const loaded = loadModel(from, kernels);
      saveModel(out, loaded.model, { original: loaded.original });
      const written = readJson<Record<string, unknown>>(out, 'config.json');
      for (const key of ['model_type', 'architectures', 'a_key_of_tomorrow'])
        expect(written[key]).toEqual(original[key]);
      expect(readModelConfig(out).config).toEqual(readModelConfig(source).config);
      const bytes = (directory: string) => readFileSync(join(directory, 'model.safetensors'));
      expect(bytes(out).equals(bytes(source))).toBe(true);
      from = out;
    }
  });

  test('sliding layers of Qwen come back, by their list and by their number', () => {
    const sliding = { use_sliding_window: true, sliding_window: 5, max_window_layers: 1 };
    const listed = changed('qwen2', { ...sliding, layer_types: ['sliding_attention', 'full_attention'] });
    expect(readModelConfig(listed).config.window).toEqual([5, 0]);
    for (const [family, windows] of [
      ['qwen2', [0, 5]],
      ['qwen3', [0, 5]],
      ['qwen2_moe', [5, 0, 0]],
    ] as const) {
      const source = changed(family, { ...sliding, layer_types: null });
      const { model, original } = loadModel(source, kernels);
      expect(model.config.window).toEqual(windows);
      const out = fresh();
      saveModel(out, model, { original });
      expect(readJson(out, 'config.json')).toMatchObject({ ...sliding, layer_types: expect.any(Array) as unknown });
      expect(readModelConfig(out).config).toEqual(model.config);
    }
    expect(readModelConfig(changed('qwen3_moe', { use_sliding_window: true, sliding_window: 5 })).config.window).toBe(
      5,
    );
    expect(readModelConfig(changed('qwen3_moe', { sliding_window: 5 })).config.window).toBeUndefined();
  });

  test.each<[string, object, ModelConfig['ropeScaling'], number]>([
    [
      'transformers 4',
      { rope_theta: 100, rope_scaling: { type: 'linear', factor: 2 } },
      { kind: 'linear', factor: 2 },
      64,
    ],
    [
      'a stretch of the base by length',
      { rope_theta: 100, rope_scaling: { type: 'dynamic', factor: 2.5 } },
      { kind: 'dynamic', factor: 2.5, originalLength: 64 },
      160,
    ],
    [
      'a factor that follows from the lengths',
      { rope_parameters: { rope_theta: 100, rope_type: 'yarn', original_max_position_embeddings: 16 } },
      { kind: 'yarn', factor: 4, originalLength: 16 },
      64,
    ],
    [
      'a length at the top that wins',
      {
        original_max_position_embeddings: 8,
        rope_parameters: {
          ...{ rope_theta: 100, rope_type: 'yarn', factor: 2, original_max_position_embeddings: 16 },
          ...{ beta_fast: 16, beta_slow: 2, truncate: false, attention_factor: 0.5, mscale: 1, mscale_all_dim: 2 },
        },
      },
      {
        ...{ kind: 'yarn', factor: 2, originalLength: 8, betaFast: 16, betaSlow: 2, truncate: false },
        ...{ attentionFactor: 0.5, mscale: 1, mscaleAllDim: 2 },
      },
      64,
    ],
    [
      'longrope by its early name',
      {
        ...{ rope_theta: 100, original_max_position_embeddings: 32 },
        rope_scaling: { type: 'su', short_factor: [1, 1, 1, 1], long_factor: [2, 2, 2, 2] },
      },
      { kind: 'longrope', originalLength: 32, shortFactors: [1, 1, 1, 1], longFactors: [2, 2, 2, 2] },
      64,
    ],
  ])('rope in the form of %s is read and comes back', (_, fields, ropeScaling, maxSequenceLength) => {
    const none = { rope_parameters: null };
    const { model, original } = loadModel(changed('llama', { ...none, ...fields }), kernels);
    expect(model.config).toMatchObject({ ropeTheta: 100, ropeScaling, maxSequenceLength });
    const out = fresh();
    saveModel(out, model, { original });
    expect(readModelConfig(out).config).toEqual(model.config);
  });

  test.each(GGUF_FAMILIES)('%s makes the GGUF file that the original makes', (family) => {
    // a file has the name of its directory
    const [source, again] = [join(fresh(), 'same'), join(fresh(), 'same')];
    const [one, two] = [fresh(), fresh()];
    withCharacters(family, source);
    const { model, original, generation } = loadModel(source, kernels);
    saveModel(again, model, { original, generation });
    cpSync(join(source, 'tokenizer.json'), join(again, 'tokenizer.json'));
    exportGguf(source, one);
    exportGguf(again, two);
    expect(readFileSync(two).equals(readFileSync(one))).toBe(true);
  });
});

/** For every family one model that it and no earlier one holds, beside what SMALL has. */
const OF_FAMILY: Record<string, Partial<ModelConfig>> = {
  llama: { numExperts: 1, topK: 1, mlpBias: true, qkvBias: true, outputBias: true },
  mistral: { numExperts: 1, topK: 1, window: 3 },
  qwen2: { numExperts: 1, topK: 1, qkvBias: true, window: [0, 3] },
  qwen3: { numExperts: 1, topK: 1, qkNorm: 'head', window: [3, 0] },
  mixtral: { window: 3 },
  olmoe: { qkNorm: 'whole', clipQkv: 2, renormalise: false, qkvBias: true, outputBias: true },
  qwen3_moe: { qkNorm: 'head', denseLayers: [1], denseWidth: 7, window: 4, renormalise: false },
  granitemoe: { qkvBias: true, outputBias: true, embeddingMultiplier: 2, attentionMultiplier: 0.3 },
  granitemoeshared: { residualMultiplier: 0.5, logitsDivisor: 3, sharedWidth: 4, attentionMultiplier: 0.5 },
  qwen2_moe: { qkvBias: true, sharedWidth: 4, sharedGate: true, denseLayers: [0], denseWidth: 7, window: [3, 0] },
  ernie4_5_moe: {
    ...{ selectionBias: true, ropeInterleaved: true, sharedWidth: 10, denseLayers: [0], denseWidth: 7 },
    renormaliseFloor: 1e-12,
  },
  phimoe: { norm: 'layer', sparseMixer: 0.02, headBias: true, qkvBias: true, outputBias: true },
};

describe('each family', () => {
  test('is tried', () => {
    expect(Object.keys(OF_FAMILY)).toEqual(FAMILIES.map(({ modelType }) => modelType));
  });

  test.each(Object.entries(OF_FAMILY))('%s takes a model of ours and gives it back', (modelType, changes) => {
    const dense = changes.numExperts === 1 ? { auxLossCoefficient: 0, auxLossReduction: 'pooled' as const } : {};
    const config = parseModelConfig({ ...SMALL, ropeAlpha: 1, ...dense, ...changes });
    const model = new Transformer(config, kernels);
    model.initialise(1);
    for (const { data } of model.parameters.parameters) {
      new Random(2, 'families').fillNormal(data, 0.1, 1, data.byteOffset);
    }
    for (const { data } of model.parameters.buffers) new Random(3, 'families').fillNormal(data, 0, 1, data.length);
    expect(exportFamily(config).modelType).toBe(modelType);
    const out = fresh();
    saveModel(out, model);
    const back = loadModel(out, kernels).model;
    // what a family always says stands in the file even where it is the default
    const said = modelType.startsWith('granite')
      ? { embeddingMultiplier: 1, residualMultiplier: 1, logitsDivisor: 1 }
      : {};
    expect(back.config).toEqual({ ...said, ...config });
    expect(back.parameters.data).toEqual(model.parameters.data);
    expect(back.parameters.buffers).toEqual(model.parameters.buffers);
  });

  test.each(Object.entries(OF_FAMILY))('every layout of %s covers every element once', (modelType, changes) => {
    const config = parseModelConfig({ ...SMALL, ...changes });
    const model = new Transformer(config, kernels);
    const family = FAMILIES.find((candidate) => candidate.modelType === modelType);
    const layouts = family?.layouts(config) ?? [];
    expect(layouts.length).toBeGreaterThan(0);
    for (const places of layouts) {
      expect(new Set(places.map(({ name }) => name)).size).toBe(places.length);
      const all = [...model.parameters.parameters, ...model.parameters.buffers];
      for (const { data } of all) data.fill(0);
      for (const { parameter, offset, shape } of places) {
        const data = all.find(({ name }) => name === parameter)?.data ?? new Float32Array();
        const end = offset + shape.reduce((product, size) => product * size, 1);
        expect(end, parameter).toBeLessThanOrEqual(data.length);
        for (let i = offset; i < end; i++) data[i]++;
      }
      expect(all.filter(({ data }) => data.some((times) => times !== 1)).map(({ name }) => name)).toEqual([]);
    }
  });

  test('that could hold a model is not taken where it came from another', () => {
    expect(readModelConfig(join(HF, 'granitemoe')).config.family).toBeUndefined();
    const config = readModelConfig(changed('mistral', { sliding_window: null })).config;
    expect(config.family).toBe('mistral');
    expect(exportFamily(config).modelType).toBe('mistral');
    expect(exportFamily({ ...config, family: 'of tomorrow' }).modelType).toBe('llama');
  });

  test('that holds a combination may be none', () => {
    const config = parseModelConfig({ ...SMALL, qkNorm: 'head', ropeInterleaved: true });
    expect(refusal(() => exportFamily(config)).message).toMatch(
      /can hold a model of experts with qkNorm, ropeInterleaved/,
    );
    const dense = parseModelConfig({ ...SMALL, numExperts: 1, topK: 1, window: [2, 3] });
    expect(refusal(() => exportFamily(dense)).message).toMatch(/can hold a dense model with window/);
  });
});

describe('upcycled', () => {
  test.each([
    ['mistral', 'mixtral'],
    ['llama_yarn', 'mixtral'],
    ['qwen2', 'granitemoe'],
    ['qwen3', 'qwen3_moe'],
  ])('%s becomes %s and computes the same', (family, target) => {
    const out = fresh();
    upcycleDirectory(join(HF, family), out, { numExperts: 3, topK: 2, seed: 1 });
    expect(readJson(out, 'config.json')).toMatchObject({ model_type: target });
    const { ids, logits } = readJson<Expected>(HF, family, 'expected.json');
    const { model } = loadModel(out, kernels);
    const found = model.forward(Int32Array.from(ids.flat()), ids.length, ids[0].length);
    expect(logits.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0)).toBeLessThan(2e-5);
  });

  test('what no family of experts has is refused by name', () => {
    const upcycle = (directory: string) =>
      refusal(() => upcycleDirectory(directory, fresh(), { numExperts: 3, topK: 2, seed: 1 })).message;
    expect(upcycle(join(HF, 'llama3'))).toMatch(/mlpBias is set for a model of experts/);
    const sliding = { use_sliding_window: true, sliding_window: 5, max_window_layers: 1, layer_types: null };
    expect(upcycle(changed('qwen3', sliding))).toMatch(/can hold a model of experts with qkNorm, window/);
  });
});

// ---------------------------------------------------------------- refusals

describe('refused by name and value', () => {
  test.each<[string, object, RegExp]>([
    ['qwen3_moe', { num_experts: 7 }, /num_experts is 7, but num_local_experts is 8/],
    ['qwen3_moe', { decoder_sparse_step: 0 }, /decoder_sparse_step is 0; a whole number of at least 1/],
    ['qwen3_moe', { decoder_sparse_step: 3 }, /every layer is in denseLayers/],
    ['qwen3_moe', { mlp_only_layers: 1 }, /mlp_only_layers is 1; a list/],
    ['qwen3_moe', { mlp_only_layers: [0, 1] }, /every layer is in denseLayers/],
    ['qwen3_moe', { norm_topk_prob: 'yes' }, /norm_topk_prob is "yes"; true or false/],
    ['qwen2_moe', { shared_expert_intermediate_size: 0 }, /shared_expert_intermediate_size is 0/],
    ['olmoe', { clip_qkv: -1 }, /clipQkv/],
    ['olmoe', { clip_qkv: 'some' }, /clip_qkv is "some"; a number/],
    ['granitemoe', { attention_multiplier: 0 }, /attentionMultiplier/],
    ['granitemoe', { logits_scaling: null, embedding_multiplier: [] }, /embedding_multiplier is \[\]; a number/],
    ['granitemoeshared', { shared_intermediate_size: -1 }, /shared_intermediate_size is -1/],
    ['granitemoe', { hidden_act: 'gelu' }, /hidden_act is "gelu"/],
  ])('%s with %j', (family, changes, message) => {
    const directory = changed(family, changes);
    const error = refusal(() => loadModel(directory, kernels));
    expect(error.message).toMatch(message);
    expect(error.message).toContain(join(directory, 'config.json'));
  });

  test.each<[string, object, RegExp]>([
    ['ernie4_5_moe', { ...ERNIE, use_bias: true }, /use_bias is true/],
    ['ernie4_5_moe', { ...ERNIE, moe_num_experts: [64, 64] }, /moe_num_experts is \[64,64\]; a whole number/],
    ['phimoe', { ...PHI, num_experts_per_tok: 3 }, /topK is 3, but sparsemixer chooses two/],
    ['phimoe', { ...PHI, tie_word_embeddings: true }, /headBias is set, but the LM head is the embedding table/],
    ['phimoe', { ...PHI, rope_scaling: { ...PHI.rope_scaling, long_factor: [1] } }, /longFactors has 1 numbers/],
  ])('%s: %j', (_, config, message) => {
    const directory = directoryOf(config, new Map([['x', { shape: [1], data: new Float32Array(1) }]]));
    expect(refusal(() => readModelConfig(directory)).message).toMatch(message);
  });
});
