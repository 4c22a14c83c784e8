// Mixtral (Jiang et al. 2024): our own architecture, so what gemmoe trains is a Mixtral.

import type { ModelConfig } from '../../model/config.ts';
import { decoderPlaces, readDecoder, whole } from './decoder.ts';
import type { Family, TensorPlace } from './family.ts';
import { holds } from './switches.ts';
import { hasOneWindow, readWindow } from './windows.ts';

/** A key of our own: Hugging Face always pools, and passes over what it does not know. */
const REDUCTION = 'gemmoe_aux_loss_reduction';

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
      auxLossCoefficient: reader.number('router_aux_loss_coef', 0.001),
      auxLossReduction: reader.choice(REDUCTION, ['perLayer', 'pooled'], 'pooled'),
    };
  },

  toConfig: (config) => ({
    intermediate_size: config.expertWidth,
    num_local_experts: config.numExperts,
    num_experts_per_tok: config.topK,
    router_aux_loss_coef: config.auxLossCoefficient,
    [REDUCTION]: config.auxLossReduction,
    router_jitter_noise: 0,
    sliding_window: config.window ?? null,
  }),

  // per expert, as published; fused per layer, as transformers 5 holds them in memory
  layouts: (config) => [
    decoderPlaces(config, (layer) => classic(config, layer)),
    decoderPlaces(config, (layer) => fused(config, layer, 'mlp')),
    decoderPlaces(config, (layer) => fused(config, layer, 'block_sparse_moe')),
  ],
};

function classic(config: ModelConfig, layer: number): TensorPlace[] {
  const { hiddenSize: C, expertWidth: F, numExperts: E } = config;
  const file = `model.layers.${layer}.block_sparse_moe`;
  const { gateUp, down, router } = ourNames(layer);
  const places = [whole(`${file}.gate.weight`, [E, C], router)];
  for (let e = 0; e < E; e++) {
    const expert = `${file}.experts.${e}`;
    places.push(
      { name: `${expert}.w1.weight`, shape: [F, C], parameter: gateUp, offset: e * 2 * F * C },
      { name: `${expert}.w3.weight`, shape: [F, C], parameter: gateUp, offset: (e * 2 + 1) * F * C },
      { name: `${expert}.w2.weight`, shape: [C, F], parameter: down, offset: e * C * F },
    );
  }
  return places;
}

function fused(config: ModelConfig, layer: number, part: string): TensorPlace[] {
  const { hiddenSize: C, expertWidth: F, numExperts: E } = config;
  const file = `model.layers.${layer}.${part}`;
  const { gateUp, down, router } = ourNames(layer);
  return [
    whole(`${file}.gate.weight`, [E, C], router),
    whole(`${file}.experts.gate_up_proj`, [E, 2 * F, C], gateUp),
    whole(`${file}.experts.down_proj`, [E, C, F], down),
  ];
}

function ourNames(layer: number) {
  const name = `layers.${layer}`;
  return { router: `${name}.router`, gateUp: `${name}.experts.gate_up`, down: `${name}.experts.down` };
}
