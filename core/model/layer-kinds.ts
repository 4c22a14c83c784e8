// Which layers of a model have experts, and how wide the others are.

import type { ModelConfig } from './config.ts';

/** Whether the feed-forward half of `layer` is one dense layer without a router. */
export function isDense({ numExperts, denseLayers }: ModelConfig, layer: number): boolean {
  return numExperts === 1 || (denseLayers?.includes(layer) ?? false);
}

/** Width of the feed-forward half of a layer: of each expert, or of the dense layer. */
export function widthOf(config: ModelConfig, layer: number): number {
  const isAmongExperts = config.numExperts > 1 && isDense(config, layer);
  return isAmongExperts ? (config.denseWidth ?? config.expertWidth) : config.expertWidth;
}

/** Numbers of the layers that have a router and experts. */
export function expertLayers(config: ModelConfig): number[] {
  return Array.from({ length: config.numLayers }, (_, layer) => layer).filter((layer) => !isDense(config, layer));
}
