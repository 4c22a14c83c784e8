// What families of experts have in common: fields of config.json, and the layouts of their feed-forward layers.

import type { ModelConfig } from '../../model/config.ts';
import { isDense, widthOf } from '../../model/layer-kinds.ts';
import { denseMlp, whole } from './decoder.ts';
import type { ConfigReader, TensorPlace } from './family.ts';

/** A key of our own: Hugging Face always pools, and passes over what it does not know. */
const REDUCTION = 'gemmoe_aux_loss_reduction';

/** Weight and kind of the load-balancing loss. */
export function readBalancing(reader: ConfigReader, standard: number) {
  return {
    auxLossCoefficient: reader.number('router_aux_loss_coef', standard),
    auxLossReduction: reader.choice(REDUCTION, ['perLayer', 'pooled'], 'pooled'),
  };
}

export function writeBalancing(config: ModelConfig): Record<string, unknown> {
  return { router_aux_loss_coef: config.auxLossCoefficient, [REDUCTION]: config.auxLossReduction };
}

/** Number of experts under either of two names: transformers 5 writes some families' otherwise than 4 did. */
export function readExpertCount(reader: ConfigReader, standard: number): number {
  const [old, current] = [reader.raw['num_experts'] ?? undefined, reader.raw['num_local_experts'] ?? undefined];
  if (old !== undefined && current !== undefined && old !== current) {
    throw reader.contradiction('num_experts', old, 'num_local_experts', current);
  }
  return reader.size(old === undefined && current !== undefined ? 'num_local_experts' : 'num_experts', standard, 2);
}

export function writeExpertCount({ numExperts }: ModelConfig): Record<string, unknown> {
  return { num_experts: numExperts, num_local_experts: numExperts };
}

/** Whether weights are divided by their sum, under Hugging Face's name; false where the field is missing. */
export function readRenormalise(reader: ConfigReader): Pick<ModelConfig, 'renormalise'> {
  return reader.boolean('norm_topk_prob', false) ? {} : { renormalise: false };
}

/** Qwen's dense layers: those of `mlp_only_layers`, and those that `decoder_sparse_step` passes over. */
export function readDenseLayers(reader: ConfigReader, standardWidth: number) {
  const numLayers = reader.size('num_hidden_layers');
  const step = reader.size('decoder_sparse_step', 1);
  const only = reader.raw['mlp_only_layers'] ?? [];
  if (!Array.isArray(only) || !only.every((layer) => Number.isInteger(layer))) {
    throw reader.wrong('mlp_only_layers', only, 'a list of numbers of layers');
  }
  return denseFieldsOf(reader, numLayers, standardWidth, (layer) => only.includes(layer) || (layer + 1) % step !== 0);
}

/** The dense layers, and their width, where there are any. */
export function denseFieldsOf(
  reader: ConfigReader,
  numLayers: number,
  standardWidth: number,
  isDenseLayer: (layer: number) => boolean,
): Pick<ModelConfig, 'denseLayers' | 'denseWidth'> {
  const denseLayers = Array.from({ length: numLayers }, (_, layer) => layer).filter(isDenseLayer);
  if (denseLayers.length === 0) return {};
  return { denseLayers, denseWidth: reader.size('intermediate_size', standardWidth) };
}

/** The fields of Qwen's dense layers; a width that no layer has is kept as it was read. */
export function writeDenseLayers({ denseLayers = [], denseWidth }: ModelConfig): Record<string, unknown> {
  return {
    decoder_sparse_step: 1,
    mlp_only_layers: denseLayers,
    ...(denseLayers.length > 0 && { intermediate_size: denseWidth }),
  };
}

/** Names of one expert's three projections. */
export const MIXTRAL_NAMES = { gate: 'w1', up: 'w3', down: 'w2' } as const;
export const LLAMA_NAMES = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' } as const;

/** A tensor for each projection of each expert of `layer`, as published. */
export function classicExperts(
  config: ModelConfig,
  layer: number,
  part: string,
  names: Readonly<Record<'gate' | 'up' | 'down', string>>,
): TensorPlace[] {
  const { hiddenSize: C, expertWidth: F, numExperts: E } = config;
  const file = `model.layers.${layer}.${part}`;
  const ours = `layers.${layer}`;
  const places = [whole(`${file}.gate.weight`, [E, C], `${ours}.router`)];
  for (let e = 0; e < E; e++) {
    const expert = `${file}.experts.${e}`;
    const gateUp = `${ours}.experts.gate_up`;
    places.push(
      { name: `${expert}.${names.gate}.weight`, shape: [F, C], parameter: gateUp, offset: e * 2 * F * C },
      { name: `${expert}.${names.up}.weight`, shape: [F, C], parameter: gateUp, offset: (e * 2 + 1) * F * C },
      { name: `${expert}.${names.down}.weight`, shape: [C, F], parameter: `${ours}.experts.down`, offset: e * C * F },
    );
  }
  return places;
}

/** All experts of `layer` in one tensor, by default under the names that transformers 5 has in memory. */
export function fusedExperts(
  config: ModelConfig,
  layer: number,
  part: string,
  { router = 'gate.weight', gateUp = 'experts.gate_up_proj', down = 'experts.down_proj' } = {},
): TensorPlace[] {
  const { hiddenSize: C, expertWidth: F, numExperts: E } = config;
  const file = `model.layers.${layer}.${part}`;
  const ours = `layers.${layer}`;
  return [
    whole(`${file}.${router}`, [E, C], `${ours}.router`),
    whole(`${file}.${gateUp}`, [E, 2 * F, C], `${ours}.experts.gate_up`),
    whole(`${file}.${down}`, [E, C, F], `${ours}.experts.down`),
  ];
}

/** The shared expert of `layer`, its projections named as Llama's; nothing where the model has none. */
export function sharedExpert({ sharedWidth, hiddenSize: C }: ModelConfig, layer: number, part: string): TensorPlace[] {
  if (sharedWidth === undefined) return [];
  const file = `model.layers.${layer}.${part}`;
  const ours = `layers.${layer}.shared_expert`;
  const S = sharedWidth;
  return [
    { name: `${file}.gate_proj.weight`, shape: [S, C], parameter: `${ours}.gate_up`, offset: 0 },
    { name: `${file}.up_proj.weight`, shape: [S, C], parameter: `${ours}.gate_up`, offset: S * C },
    whole(`${file}.down_proj.weight`, [C, S], `${ours}.down`),
  ];
}

/** The layer that is dense, or else what `experts` gives. */
export function denseOr(
  config: ModelConfig,
  experts: (layer: number) => readonly TensorPlace[],
): (layer: number) => readonly TensorPlace[] {
  return (layer) => (isDense(config, layer) ? denseMlp(config, layer, widthOf(config, layer)) : experts(layer));
}
