// Mistral (Jiang et al. 2023): Llama's layers, all with one sliding window.

import { decoderPlaces, denseFields, denseMlp, readDecoder } from './decoder.ts';
import type { Family } from './family.ts';
import { holds } from './switches.ts';
import { hasOneWindow, readWindow } from './windows.ts';

export const mistral: Family = {
  modelType: 'mistral',
  architecture: 'MistralForCausalLM',
  exports: (config) => config.numExperts === 1 && holds(config, ['window']) && hasOneWindow(config),

  fromConfig: (reader) => ({
    ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-6 }),
    ...denseFields(reader),
    ...readWindow(reader, 4096),
  }),

  toConfig: (config) => ({ intermediate_size: config.expertWidth, sliding_window: config.window ?? null }),

  layouts: (config) => [decoderPlaces(config, (layer) => denseMlp(config, layer))],
};
