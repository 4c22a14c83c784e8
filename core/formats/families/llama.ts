// Llama: a dense decoder; our model with one expert.

import { decoderPlaces, type Family, readDecoder } from './family.ts';

export const llama: Family = {
  modelType: 'llama',
  architecture: 'LlamaForCausalLM',
  exports: (config) => config.numExperts === 1,

  fromConfig(reader) {
    reader.refuse('attention_bias');
    reader.refuse('mlp_bias');
    const expertWidth = reader.size('intermediate_size');
    const decoder = readDecoder(reader, { ropeTheta: 10000, eps: 1e-6 });
    return { ...decoder, numExperts: 1, topK: 1, expertWidth, auxLossCoefficient: 0, auxLossReduction: 'pooled' };
  },

  toConfig: (config) => ({ intermediate_size: config.expertWidth, attention_bias: false, mlp_bias: false }),

  layouts(config) {
    const { hiddenSize: C, expertWidth: F } = config;
    const places = decoderPlaces(config, (layer) => {
      const file = `model.layers.${layer}.mlp`;
      const experts = `layers.${layer}.experts`;
      return [
        { name: `${file}.gate_proj.weight`, shape: [F, C], parameter: `${experts}.gate_up`, offset: 0 },
        { name: `${file}.up_proj.weight`, shape: [F, C], parameter: `${experts}.gate_up`, offset: F * C },
        { name: `${file}.down_proj.weight`, shape: [C, F], parameter: `${experts}.down`, offset: 0 },
      ];
    });
    return [places];
  },
};
