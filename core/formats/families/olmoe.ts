// OLMoE (Muennighoff et al. 2024): norms of the whole query and key projections, which may be clipped, and probabilities as they are.

import { decoderPlaces, readDecoder } from './decoder.ts';
import {
  classicExperts,
  fusedExperts,
  LLAMA_NAMES,
  readBalancing,
  readExpertCount,
  readRenormalise,
  writeBalancing,
  writeExpertCount,
} from './experts.ts';
import type { Family } from './family.ts';
import { attentionBiases, biasesAgree, holds } from './switches.ts';

export const olmoe: Family = {
  modelType: 'olmoe',
  architecture: 'OlmoeForCausalLM',
  exports: (config) =>
    config.numExperts > 1 &&
    config.qkNorm === 'whole' &&
    holds(config, ['qkNorm', 'clipQkv', 'qkvBias', 'outputBias', 'renormalise']) &&
    biasesAgree(config),

  fromConfig: (reader) => ({
    ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-5 }),
    numExperts: readExpertCount(reader, 64),
    topK: reader.size('num_experts_per_tok', 8),
    expertWidth: reader.size('intermediate_size', 2048),
    ...readBalancing(reader, 0.01),
    ...readRenormalise(reader),
    ...attentionBiases(reader.boolean('attention_bias', false)),
    ...((reader.raw['clip_qkv'] ?? null) !== null && { clipQkv: reader.number('clip_qkv') }),
    qkNorm: 'whole',
  }),

  toConfig: (config) => ({
    intermediate_size: config.expertWidth,
    ...writeExpertCount(config),
    num_experts_per_tok: config.topK,
    ...writeBalancing(config),
    norm_topk_prob: config.renormalise ?? true,
    attention_bias: config.qkvBias ?? false,
    clip_qkv: config.clipQkv ?? null,
  }),

  layouts: (config) => [
    decoderPlaces(config, (layer) => classicExperts(config, layer, 'mlp', LLAMA_NAMES)),
    decoderPlaces(config, (layer) => fusedExperts(config, layer, 'mlp')),
  ],
};
