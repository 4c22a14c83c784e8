// The lists that a comparison is asked for.

import { parseSpec } from '../../core/config.ts';
import { GemmoeError } from '../../core/errors.ts';
import type { Named, Registry } from '../../core/registry.ts';

/** The `name:key=value,…` that `;` separates, `all` standing for everything there is. @throws GemmoeError for unknown names */
export function listedSpecs(text: string, registry: Registry<Named>): string[] {
  const specs = text
    .split(';')
    .map((spec) => spec.trim())
    .filter((spec) => spec !== '');
  if (specs.length === 0) {
    throw new GemmoeError(
      'usage',
      `no ${registry.kind} is named`,
      `write all, or some of ${registry.names().join(';')}`,
    );
  }
  const all = specs.flatMap((spec) => (spec === 'all' ? registry.names() : [spec]));
  for (const spec of all) registry.get(parseSpec(spec).name);
  return [...new Set(all)];
}

/** Factors that commas separate. @throws GemmoeError for what is no positive number */
export function parseFactors(text: string): number[] {
  return text.split(',').map((part) => {
    const factor = part.trim() === '' ? Number.NaN : Number(part);
    if (factor > 0 && Number.isFinite(factor)) return factor;
    throw new GemmoeError('usage', `--rates: "${part}" is no positive number`, 'write factors like 0.5,1,2');
  });
}
