// What an optimizer wants where the user says nothing: a learning rate of its size, a schedule of its kind.

import { parseKeyValues, parseOptionsText, parseSpec } from '../core/config.ts';
import { GemmoeError } from '../core/errors.ts';
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

/**
 * The optimizer with everything frozen that matches none of `patterns` (roles or names, as of its groups).
 * @throws GemmoeError beside groups of its own, which would come before these
 */
export function trainingOnly(optimizer: string, patterns: readonly string[]): string {
  if (patterns.length === 0) return optimizer;
  const { name, rest } = parseSpec(optimizer);
  if (Object.hasOwn(parseKeyValues(rest, name), 'groups')) {
    throw new GemmoeError(
      'usage',
      `--train-only ${patterns.join(' ')} stands beside groups of ${name}, of which only the first that matches counts`,
      'say all of it in the groups: PATTERN(rate=1 …);*(rate=0) freezes what the first does not match',
    );
  }
  const groups = `groups=${patterns.join('|')}(rate=1);*(rate=0)`;
  return `${name}:${rest === '' ? groups : `${rest},${groups}`}`;
}

/** Schedule for an optimizer. @throws GemmoeError for a name that there is not */
export function scheduleFor(optimizer: string, registry: Registry<OptimizerContribution>): string {
  return registry.get(parseSpec(optimizer).name).schedule ?? DEFAULT_SCHEDULE;
}
