// The model families that can be read and written, one file each.

import { GemmoeError, nearestName } from '../../errors.ts';
import type { ModelConfig } from '../../model/config.ts';
import type { Family } from './family.ts';
import { ernie45Moe } from './ernie4-5-moe.ts';
import { graniteMoe, graniteMoeShared } from './granite-moe.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { mixtral } from './mixtral.ts';
import { olmoe } from './olmoe.ts';
import { phimoe } from './phimoe.ts';
import { qwen2Moe } from './qwen2-moe.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3Moe } from './qwen3-moe.ts';
import { qwen3 } from './qwen3.ts';
import { withSelectionBias } from './selection-bias.ts';
import { switchesOn } from './switches.ts';

/** The first that can hold a model is the one that a model of ours is written as. */
export const FAMILIES: readonly Family[] = [
  ...[llama, mistral, qwen2, qwen3],
  ...[mixtral, olmoe, qwen3Moe, graniteMoe, graniteMoeShared, qwen2Moe, ernie45Moe, phimoe],
].map(withSelectionBias);

/** The family of a config.json's model_type. @throws GemmoeError listing those supported */
export function familyOf(modelType: unknown, path: string): Family {
  const found = FAMILIES.find((family) => family.modelType === modelType);
  if (found) return found;
  const names = FAMILIES.map((family) => family.modelType);
  const nearest = typeof modelType === 'string' ? nearestName(modelType, names) : undefined;
  throw new GemmoeError(
    'unavailable',
    `${path}: model_type ${JSON.stringify(modelType)} is not supported`,
    `${nearest ? `did you mean "${nearest}"? ` : ''}supported: ${names.join(', ')}`,
  );
}

/**
 * The family that a model is written as: the one it came from, or else the first that can hold it.
 * @throws GemmoeError where none can, naming what no family has together
 */
export function exportFamily(config: ModelConfig): Family {
  const able = FAMILIES.filter((family) => family.exports(config));
  const found = able.find(({ modelType }) => modelType === config.family) ?? able.at(0);
  if (found) return found;
  const switches: string[] = switchesOn(config);
  if (config.selectionBias) switches.push('selectionBias');
  const kind = config.numExperts > 1 ? 'a model of experts' : 'a dense model';
  throw new GemmoeError(
    'unavailable',
    `no family of models that is supported can hold ${kind} with ${switches.join(', ')}`,
    'leave some of it out',
  );
}

/** The config as a family's: marked where another family would be chosen for it. */
export function markFamily(config: ModelConfig, { modelType }: Family): ModelConfig {
  return exportFamily(config).modelType === modelType ? config : { ...config, family: modelType };
}
