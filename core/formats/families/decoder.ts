// What all families of Llama's shape have in common: fields of config.json, and names of tensors.

import type { ModelConfig } from '../../model/config.ts';
import type { ConfigReader, TensorPlace } from './family.ts';
import { readRope } from './rope.ts';

/** The fields that all Llama-shaped families share. */
export function readDecoder(
  reader: ConfigReader,
  defaults: {
    readonly ropeTheta: number;
    readonly eps: number;
    readonly headDim?: number;
    readonly tieEmbeddings?: boolean;
  },
): Omit<ModelConfig, 'numExperts' | 'topK' | 'expertWidth' | 'auxLossCoefficient' | 'auxLossReduction'> {
  reader.require('hidden_act', 'silu');
  reader.refuse('quantization_config');
  const hiddenSize = reader.size('hidden_size');
  const numHeads = reader.size('num_attention_heads');
  const share = hiddenSize % numHeads === 0 ? hiddenSize / numHeads : undefined;
  return {
    vocabSize: reader.size('vocab_size'),
    hiddenSize,
    numLayers: reader.size('num_hidden_layers'),
    numHeads,
    numKvHeads: reader.size('num_key_value_heads', numHeads),
    headDim: reader.size('head_dim', reader.raw['head_dim'] === null ? share : (defaults.headDim ?? share)),
    ...readRope(reader, defaults.ropeTheta),
    ropeAlpha: 1,
    normEps: reader.number('rms_norm_eps', defaults.eps),
    tieEmbeddings: reader.boolean('tie_word_embeddings', defaults.tieEmbeddings ?? false),
  };
}

/** Fields of a dense model beside the decoder's. */
export function denseFields(reader: ConfigReader) {
  const expertWidth = reader.size('intermediate_size');
  return { numExperts: 1, topK: 1, expertWidth, auxLossCoefficient: 0, auxLossReduction: 'pooled' } as const;
}

/** Places of everything but the feed-forward layers, Llama's names. */
export function decoderPlaces(
  config: ModelConfig,
  feedForward: (layer: number) => readonly TensorPlace[],
): TensorPlace[] {
  const { vocabSize: V, hiddenSize: C } = config;
  const places: TensorPlace[] = [whole('model.embed_tokens.weight', [V, C], 'embedding')];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const file = `model.layers.${layer}`;
    const ours = `layers.${layer}`;
    places.push(
      ...norm(config, `${file}.input_layernorm`, `${ours}.attention_norm`),
      ...attentionPlaces(config, `${file}.self_attn`, `${ours}.attention`),
      ...norm(config, `${file}.post_attention_layernorm`, `${ours}.feed_forward_norm`),
      ...feedForward(layer),
    );
  }
  places.push(...norm(config, 'model.norm', 'final_norm'));
  if (!config.tieEmbeddings) places.push(whole('lm_head.weight', [V, C], 'head'));
  if (config.headBias) places.push(whole('lm_head.bias', [V], 'head_bias'));
  return places;
}

function norm({ hiddenSize: C, norm: kind }: ModelConfig, file: string, ours: string): TensorPlace[] {
  const bias = kind === 'layer' ? [whole(`${file}.bias`, [C], `${ours}_bias`)] : [];
  return [whole(`${file}.weight`, [C], ours), ...bias];
}

/** Projections, and the biases and norms that the model has. */
function attentionPlaces(config: ModelConfig, file: string, ours: string): TensorPlace[] {
  const { hiddenSize: C, numHeads: H, numKvHeads: KV, headDim: D } = config;
  const places: TensorPlace[] = [];
  let row = 0;
  for (const [part, rows] of [
    ['q', H * D],
    ['k', KV * D],
    ['v', KV * D],
  ] as const) {
    const name = `${file}.${part}_proj`;
    places.push({ name: `${name}.weight`, shape: [rows, C], parameter: `${ours}.qkv`, offset: row * C });
    if (config.qkvBias)
      places.push({ name: `${name}.bias`, shape: [rows], parameter: `${ours}.qkv_bias`, offset: row });
    row += rows;
  }
  places.push(whole(`${file}.o_proj.weight`, [C, H * D], `${ours}.output`));
  if (config.outputBias) places.push(whole(`${file}.o_proj.bias`, [C], `${ours}.output_bias`));
  if (config.qkNorm) {
    const [query, key] = config.qkNorm === 'head' ? [D, D] : [H * D, KV * D];
    places.push(
      whole(`${file}.q_norm.weight`, [query], `${ours}.query_norm`),
      whole(`${file}.k_norm.weight`, [key], `${ours}.key_norm`),
    );
  }
  return places;
}

/** gate, up and down of the dense feed-forward layer `layer`. */
export function denseMlp(config: ModelConfig, layer: number, width = config.expertWidth): TensorPlace[] {
  const { hiddenSize: C, mlpBias } = config;
  const F = width;
  const file = `model.layers.${layer}.mlp`;
  const ours = `layers.${layer}.experts`;
  const biases: TensorPlace[] = [
    { name: `${file}.gate_proj.bias`, shape: [F], parameter: `${ours}.gate_up_bias`, offset: 0 },
    { name: `${file}.up_proj.bias`, shape: [F], parameter: `${ours}.gate_up_bias`, offset: F },
    whole(`${file}.down_proj.bias`, [C], `${ours}.down_bias`),
  ];
  return [
    { name: `${file}.gate_proj.weight`, shape: [F, C], parameter: `${ours}.gate_up`, offset: 0 },
    { name: `${file}.up_proj.weight`, shape: [F, C], parameter: `${ours}.gate_up`, offset: F * C },
    whole(`${file}.down_proj.weight`, [C, F], `${ours}.down`),
    ...(mlpBias ? biases : []),
  ];
}

/** A tensor that is a whole parameter. */
export function whole(name: string, shape: readonly number[], parameter: string): TensorPlace {
  return { name, shape, parameter, offset: 0 };
}
