// Mixtral (Jiang et al. 2024): our own architecture, so what gemmoe trains is a Mixtral.

import { decoderPlaces, readDecoder } from './decoder.ts';
import { classicExperts, fusedExperts, MIXTRAL_NAMES, readBalancing, writeBalancing } from './experts.ts';
import type { Family } from './family.ts';
import { holds } from './switches.ts';
import { hasOneWindow, readWindow } from './windows.ts';

export const mixtral: Family = {
  modelType: 'mixtral',
  architecture: 'MixtralForCausalLM',
  exports: (config) => config.numExperts > 1 && holds(config, ['window']) && hasOneWindow(config),

  fromConfig(reader) {
    reader.require('router_jitter_noise', 0);
    return {
      ...readDecoder(reader, { ropeTheta: 1e6, eps: 1e-5 }),
      ...readWindow(reader, null),
      numExperts: reader.size('num_local_experts', 8, 2), // one expert has no router: that is a llama
      topK: reader.size('num_experts_per_tok', 2),
      expertWidth: reader.size('intermediate_size'),
      ...readBalancing(reader, 0.001),
    };
  },

  toConfig: (config) => ({
    intermediate_size: config.expertWidth,
    num_local_experts: config.numExperts,
    num_experts_per_tok: config.topK,
    ...writeBalancing(config),
    router_jitter_noise: 0,
    sliding_window: config.window ?? null,
  }),

  // per expert, as published; fused per layer, as transformers 5 holds them in memory
  layouts: (config) => [
    decoderPlaces(config, (layer) => classicExperts(config, layer, 'block_sparse_moe', MIXTRAL_NAMES)),
    decoderPlaces(config, (layer) => fusedExperts(config, layer, 'mlp')),
    decoderPlaces(config, (layer) => fusedExperts(config, layer, 'block_sparse_moe')),
  ],
};
