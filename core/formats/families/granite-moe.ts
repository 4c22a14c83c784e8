// Granite 3 MoE (IBM 2024), with a shared expert or without: four multipliers, and the experts of a layer in one tensor.

import type { ModelConfig } from '../../model/config.ts';
import { decoderPlaces, readDecoder, whole } from './decoder.ts';
import { fusedExperts, readBalancing, writeBalancing } from './experts.ts';
import type { ConfigReader, Family, TensorPlace } from './family.ts';
import { attentionBiases, biasesAgree, holds, type Switch } from './switches.ts';

const SWITCHES: readonly Switch[] = [
  ...(['qkvBias', 'outputBias', 'attentionMultiplier', 'embeddingMultiplier'] as const),
  ...(['residualMultiplier', 'logitsDivisor'] as const),
];

export const graniteMoe: Family = {
  modelType: 'granitemoe',
  architecture: 'GraniteMoeForCausalLM',
  exports: (config) => config.numExperts > 1 && holds(config, SWITCHES) && biasesAgree(config),
  fromConfig: readGranite,
  toConfig: writeGranite,
  layouts: (config) => [decoderPlaces(config, (layer) => experts(config, layer))],
};

export const graniteMoeShared: Family = {
  modelType: 'granitemoeshared',
  architecture: 'GraniteMoeSharedForCausalLM',
  exports: (config) =>
    config.numExperts > 1 && !config.sharedGate && holds(config, [...SWITCHES, 'sharedWidth']) && biasesAgree(config),

  fromConfig(reader) {
    const sharedWidth = reader.size('shared_intermediate_size', 0, 0);
    return { ...readGranite(reader), ...(sharedWidth > 0 && { sharedWidth }) };
  },

  toConfig: (config) => ({ ...writeGranite(config), shared_intermediate_size: config.sharedWidth ?? 0 }),
  layouts: (config) => [decoderPlaces(config, (layer) => [...experts(config, layer), ...shared(config, layer)])],
};

function readGranite(reader: ConfigReader): ModelConfig {
  return {
    ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-6 }),
    numExperts: reader.size('num_local_experts', 8, 2),
    topK: reader.size('num_experts_per_tok', 2),
    expertWidth: reader.size('intermediate_size'),
    ...readBalancing(reader, 0.001),
    ...attentionBiases(reader.boolean('attention_bias', false)),
    embeddingMultiplier: reader.number('embedding_multiplier', 1),
    attentionMultiplier: reader.number('attention_multiplier', 1),
    residualMultiplier: reader.number('residual_multiplier', 1),
    logitsDivisor: reader.number('logits_scaling', 1),
  };
}

function writeGranite(config: ModelConfig): Record<string, unknown> {
  return {
    intermediate_size: config.expertWidth,
    num_local_experts: config.numExperts,
    num_experts_per_tok: config.topK,
    ...writeBalancing(config),
    attention_bias: config.qkvBias ?? false,
    embedding_multiplier: config.embeddingMultiplier ?? 1,
    attention_multiplier: config.attentionMultiplier ?? config.headDim ** -0.5,
    residual_multiplier: config.residualMultiplier ?? 1,
    logits_scaling: config.logitsDivisor ?? 1,
  };
}

function experts(config: ModelConfig, layer: number): TensorPlace[] {
  const names = {
    router: 'router.layer.weight',
    gateUp: 'input_linear.weight',
    down: 'output_linear.weight',
  };
  return fusedExperts(config, layer, 'block_sparse_moe', names);
}

function shared({ sharedWidth: S, hiddenSize: C }: ModelConfig, layer: number): TensorPlace[] {
  if (S === undefined) return [];
  const file = `model.layers.${layer}.shared_mlp`;
  const ours = `layers.${layer}.shared_expert`;
  return [
    whole(`${file}.input_linear.weight`, [2 * S, C], `${ours}.gate_up`),
    whole(`${file}.output_linear.weight`, [C, S], `${ours}.down`),
  ];
}
