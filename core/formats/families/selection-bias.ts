// A router's selection bias in the files of any family: a tensor a layer under the name that DeepSeek's checkpoints use, and a key
// of our own that says it is there. Other programs read such a directory without it and choose experts by probability alone.

import type { ModelConfig } from '../../model/config.ts';
import { expertLayers } from '../../model/layer-kinds.ts';
import type { Family, TensorPlace } from './family.ts';

const KEY = 'gemmoe_selection_bias';

/** The family with places for the biases of models that have them; one that has its own is left as it is. */
export function withSelectionBias(family: Family): Family {
  if (family.hasSelectionBias) return family;
  return {
    ...family,
    fromConfig(reader) {
      const config = family.fromConfig(reader);
      return reader.boolean(KEY, false) ? { ...config, selectionBias: true } : config;
    },
    toConfig: (config) => ({ ...family.toConfig(config), ...(config.selectionBias && { [KEY]: true }) }),
    layouts: (config) => family.layouts(config).map((layout) => [...layout, ...biasPlaces(config)]),
  };
}

function biasPlaces(config: ModelConfig): TensorPlace[] {
  if (!config.selectionBias) return [];
  return expertLayers(config).map((layer) => ({
    name: `model.layers.${layer}.mlp.gate.e_score_correction_bias`,
    shape: [config.numExperts],
    parameter: `layers.${layer}.router_bias`,
    offset: 0,
  }));
}
