// Sliding windows in config.json: one for all layers (Mistral, Mixtral), or for some (Qwen).

import { type ModelConfig, windowOf } from '../../model/config.ts';
import type { ConfigReader } from './family.ts';

const STANDARD = 4096;
const FULL = 'full_attention';
const SLIDING = 'sliding_attention';

/** Whether a layer slides by its number and `max_window_layers`. */
type Slides = (layer: number, maxWindowLayers: number) => boolean;

/** Qwen 2 and 3: the last layers. */
export const lastSlide: Slides = (layer, maxWindowLayers) => layer >= maxWindowLayers;

/** One window for all layers, or none where the field is null. */
export function readWindow(reader: ConfigReader, standard: number | null): Pick<ModelConfig, 'window'> {
  const value = reader.raw['sliding_window'];
  const window = value === undefined ? standard : value;
  return window === null ? {} : { window: reader.size('sliding_window', standard ?? undefined) };
}

/** Whether one window for all layers, or none, is all that the model has. */
export function hasOneWindow({ window }: ModelConfig): boolean {
  return !Array.isArray(window);
}

/**
 * The windows of Qwen's layers: none unless `use_sliding_window`; then those of `layer_types`, or where that is missing those of
 * the layers that `slides` says.
 */
export function readLayerWindows(reader: ConfigReader, slides: Slides): Pick<ModelConfig, 'window'> {
  const numLayers = reader.size('num_hidden_layers');
  const types = layerTypes(reader, numLayers);
  if (!reader.boolean('use_sliding_window', false)) {
    if (types?.includes(SLIDING)) throw reader.contradiction('layer_types', types, 'use_sliding_window', false);
    return {};
  }
  const window = reader.raw['sliding_window'] === null ? 0 : reader.size('sliding_window', STANDARD);
  if (window === 0) return {};
  const first = reader.size('max_window_layers', 28, 0);
  const isSliding = (layer: number) => (types ? types[layer] === SLIDING : slides(layer, first));
  const windows = Array.from({ length: numLayers }, (_, layer) => (isSliding(layer) ? window : 0));
  return windows.some((size) => size > 0) ? { window: windows } : {};
}

function layerTypes(reader: ConfigReader, numLayers: number): readonly string[] | undefined {
  const types = reader.raw['layer_types'] ?? undefined;
  if (types === undefined) return undefined;
  if (!Array.isArray(types) || types.length !== numLayers) {
    throw reader.wrong('layer_types', types, `a list of ${numLayers} names, one for each of num_hidden_layers,`);
  }
  const unknown: unknown = types.find((type) => type !== FULL && type !== SLIDING);
  if (unknown !== undefined) throw reader.unsupported('layer_types', unknown, `${FULL} and ${SLIDING}`);
  return types as string[];
}

/** Whether all windows are of one size, which is all that can be written. */
export function hasOneSize(config: ModelConfig): boolean {
  return new Set(windowsOf(config).filter((size) => size > 0)).size <= 1;
}

/** The fields of Qwen's layers. Readers that do not know `layer_types` go by `max_window_layers`, where that can say it. */
export function writeLayerWindows(config: ModelConfig, slides: Slides): Record<string, unknown> {
  const windows = windowsOf(config);
  const window = Math.max(...windows);
  if (window === 0) return { use_sliding_window: false, layer_types: windows.map(() => FULL) };
  const border = Array.from({ length: config.numLayers + 1 }, (_, layer) => layer).find((first) =>
    windows.every((size, layer) => size > 0 === slides(layer, first)),
  );
  return {
    use_sliding_window: true,
    sliding_window: window,
    ...(border !== undefined && { max_window_layers: border }),
    layer_types: windows.map((size) => (size > 0 ? SLIDING : FULL)),
  };
}

function windowsOf(config: ModelConfig): number[] {
  return Array.from({ length: config.numLayers }, (_, layer) => windowOf(config, layer));
}
