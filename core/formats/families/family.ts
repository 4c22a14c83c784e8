// What a model family is: how its config.json reads, and where its tensors live in our parameters.

import { GemmoeError } from '../../errors.ts';
import type { ModelConfig } from '../../model/config.ts';

/** config.json as parsed. */
export type RawConfig = Readonly<Record<string, unknown>>;

/** A tensor of a file and the elements of a parameter that it is: whole rows, so always one contiguous range. */
export interface TensorPlace {
  /** Name in the file. */
  readonly name: string;
  readonly shape: readonly number[];
  /** Name in the ParameterStore. */
  readonly parameter: string;
  /** First element within the parameter. */
  readonly offset: number;
}

/** One family: pure functions from and to its files. */
export interface Family {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** `architectures` in config.json. */
  readonly architecture: string;
  /** Whether our model of this shape is exported as this family. */
  readonly exports: (config: ModelConfig) => boolean;
  /** @throws GemmoeError naming a field that is missing, wrong, or asks for what the model does not do */
  readonly fromConfig: (reader: ConfigReader) => ModelConfig;
  /** The fields of config.json that belong to this family alone. */
  readonly toConfig: (config: ModelConfig) => Record<string, unknown>;
  /** Layouts a file may have, the one that is written first; the one with most of its names in the files is read. */
  readonly layouts: (config: ModelConfig) => readonly (readonly TensorPlace[])[];
}

/** Reads fields of a config.json and refuses what is not understood, by name and value. */
export class ConfigReader {
  readonly path: string;
  readonly raw: RawConfig;

  constructor(path: string, raw: RawConfig) {
    this.path = path;
    this.raw = raw;
  }

  /** A number, or `fallback` where the field is missing or null. */
  number(key: string, fallback?: number): number {
    const value = this.raw[key] ?? fallback;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw this.wrong(key, value, 'a number');
  }

  /** A size: a whole number of at least `least`. */
  size(key: string, fallback?: number, least = 1): number {
    const value = this.raw[key] ?? fallback;
    if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
    throw this.wrong(key, value, `a whole number of at least ${least}`);
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.raw[key] ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.wrong(key, value, 'true or false');
  }

  choice<T extends string>(key: string, choices: readonly T[], fallback: T): T {
    const value = this.raw[key] ?? fallback;
    const found = choices.find((choice) => choice === value);
    if (found !== undefined) return found;
    throw this.wrong(key, value, choices.map((choice) => JSON.stringify(choice)).join(' or '));
  }

  /** Refuses any value but `supported`; a missing or null field passes. */
  require(key: string, supported: string | number | boolean): void {
    const value = this.raw[key];
    if (value === undefined || value === null || value === supported) return;
    throw this.unsupported(key, value, supported);
  }

  /** Refuses a field that is set at all. */
  refuse(key: string): void {
    const value = this.raw[key];
    if (value === undefined || value === null || value === false) return;
    throw this.unsupported(key, value);
  }

  /** Rope base, from the v5 form (rope_parameters) or the v4 one (rope_theta, rope_scaling). */
  ropeTheta(fallback: number): number {
    this.require('partial_rotary_factor', 1);
    const scaling = this.plainRope('rope_scaling');
    const parameters = this.plainRope('rope_parameters');
    const theta = scaling['rope_theta'] ?? parameters['rope_theta'] ?? this.raw['rope_theta'] ?? fallback;
    if (typeof theta === 'number' && theta > 0) return theta;
    throw this.wrong('rope_theta', theta, 'a number above 0');
  }

  /** A rope object that asks for nothing but a base; empty where there is none. */
  private plainRope(key: string): RawConfig {
    const rope = this.raw[key] ?? {};
    if (typeof rope !== 'object' || Array.isArray(rope)) throw this.wrong(key, rope, 'an object');
    for (const [field, value] of Object.entries(rope)) {
      const name = `${key}.${field}`;
      if (value === null) continue;
      if ((field === 'rope_type' || field === 'type') && value !== 'default') {
        throw this.unsupported(name, value, 'default');
      }
      if (field === 'partial_rotary_factor' && value !== 1) throw this.unsupported(name, value, 1);
      // transformers 5 may nest one object per kind of layer
      if (typeof value === 'object') throw this.unsupported(name, value);
    }
    return rope as RawConfig;
  }

  private unsupported(key: string, value: unknown, supported?: string | number | boolean): GemmoeError {
    const what = supported === undefined ? 'which is' : `and anything but ${JSON.stringify(supported)} is`;
    return new GemmoeError(
      'unavailable',
      `${this.path}: ${key} is ${JSON.stringify(value)}, ${what} not supported`,
      'this checkpoint cannot be run: it would be computed wrongly',
    );
  }

  private wrong(key: string, value: unknown, wanted: string): GemmoeError {
    const found = value === undefined ? 'is missing' : `is ${JSON.stringify(value)}`;
    return new GemmoeError('bad-config', `${this.path}: ${key} ${found}; ${wanted} is wanted`, 'correct config.json');
  }
}

/** The fields that all Llama-shaped families share. */
export function readDecoder(
  reader: ConfigReader,
  defaults: { readonly ropeTheta: number; readonly eps: number },
): Omit<ModelConfig, 'numExperts' | 'topK' | 'expertWidth' | 'auxLossCoefficient' | 'auxLossReduction'> {
  reader.require('hidden_act', 'silu');
  reader.refuse('sliding_window');
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
    headDim: reader.size('head_dim', share),
    maxSequenceLength: reader.size('max_position_embeddings'),
    ropeTheta: reader.ropeTheta(defaults.ropeTheta),
    ropeAlpha: 1,
    normEps: reader.number('rms_norm_eps', defaults.eps),
    tieEmbeddings: reader.boolean('tie_word_embeddings', false),
  };
}

/** Places of everything but the feed-forward layers, Llama's names. */
export function decoderPlaces(
  config: ModelConfig,
  feedForward: (layer: number) => readonly TensorPlace[],
): TensorPlace[] {
  const { vocabSize: V, hiddenSize: C, numHeads: H, numKvHeads: KV, headDim: D } = config;
  const places: TensorPlace[] = [whole('model.embed_tokens.weight', [V, C], 'embedding')];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const file = `model.layers.${layer}`;
    const ours = `layers.${layer}`;
    const qkv = `${ours}.attention.qkv`;
    places.push(
      whole(`${file}.input_layernorm.weight`, [C], `${ours}.attention_norm`),
      { name: `${file}.self_attn.q_proj.weight`, shape: [H * D, C], parameter: qkv, offset: 0 },
      { name: `${file}.self_attn.k_proj.weight`, shape: [KV * D, C], parameter: qkv, offset: H * D * C },
      { name: `${file}.self_attn.v_proj.weight`, shape: [KV * D, C], parameter: qkv, offset: (H + KV) * D * C },
      whole(`${file}.self_attn.o_proj.weight`, [C, H * D], `${ours}.attention.output`),
      whole(`${file}.post_attention_layernorm.weight`, [C], `${ours}.feed_forward_norm`),
      ...feedForward(layer),
    );
  }
  places.push(whole('model.norm.weight', [C], 'final_norm'));
  if (!config.tieEmbeddings) places.push(whole('lm_head.weight', [V, C], 'head'));
  return places;
}

/** A tensor that is a whole parameter. */
export function whole(name: string, shape: readonly number[], parameter: string): TensorPlace {
  return { name, shape, parameter, offset: 0 };
}
