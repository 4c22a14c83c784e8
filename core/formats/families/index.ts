// The model families that can be read and written, one file each.

import { GemmoeError, nearestName } from '../../errors.ts';
import type { ModelConfig } from '../../model/config.ts';
import type { Family } from './family.ts';
import { llama } from './llama.ts';
import { mixtral } from './mixtral.ts';
import { withSelectionBias } from './selection-bias.ts';

export const FAMILIES: readonly Family[] = [llama, mixtral].map(withSelectionBias);

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

/** The family that a model of ours is written as. */
export function exportFamily(config: ModelConfig): Family {
  const found = FAMILIES.find((family) => family.exports(config));
  if (!found) throw new GemmoeError('internal', 'no family can hold this model');
  return found;
}
