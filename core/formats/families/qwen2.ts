// Qwen 2 and 2.5 (Yang et al. 2024): Llama's layers with biases on queries, keys and values.

import { decoderPlaces, denseFields, denseMlp, readDecoder } from './decoder.ts';
import type { Family } from './family.ts';
import { holds } from './switches.ts';
import { hasOneSize, lastSlide, readLayerWindows, writeLayerWindows } from './windows.ts';

export const qwen2: Family = {
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  exports: (config) =>
    config.numExperts === 1 && config.qkvBias === true && holds(config, ['qkvBias', 'window']) && hasOneSize(config),

  fromConfig: (reader) => ({
    ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-6 }),
    ...denseFields(reader),
    ...readLayerWindows(reader, lastSlide),
    qkvBias: true,
  }),

  toConfig: (config) => ({ intermediate_size: config.expertWidth, ...writeLayerWindows(config, lastSlide) }),

  layouts: (config) => [decoderPlaces(config, (layer) => denseMlp(config, layer))],
};
