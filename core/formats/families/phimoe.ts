// Phi-3.5-MoE, Phi-mini-MoE and Phi-tiny-MoE (Abdin et al. 2024): LayerNorm, biases everywhere, sparsemixer.

import type { ModelConfig } from '../../model/config.ts';
import { decoderPlaces, readDecoder } from './decoder.ts';
import { classicExperts, fusedExperts, MIXTRAL_NAMES, readBalancing, writeBalancing } from './experts.ts';
import type { Family } from './family.ts';
import { attentionBiases, biasesAgree, holds } from './switches.ts';

export const phimoe: Family = {
  modelType: 'phimoe',
  architecture: 'PhimoeForCausalLM',
  exports: (config) =>
    config.numExperts > 1 &&
    config.norm === 'layer' &&
    config.sparseMixer !== undefined &&
    holds(config, ['norm', 'sparseMixer', 'qkvBias', 'outputBias', 'headBias']) &&
    biasesAgree(config),

  // input_jitter_noise is noise of their training, as dropout is, and asks for nothing when the model is used; sliding_window
  // stands in published files, but attention in transformers 5 does not follow it
  fromConfig: (reader): ModelConfig => ({
    ...readDecoder(reader, { ropeTheta: 1e6, eps: 1e-5 }),
    numExperts: reader.size('num_local_experts', 16, 2),
    topK: reader.size('num_experts_per_tok', 2),
    expertWidth: reader.size('intermediate_size', 6400),
    ...readBalancing(reader, 0.001),
    ...attentionBiases(reader.boolean('attention_bias', false)),
    ...(reader.boolean('lm_head_bias', false) && { headBias: true }),
    norm: 'layer',
    sparseMixer: reader.number('router_jitter_noise', 0.01),
  }),

  toConfig: (config) => ({
    intermediate_size: config.expertWidth,
    num_local_experts: config.numExperts,
    num_experts_per_tok: config.topK,
    ...writeBalancing(config),
    attention_bias: config.qkvBias ?? false,
    lm_head_bias: config.headBias ?? false,
    router_jitter_noise: config.sparseMixer,
  }),

  layouts: (config) => [
    decoderPlaces(config, (layer) => classicExperts(config, layer, 'block_sparse_moe', MIXTRAL_NAMES)),
    decoderPlaces(config, (layer) => fusedExperts(config, layer, 'mlp', { router: 'router.weight' })),
  ],
};
