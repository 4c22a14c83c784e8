// Qwen 3 (Yang et al. 2025): Llama's layers with a norm of every head's query and key.

import { decoderPlaces, denseFields, denseMlp, readDecoder } from './decoder.ts';
import type { Family } from './family.ts';
import { attentionBiases, biasesAgree, holds } from './switches.ts';
import { hasOneSize, lastSlide, readLayerWindows, writeLayerWindows } from './windows.ts';

export const qwen3: Family = {
  modelType: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  exports: (config) =>
    config.numExperts === 1 &&
    config.qkNorm === 'head' &&
    holds(config, ['qkNorm', 'qkvBias', 'outputBias', 'window']) &&
    biasesAgree(config) &&
    hasOneSize(config),

  fromConfig: (reader) => ({
    ...readDecoder(reader, { ropeTheta: 10000, eps: 1e-6, headDim: 128 }),
    ...denseFields(reader),
    ...readLayerWindows(reader, lastSlide),
    ...attentionBiases(reader.boolean('attention_bias', false)),
    qkNorm: 'head',
  }),

  toConfig: (config) => ({
    intermediate_size: config.expertWidth,
    attention_bias: config.qkvBias ?? false,
    ...writeLayerWindows(config, lastSlide),
  }),

  layouts: (config) => [decoderPlaces(config, (layer) => denseMlp(config, layer))],
};
