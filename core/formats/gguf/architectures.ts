// Model families as llama.cpp's architectures: metadata, and which tensor goes where. Names and hard-wired choices are those
// of llama.cpp's loaders (https://github.com/ggml-org/llama.cpp, src/models).

import { GemmoeError, nearestName } from '../../errors.ts';
import type { ConfigReader } from '../families/family.ts';
import { denseLayer, expertLayer, sharedExpert } from './feed-forward.ts';
import type { PlannedTensor, TensorSource } from './source.ts';
import { f32, type Metadata, u32 } from './types.ts';

/** What of a family llama.cpp wants to know beyond what all share. */
export interface Architecture {
  /** Prefix of its metadata keys. */
  readonly name: string;
  /** Whether its rope is the interleaved one, so that query and key rows change places. */
  readonly interleaved: boolean;
  /** Rope base where config.json has none. */
  readonly ropeTheta: number;
  readonly eps: number;
  /** Refuses what llama.cpp would compute otherwise, and adds the family's own keys. */
  readonly describe: (reader: ConfigReader, metadata: Metadata) => void;
  readonly feedForward: (reader: ConfigReader, source: TensorSource, layer: number) => PlannedTensor[];
}

/** Key of the experts of a layer: transformers 5 writes some families' under another name than 4 did. */
function expertCount(reader: ConfigReader): number {
  return reader.raw['num_local_experts'] === undefined ? reader.size('num_experts') : reader.size('num_local_experts');
}

function describeExperts(reader: ConfigReader, metadata: Metadata, name: string): void {
  metadata.set(`${name}.expert_count`, u32(expertCount(reader)));
  metadata.set(`${name}.expert_used_count`, u32(reader.size('num_experts_per_tok')));
}

/** Refuses `key` unless it is `wired`, which llama.cpp takes for granted. */
function wired(reader: ConfigReader, key: string, wiredValue: boolean, standard: boolean): void {
  const value = reader.boolean(key, standard);
  if (value === wiredValue) return;
  throw new GemmoeError(
    'unavailable',
    `${reader.path}: ${key} is ${value}, but llama.cpp computes this family as if it were ${wiredValue}`,
    'this model cannot be written as GGUF',
  );
}

/** Refuses what llama.cpp has no tensors for. */
function withoutBias(reader: ConfigReader): void {
  reader.refuse('attention_bias');
}

/** Every layer an expert layer, as these architectures are. */
function everyLayerSparse(reader: ConfigReader): void {
  reader.require('decoder_sparse_step', 1);
  const dense = reader.raw['mlp_only_layers'];
  if (!Array.isArray(dense) || dense.length === 0) return;
  throw new GemmoeError(
    'unavailable',
    `${reader.path}: mlp_only_layers is ${JSON.stringify(dense)}, but in llama.cpp every layer of this family has experts`,
    'this model cannot be written as GGUF',
  );
}

const dense = (reader: ConfigReader, source: TensorSource, layer: number) =>
  denseLayer(source, layer, reader.size('hidden_size'), reader.size('intermediate_size'));

const experts = (widthKey: string) => (reader: ConfigReader, source: TensorSource, layer: number) =>
  expertLayer(source, layer, {
    hiddenSize: reader.size('hidden_size'),
    numExperts: expertCount(reader),
    expertWidth: reader.size(widthKey),
  });

const llama = { name: 'llama', interleaved: true, ropeTheta: 10000, eps: 1e-6 } as const;

const granite: Architecture = {
  name: 'granitemoe',
  interleaved: true,
  ropeTheta: 10000,
  eps: 1e-6,
  describe(reader, metadata) {
    describeExperts(reader, metadata, 'granitemoe');
    metadata.set('granitemoe.embedding_scale', f32(reader.number('embedding_multiplier', 1)));
    metadata.set('granitemoe.residual_scale', f32(reader.number('residual_multiplier', 1)));
    metadata.set('granitemoe.attention.scale', f32(reader.number('attention_multiplier', 1)));
    metadata.set('granitemoe.logit_scale', f32(reader.number('logits_scaling', 1)));
    const shared = reader.size('shared_intermediate_size', 0, 0);
    if (shared > 0) metadata.set('granitemoe.expert_shared_feed_forward_length', u32(shared));
  },
  feedForward(reader, source, layer) {
    const shared = reader.size('shared_intermediate_size', 0, 0);
    return [
      ...experts('intermediate_size')(reader, source, layer),
      ...(shared > 0 ? sharedExpert(source, layer, reader.size('hidden_size'), shared) : []),
    ];
  },
};

/** By `model_type` of config.json. */
export const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: { ...llama, describe: () => {}, feedForward: dense },
  mistral: { ...llama, describe: () => {}, feedForward: dense },
  mixtral: {
    ...llama,
    ropeTheta: 1e6,
    eps: 1e-5,
    describe: (reader, metadata) => describeExperts(reader, metadata, 'llama'),
    feedForward: experts('intermediate_size'),
  },
  qwen2: { name: 'qwen2', interleaved: false, ropeTheta: 10000, eps: 1e-6, describe: () => {}, feedForward: dense },
  qwen3: { name: 'qwen3', interleaved: false, ropeTheta: 10000, eps: 1e-6, describe: withoutBias, feedForward: dense },
  qwen3_moe: {
    name: 'qwen3moe',
    interleaved: false,
    ropeTheta: 10000,
    eps: 1e-6,
    describe(reader, metadata) {
      withoutBias(reader);
      wired(reader, 'norm_topk_prob', true, false);
      everyLayerSparse(reader);
      describeExperts(reader, metadata, 'qwen3moe');
      metadata.set('qwen3moe.expert_feed_forward_length', u32(reader.size('moe_intermediate_size')));
    },
    feedForward: experts('moe_intermediate_size'),
  },
  olmoe: {
    name: 'olmoe',
    interleaved: false,
    ropeTheta: 10000,
    eps: 1e-5,
    describe(reader, metadata) {
      wired(reader, 'norm_topk_prob', false, false);
      withoutBias(reader);
      reader.refuse('clip_qkv');
      // the norm of the keys is as wide as that of the queries there
      reader.require('num_key_value_heads', reader.size('num_attention_heads'));
      describeExperts(reader, metadata, 'olmoe');
    },
    feedForward: experts('intermediate_size'),
  },
  granitemoe: granite,
  granitemoeshared: granite,
};

/** The architecture of a model_type. @throws GemmoeError listing those that can be written */
export function architectureOf(modelType: unknown, path: string): Architecture {
  const names = Object.keys(ARCHITECTURES);
  if (typeof modelType === 'string' && names.includes(modelType)) return ARCHITECTURES[modelType];
  const nearest = typeof modelType === 'string' ? nearestName(modelType, names) : undefined;
  throw new GemmoeError(
    'unavailable',
    `${path}: model_type ${JSON.stringify(modelType)} cannot be written as GGUF`,
    `${nearest ? `did you mean "${nearest}"? ` : ''}supported: ${names.join(', ')}`,
  );
}
