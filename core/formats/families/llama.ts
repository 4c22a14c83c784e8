// Llama (Touvron et al. 2023; Dubey et al. 2024): a dense decoder; our model with one expert.

import { decoderPlaces, denseFields, denseMlp, readDecoder } from './decoder.ts';
import type { Family } from './family.ts';
import { attentionBiases, biasesAgree, holds } from './switches.ts';

export const llama: Family = {
  modelType: 'llama',
  architecture: 'LlamaForCausalLM',
  exports: (config) =>
    config.numExperts === 1 && holds(config, ['qkvBias', 'outputBias', 'mlpBias']) && biasesAgree(config),

  fromConfig(reader) {
    reader.refuse('sliding_window');
    return {
      ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-6 }),
      ...denseFields(reader),
      ...attentionBiases(reader.boolean('attention_bias', false)),
      ...(reader.boolean('mlp_bias', false) && { mlpBias: true }),
    };
  },

  toConfig: (config) => ({
    intermediate_size: config.expertWidth,
    attention_bias: config.qkvBias ?? false,
    mlp_bias: config.mlpBias ?? false,
  }),

  layouts: (config) => [decoderPlaces(config, (layer) => denseMlp(config, layer))],
};
