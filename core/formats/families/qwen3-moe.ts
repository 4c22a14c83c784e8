// Qwen 3 MoE (Yang et al. 2025): Qwen 3's attention over experts, some layers dense.

import { decoderPlaces, readDecoder } from './decoder.ts';
import {
  classicExperts,
  denseOr,
  fusedExperts,
  LLAMA_NAMES,
  readBalancing,
  readDenseLayers,
  readExpertCount,
  readRenormalise,
  writeBalancing,
  writeDenseLayers,
  writeExpertCount,
} from './experts.ts';
import type { Family } from './family.ts';
import { attentionBiases, biasesAgree, holds } from './switches.ts';
import { hasOneWindow, readWindow } from './windows.ts';

export const qwen3Moe: Family = {
  modelType: 'qwen3_moe',
  architecture: 'Qwen3MoeForCausalLM',
  exports: (config) =>
    config.numExperts > 1 &&
    config.qkNorm === 'head' &&
    holds(config, ['qkNorm', 'qkvBias', 'outputBias', 'window', 'renormalise', 'denseLayers']) &&
    biasesAgree(config) &&
    hasOneWindow(config),

  fromConfig: (reader) => ({
    ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-6 }),
    ...(reader.boolean('use_sliding_window', false) && readWindow(reader, 4096)),
    numExperts: readExpertCount(reader, 128),
    topK: reader.size('num_experts_per_tok', 8),
    expertWidth: reader.size('moe_intermediate_size', 768),
    ...readDenseLayers(reader, 6144),
    ...readBalancing(reader, 0.001),
    ...readRenormalise(reader),
    ...attentionBiases(reader.boolean('attention_bias', false)),
    qkNorm: 'head',
  }),

  toConfig: (config) => ({
    moe_intermediate_size: config.expertWidth,
    ...writeExpertCount(config),
    num_experts_per_tok: config.topK,
    ...writeDenseLayers(config),
    ...writeBalancing(config),
    norm_topk_prob: config.renormalise ?? true,
    attention_bias: config.qkvBias ?? false,
    use_sliding_window: config.window !== undefined,
    sliding_window: config.window ?? null,
  }),

  layouts: (config) => [
    decoderPlaces(
      config,
      denseOr(config, (layer) => classicExperts(config, layer, 'mlp', LLAMA_NAMES)),
    ),
    decoderPlaces(
      config,
      denseOr(config, (layer) => fusedExperts(config, layer, 'mlp')),
    ),
  ],
};
