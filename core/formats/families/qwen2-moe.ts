// Qwen 1.5 and 2 MoE (Yang et al. 2024): Qwen 2's attention over experts, a gated shared one beside them, some layers dense.

import type { ModelConfig } from '../../model/config.ts';
import { decoderPlaces, readDecoder, whole } from './decoder.ts';
import {
  classicExperts,
  denseOr,
  fusedExperts,
  LLAMA_NAMES,
  readBalancing,
  readDenseLayers,
  readExpertCount,
  readRenormalise,
  sharedExpert,
  writeBalancing,
  writeDenseLayers,
  writeExpertCount,
} from './experts.ts';
import type { Family, TensorPlace } from './family.ts';
import { holds } from './switches.ts';
import { hasOneSize, readLayerWindows, writeLayerWindows } from './windows.ts';

/** Every other layer, and not Qwen 2's last ones. */
const slides = (layer: number, firstFull: number) => layer % 2 === 0 && layer < firstFull;

export const qwen2Moe: Family = {
  modelType: 'qwen2_moe',
  architecture: 'Qwen2MoeForCausalLM',
  exports: (config) =>
    config.numExperts > 1 &&
    config.sharedGate === true &&
    holds(config, ['qkvBias', 'window', 'renormalise', 'denseLayers', 'sharedWidth', 'sharedGate']) &&
    hasOneSize(config),

  fromConfig: (reader) => ({
    ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-6 }),
    ...readLayerWindows(reader, slides),
    numExperts: readExpertCount(reader, 60),
    topK: reader.size('num_experts_per_tok', 4),
    expertWidth: reader.size('moe_intermediate_size', 1408),
    ...readDenseLayers(reader, 5632),
    ...readBalancing(reader, 0.001),
    ...readRenormalise(reader),
    ...(reader.boolean('qkv_bias', true) && { qkvBias: true }),
    sharedWidth: reader.size('shared_expert_intermediate_size', 5632),
    sharedGate: true,
  }),

  toConfig: (config) => ({
    moe_intermediate_size: config.expertWidth,
    ...writeExpertCount(config),
    num_experts_per_tok: config.topK,
    ...writeDenseLayers(config),
    ...writeBalancing(config),
    ...writeLayerWindows(config, slides),
    norm_topk_prob: config.renormalise ?? true,
    qkv_bias: config.qkvBias ?? false,
    shared_expert_intermediate_size: config.sharedWidth,
  }),

  layouts: (config) => [
    decoderPlaces(
      config,
      denseOr(config, (layer) => [...classicExperts(config, layer, 'mlp', LLAMA_NAMES), ...gatedExpert(config, layer)]),
    ),
    decoderPlaces(
      config,
      denseOr(config, (layer) => [...fusedExperts(config, layer, 'mlp'), ...gatedExpert(config, layer)]),
    ),
  ],
};

function gatedExpert(config: ModelConfig, layer: number): TensorPlace[] {
  const gate = `model.layers.${layer}.mlp.shared_expert_gate.weight`;
  return [
    ...sharedExpert(config, layer, 'mlp.shared_expert'),
    whole(gate, [1, config.hiddenSize], `layers.${layer}.shared_router`),
  ];
}
