// What an optimizer wants where the user says nothing: a learning rate of its size, a schedule of its kind.

import { parseOptionsText, parseSpec } from '../core/config.ts';
import type { OptimizerContribution } from '../core/plugin.ts';
import type { Registry } from '../core/registry.ts';

/** The schedule of a run whose optimizer wants no other. */
const DEFAULT_SCHEDULE = 'warmup-cosine';

/** Learning rate for an optimizer, out of one that suits AdamW. @throws GemmoeError for a name or options that cannot be */
export function learningRateFor(
  optimizer: string,
  registry: Registry<OptimizerContribution>,
  adamRate: number,
): number {
  const { name, rest } = parseSpec(optimizer);
  const contribution = registry.get(name);
  const options = parseOptionsText(contribution, rest);
  return adamRate * (contribution.relativeRate?.(options) ?? 1);
}

/** Schedule for an optimizer. @throws GemmoeError for a name that there is not */
export function scheduleFor(optimizer: string, registry: Registry<OptimizerContribution>): string {
  return registry.get(parseSpec(optimizer).name).schedule ?? DEFAULT_SCHEDULE;
}
