// A router's selection bias in the files of any family: a tensor a layer under the name that DeepSeek's checkpoints use, and a key
// of our own that says it is there. Other programs read such a directory without it and choose experts by probability alone.

import type { ModelConfig } from '../../model/config.ts';
import type { Family, TensorPlace } from './family.ts';

const KEY = 'gemmoe_selection_bias';

/** The family with places for the biases, where a model has them and the family has none of its own. */
export function withSelectionBias(family: Family): Family {
  return {
    ...family,
    fromConfig(reader) {
      const config = family.fromConfig(reader);
      return reader.boolean(KEY, false) ? { ...config, selectionBias: true } : config;
    },
    toConfig: (config) => ({ ...family.toConfig(config), ...(config.selectionBias && { [KEY]: true }) }),
    layouts: (config) => family.layouts(config).map((layout) => [...layout, ...biasPlaces(config, layout)]),
  };
}

function biasPlaces(config: ModelConfig, layout: readonly TensorPlace[]): TensorPlace[] {
  if (!config.selectionBias) return [];
  const known = new Set(layout.map(({ parameter }) => parameter));
  return Array.from({ length: config.numLayers }, (_, layer) => ({
    name: `model.layers.${layer}.mlp.gate.e_score_correction_bias`,
    shape: [config.numExperts],
    parameter: `layers.${layer}.router_bias`,
    offset: 0,
  })).filter(({ parameter }) => !known.has(parameter));
}
