// ERNIE 4.5 MoE (Baidu 2025): rope on neighbours, experts chosen with a bias on their probabilities, shared ones beside them, the
// first layers dense.

import type { ModelConfig } from '../../model/config.ts';
import { decoderPlaces, readDecoder } from './decoder.ts';
import {
  classicExperts,
  denseFieldsOf,
  denseOr,
  fusedExperts,
  LLAMA_NAMES,
  readBalancing,
  sharedExpert,
  writeBalancing,
} from './experts.ts';
import type { ConfigReader, Family, TensorPlace } from './family.ts';
import { holds } from './switches.ts';

export const ernie45Moe: Family = {
  modelType: 'ernie4_5_moe',
  architecture: 'Ernie4_5_MoeForCausalLM',
  hasSelectionBias: true,
  exports: (config) =>
    config.numExperts > 1 &&
    config.selectionBias === true &&
    config.ropeInterleaved === true &&
    !config.sharedGate &&
    holds(config, ['ropeInterleaved', 'renormaliseFloor', 'sharedWidth', 'denseLayers']) &&
    (config.sharedWidth ?? 0) % config.expertWidth === 0 &&
    denseRange(config) !== undefined,

  fromConfig(reader) {
    reader.refuse('use_bias');
    const expertWidth = reader.size('moe_intermediate_size', 1536);
    const shared = reader.size('moe_num_shared_experts', 2, 0);
    return {
      ...readDecoder(reader, { ropeTheta: 5e5, eps: 1e-5, tieEmbeddings: true }),
      numExperts: reader.size('moe_num_experts', 64, 2),
      topK: reader.size('moe_k', 6),
      expertWidth,
      ...readDense(reader),
      ...readBalancing(reader, 0.001),
      ...(shared > 0 && { sharedWidth: shared * expertWidth }),
      renormaliseFloor: reader.number('moe_norm_min', 1e-12),
      ropeInterleaved: true,
      selectionBias: true,
    };
  },

  toConfig(config) {
    const { first, last, interval } = denseRange(config) ?? {};
    return {
      moe_num_experts: config.numExperts,
      moe_k: config.topK,
      moe_intermediate_size: config.expertWidth,
      moe_num_shared_experts: (config.sharedWidth ?? 0) / config.expertWidth,
      moe_norm_min: config.renormaliseFloor ?? 1e-12,
      ...(config.denseWidth !== undefined && { intermediate_size: config.denseWidth }),
      moe_layer_start_index: first,
      moe_layer_end_index: last === config.numLayers - 1 ? -1 : last,
      moe_layer_interval: interval,
      ...writeBalancing(config),
      use_bias: false,
    };
  },

  layouts: (config) => [
    decoderPlaces(
      config,
      denseOr(config, (layer) => [
        ...classicExperts(config, layer, 'mlp', LLAMA_NAMES),
        ...beside(config, layer, 'mlp.moe_statics'),
      ]),
    ),
    decoderPlaces(
      config,
      denseOr(config, (layer) => [
        ...fusedExperts(config, layer, 'mlp'),
        ...beside(config, layer, 'mlp.gate.moe_statics'),
      ]),
    ),
  ],

  // layers that predict several tokens at once, which transformers passes over as well
  ignores: (name) => name.startsWith('model.mtp_'),
};

function beside(config: ModelConfig, layer: number, statics: string): TensorPlace[] {
  const bias: TensorPlace = {
    name: `model.layers.${layer}.${statics}.e_score_correction_bias`,
    shape: [1, config.numExperts],
    parameter: `layers.${layer}.router_bias`,
    offset: 0,
  };
  return [bias, ...sharedExpert(config, layer, 'mlp.shared_experts')];
}

/** Dense are all layers but every `interval`-th from the first to the last that has experts. */
function isDenseIn(range: { readonly first: number; readonly last: number; readonly interval: number }) {
  const { first, last, interval } = range;
  return (layer: number) => layer < first || layer > last || (layer + 1) % interval !== 0;
}

function readDense(reader: ConfigReader) {
  const numLayers = reader.size('num_hidden_layers');
  const end = reader.raw['moe_layer_end_index'] ?? -1;
  const last = end === -1 ? numLayers - 1 : reader.size('moe_layer_end_index', undefined, 0);
  const first = reader.size('moe_layer_start_index', 1, 0);
  const interval = reader.size('moe_layer_interval', 1);
  return denseFieldsOf(reader, numLayers, 12288, isDenseIn({ first, last, interval }));
}

/** The fields that give these dense layers; undefined where none do. */
function denseRange(config: ModelConfig): { first: number; last: number; interval: number } | undefined {
  const { numLayers, denseLayers = [] } = config;
  const sparse = Array.from({ length: numLayers }, (_, layer) => layer).filter((layer) => !denseLayers.includes(layer));
  if (sparse.length === 0) return undefined;
  const interval = sparse.length > 1 ? sparse[1] - sparse[0] : 1;
  const [first, last] = [sparse[0], sparse[sparse.length - 1]];
  const isDense = isDenseIn({ first, last, interval });
  const isSame = Array.from({ length: numLayers }, (_, layer) => isDense(layer) === denseLayers.includes(layer));
  return isSame.every(Boolean) ? { first, last, interval } : undefined;
}
