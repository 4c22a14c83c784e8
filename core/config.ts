// How things are chosen by name: `name`, `name:key=value,…`, the same in a flag, an environment variable and a config file.

import { z } from 'zod';
import { GemmoeError, nearestName } from './errors.ts';
import type { Named } from './registry.ts';

/** A choice as text says it. */
export interface Spec {
  readonly name: string;
  /** What stood after the first colon, untouched; empty when nothing did. */
  readonly rest: string;
}

/** Splits `name:rest`. @throws GemmoeError when there is no name */
export function parseSpec(text: string): Spec {
  const colon = text.indexOf(':');
  const name = (colon < 0 ? text : text.slice(0, colon)).trim();
  if (name === '') throw new GemmoeError('usage', `"${text}" names nothing`, 'write name or name:key=value,…');
  return { name, rest: colon < 0 ? '' : text.slice(colon + 1).trim() };
}

/** Splits `key=value,…`; only the first `=` of each part separates. @throws GemmoeError for a part without one, or a repeated key */
export function parseKeyValues(text: string, owner: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const part of text === '' ? [] : text.split(',')) {
    const equals = part.indexOf('=');
    if (equals < 1)
      throw new GemmoeError('usage', `${owner}: "${part}" is not key=value`, `write ${owner}:key=value,…`);
    const key = part.slice(0, equals).trim();
    if (Object.hasOwn(values, key)) throw new GemmoeError('usage', `${owner}: ${key} is given twice`, 'give it once');
    values[key] = part.slice(equals + 1).trim();
  }
  return values;
}

/** A contribution with settings, or without. */
interface Configurable extends Named {
  readonly options?: z.ZodObject | undefined;
}

/**
 * The settings of a contribution from text or values: defaults filled in, strings turned into what the schema wants.
 * @throws GemmoeError naming the contribution and the key, with the nearest one where it is unknown
 */
export function parseOptions(
  contribution: Configurable,
  given: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const { name, options = z.object({}) } = contribution;
  const shape = options.shape as Record<string, z.ZodType>;
  const coerced: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(shape, key)) throw unknownOption(name, key, Object.keys(shape));
    coerced[key] = typeof value === 'string' ? coerce(shape[key], value) : value;
  }
  const parsed = options.safeParse(coerced);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const key = issue.path.join('.');
  const found = key in given ? `, not ${JSON.stringify(given[key])}` : '';
  throw new GemmoeError('usage', `${name}: ${key}: ${issue.message}${found}`, `see \`gemmoe plugins\` for its options`);
}

/** As `parseOptions`, from the text after the colon of a spec. */
export function parseOptionsText(contribution: Configurable, text: string): Record<string, unknown> {
  return parseOptions(contribution, parseKeyValues(text, contribution.name));
}

function unknownOption(name: string, key: string, known: readonly string[]): GemmoeError {
  const nearest = nearestName(key, known);
  const choices = known.length > 0 ? `options of ${name}: ${known.join(', ')}` : `${name} has no options`;
  return new GemmoeError(
    'usage',
    `${name} has no option "${key}"`,
    `${nearest ? `did you mean "${nearest}"? ` : ''}${choices}`,
  );
}

/** The value that a schema wants, tried as what it is, as a number and as a truth value; the text where none fits. */
function coerce(schema: z.ZodType, text: string): unknown {
  const asText = schema.safeParse(text);
  // text is what it wants, if not this one: its own words say why
  if (asText.success || asText.error.issues[0].code === 'custom' || asText.error.issues[0].code === 'invalid_format') {
    return text;
  }
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isNaN(value)) return value;
  if (text === 'true' || text === 'false') return text === 'true';
  return text;
}
