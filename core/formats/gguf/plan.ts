// The metadata and tensors of a GGUF file, planned from a config.json and the names in the files; nothing is read yet.

import { GemmoeError } from '../../errors.ts';
import type { ConfigReader } from '../families/family.ts';
import { type Architecture, architectureOf } from './architectures.ts';
import { optionalBias } from './feed-forward.ts';
import { ropeMetadata } from './rope.ts';
import { disagreement, type PlannedTensor, type TensorSource } from './source.ts';
import { f32, type Metadata, text, u32 } from './types.ts';

export interface GgufPlan {
  readonly metadata: Metadata;
  readonly tensors: readonly PlannedTensor[];
  /** What differs from the directory, in sentences. */
  readonly notes: readonly string[];
}

/** @throws GemmoeError for families and fields that llama.cpp does not have, and tensors that do not fit config.json */
export function planGguf(reader: ConfigReader, source: TensorSource, name: string): GgufPlan {
  const architecture = architectureOf(reader.raw['model_type'], reader.path);
  reader.require('hidden_act', 'silu');
  reader.refuse('quantization_config');
  const arch = architecture.name;
  const notes: string[] = [];
  const sizes = sizesOf(reader);
  const metadata: Metadata = new Map([
    ['general.architecture', text(arch)],
    ['general.name', text(name)],
    [`${arch}.context_length`, u32(contextLength(reader, notes))],
    [`${arch}.embedding_length`, u32(sizes.C)],
    [`${arch}.block_count`, u32(sizes.L)],
    [`${arch}.feed_forward_length`, u32(reader.size('intermediate_size'))],
    [`${arch}.attention.head_count`, u32(sizes.H)],
    [`${arch}.attention.head_count_kv`, u32(sizes.KV)],
    [`${arch}.attention.key_length`, u32(sizes.D)],
    [`${arch}.attention.value_length`, u32(sizes.D)],
    [`${arch}.attention.layer_norm_rms_epsilon`, f32(reader.number('rms_norm_eps', architecture.eps))],
    [`${arch}.vocab_size`, u32(sizes.V)],
  ]);
  const factors = ropeMetadata(metadata, arch, reader, sizes.D, architecture.ropeTheta);
  architecture.describe(reader, metadata);
  const tensors = planTensors(reader, source, architecture, sizes, factors);
  refuseUnused(source, reader);
  return { metadata, tensors, notes };
}

/** C hidden, L layers, H query heads, KV kv heads, D head size, V vocabulary. */
interface Sizes {
  readonly C: number;
  readonly L: number;
  readonly H: number;
  readonly KV: number;
  readonly D: number;
  readonly V: number;
}

function sizesOf(reader: ConfigReader): Sizes {
  const C = reader.size('hidden_size');
  const H = reader.size('num_attention_heads');
  return {
    C,
    H,
    L: reader.size('num_hidden_layers'),
    KV: reader.size('num_key_value_heads', H),
    D: reader.size('head_dim', C % H === 0 ? C / H : undefined),
    V: reader.size('vocab_size'),
  };
}

/** The longest sequence; a sliding window, which llama.cpp does not know of these families, makes it that long at most. */
function contextLength(reader: ConfigReader, notes: string[]): number {
  const longest = reader.size('max_position_embeddings');
  const isOff = reader.raw['use_sliding_window'] === false;
  const window = isOff ? 0 : reader.size('sliding_window', 0, 0);
  if (window === 0 || window >= longest) return longest;
  notes.push(
    `attention slides over ${window} tokens, which llama.cpp does not do for this family: the context is cut to ${window}, within which both agree`,
  );
  return window;
}

function planTensors(
  reader: ConfigReader,
  source: TensorSource,
  architecture: Architecture,
  sizes: Sizes,
  factors: Float32Array | undefined,
): PlannedTensor[] {
  const { V, C, L, D } = sizes;
  const tensors: PlannedTensor[] = [];
  if (factors) {
    if (!architecture.interleaved) {
      throw new GemmoeError(
        'unavailable',
        `${reader.path}: rope_type is "llama3", which llama.cpp does not do for ${architecture.name}`,
        'this model cannot be written as GGUF',
      );
    }
    tensors.push({ name: 'rope_freqs.weight', shape: [D / 2], from: factors });
  }
  tensors.push({ name: 'token_embd.weight', shape: [V, C], from: source.whole('model.embed_tokens.weight', [V, C]) });
  for (let layer = 0; layer < L; layer++) {
    tensors.push(...attention(source, layer, architecture, sizes), ...architecture.feedForward(reader, source, layer));
  }
  tensors.push({ name: 'output_norm.weight', shape: [C], from: source.whole('model.norm.weight', [C]) });
  if (!reader.boolean('tie_word_embeddings', false)) {
    tensors.push({ name: 'output.weight', shape: [V, C], from: source.whole('lm_head.weight', [V, C]) });
  }
  return tensors;
}

/** Norms and projections of a layer; norms over heads and biases where the files have them. */
function attention(
  source: TensorSource,
  layer: number,
  { interleaved, name }: Architecture,
  { C, H, KV, D }: Sizes,
): PlannedTensor[] {
  const file = `model.layers.${layer}`;
  const target = `blk.${layer}`;
  const turned = (tensor: string, shape: readonly number[]) =>
    interleaved ? source.interleaved(tensor, shape, D) : source.whole(tensor, shape);
  const tensors: PlannedTensor[] = [
    { name: `${target}.attn_norm.weight`, shape: [C], from: source.whole(`${file}.input_layernorm.weight`, [C]) },
    {
      name: `${target}.ffn_norm.weight`,
      shape: [C],
      from: source.whole(`${file}.post_attention_layernorm.weight`, [C]),
    },
    {
      name: `${target}.attn_output.weight`,
      shape: [C, H * D],
      from: source.whole(`${file}.self_attn.o_proj.weight`, [C, H * D]),
    },
    ...optionalBias(source, `${file}.self_attn.o_proj.bias`, `${target}.attn_output.bias`, C),
  ];
  for (const [part, rows] of [
    ['q', H * D],
    ['k', KV * D],
    ['v', KV * D],
  ] as const) {
    const projection = `${file}.self_attn.${part}_proj`;
    const ranges = part === 'v' ? source.whole.bind(source) : turned;
    tensors.push({
      name: `${target}.attn_${part}.weight`,
      shape: [rows, C],
      from: ranges(`${projection}.weight`, [rows, C]),
    });
    if (source.has(`${projection}.bias`)) {
      tensors.push({ name: `${target}.attn_${part}.bias`, shape: [rows], from: ranges(`${projection}.bias`, [rows]) });
    }
    const norm = `${file}.self_attn.${part}_norm.weight`;
    if (part === 'v' || !source.has(norm)) continue;
    // OLMoE norms the whole projection, the others each head
    const shape = [name === 'olmoe' ? rows : D];
    tensors.push({ name: `${target}.attn_${part}_norm.weight`, shape, from: source.whole(norm, shape) });
  }
  return tensors;
}

function refuseUnused(source: TensorSource, reader: ConfigReader): void {
  const isTied = reader.boolean('tie_word_embeddings', false);
  for (const name of source.unused()) {
    if (name.endsWith('.rotary_emb.inv_freq') || (isTied && name === 'lm_head.weight')) continue;
    throw disagreement(source.directory, `tensor ${name} has no place in a GGUF file of this family`);
  }
}
