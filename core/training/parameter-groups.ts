// Which settings an optimizer uses for which parameter: ordered groups, the first whose pattern matches wins.
//
// As text, in `name:key=value,…`: groups=PATTERN(key=value key=value);PATTERN(…), for example
//   adamw:groups=embedding(rate=0.5 weightDecay=0);layers.0.*|head(beta2=0.99)
// In code: groups: [{ match: 'embedding', set: { rate: 0.5, weightDecay: 0 } }].
// A pattern is a role (embedding, norm, attention, router, expert, head, bias) or a parameter's name in which * stands for
// anything; | separates several.

import { z } from 'zod';
import { parseOptions } from '../config.ts';
import { GemmoeError } from '../errors.ts';
import type { Parameter, ParameterStore } from '../model/parameters.ts';
import { namePattern } from '../name-pattern.ts';

const GroupSchema = z.strictObject({
  match: z.string().min(1),
  set: z.record(z.string(), z.union([z.number(), z.boolean(), z.string()])),
});

type Group = z.infer<typeof GroupSchema>;

/** Options of every optimizer that has groups; spread into its schema, beside a weightDecay of its own default. */
export const groupOptions = {
  decay: z
    .enum(['matrices', 'all'])
    .default('matrices')
    .describe('what weightDecay is for: matrices spares norms, biases and embeddings'),
  groups: z
    .union([z.string(), z.array(GroupSchema)])
    .default('')
    .describe('settings of some parameters: PATTERN(key=value key=value);PATTERN(…), the first that matches wins'),
};

/** What every group may set, whatever the optimizer. */
export interface GroupSettings {
  /** Factor on the learning rate; 0 freezes. */
  readonly rate: number;
  readonly weightDecay: number;
}

/** The options that grouping reads, as `groupOptions` makes them. */
interface GroupedOptions {
  readonly weightDecay: number;
  readonly decay: 'matrices' | 'all';
  readonly groups: string | readonly Group[];
}

/** An optimizer as far as its groups need it. */
interface GroupOwner {
  readonly name: string;
  /** The whole schema of its options. */
  readonly options: z.ZodObject;
}

/** Neighbours [offset, offset + count) that are treated alike, so that an update is few kernel calls. */
export interface ParameterRun<S> {
  readonly offset: number;
  readonly count: number;
  readonly settings: S;
}

/**
 * The settings of each parameter, in order of storage: the optimizer's own, without decay where `decay` spares the role, and
 * over them what the first group that matches sets.
 * @param keys the optimizer's options that a group may set, besides rate and weightDecay
 * @throws GemmoeError for a group that cannot be read, sets what it may not, or matches no parameter
 */
export function parameterSettings<O extends GroupedOptions, K extends keyof O & string>(
  owner: GroupOwner,
  options: O,
  keys: readonly K[],
  store: ParameterStore,
): (GroupSettings & Pick<O, K>)[] {
  const own = Object.fromEntries(keys.map((key) => [key, options[key]])) as Pick<O, K>;
  const groups = readGroups(owner.name, options.groups).map(({ match, set }) => {
    const matches = matcherOf(match);
    if (!store.parameters.some(matches)) throw matchesNothing(owner.name, match, store);
    return { matches, set: checkedSettings(owner, match, set, keys) as Partial<GroupSettings & Pick<O, K>> };
  });
  // equal settings are one object, by which neighbours are known to belong together
  const known = new Map<string, GroupSettings & Pick<O, K>>();
  return store.parameters.map((parameter) => {
    const weightDecay = options.decay === 'all' || isMatrix(parameter) ? options.weightDecay : 0;
    const group = groups.find(({ matches }) => matches(parameter));
    const settings = { rate: 1, ...own, weightDecay, ...group?.set };
    const key = JSON.stringify(settings);
    if (!known.has(key)) known.set(key, settings);
    return known.get(key) ?? settings;
  });
}

/** As `parameterSettings`, neighbours with equal settings as one run. */
export function parameterRuns<O extends GroupedOptions, K extends keyof O & string>(
  owner: GroupOwner,
  options: O,
  keys: readonly K[],
  store: ParameterStore,
): ParameterRun<GroupSettings & Pick<O, K>>[] {
  const settings = parameterSettings(owner, options, keys, store);
  return runsOf(store.parameters.map((parameter, i) => ({ ...extentOf(parameter), settings: settings[i] })));
}

/** Pieces in order of storage, those that touch and have the same settings joined. */
export function runsOf<S>(pieces: readonly ParameterRun<S>[]): ParameterRun<S>[] {
  const runs: { offset: number; count: number; settings: S }[] = [];
  for (const { offset, count, settings } of pieces) {
    const last = runs.at(-1);
    if (last && last.settings === settings && last.offset + last.count === offset) last.count += count;
    else runs.push({ offset, count, settings });
  }
  return runs;
}

/** Where a parameter lies, without touching its values: sizes may be asked of models that are not allocated. */
export function extentOf({ offset, shape }: Parameter): { readonly offset: number; readonly count: number } {
  return { offset, count: shape.reduce((product, length) => product * length, 1) };
}

function isMatrix({ role }: Parameter): boolean {
  return role !== 'norm' && role !== 'bias' && role !== 'embedding';
}

function readGroups(owner: string, groups: string | readonly Group[]): readonly Group[] {
  if (typeof groups !== 'string') return groups;
  return groups
    .split(';')
    .map((text) => text.trim())
    .filter((text) => text !== '')
    .map((text) => readGroup(owner, text));
}

/** `PATTERN(key=value key=value)`. */
function readGroup(owner: string, text: string): Group {
  const [, match, inside] = /^([^()\s]+)\(([^()]*)\)$/.exec(text) ?? [];
  const set: Record<string, string> = {};
  for (const word of inside?.split(/\s+/).filter((part) => part !== '') ?? []) {
    const equals = word.indexOf('=');
    if (equals < 1 || Object.hasOwn(set, word.slice(0, equals))) throw unreadable(owner, text);
    set[word.slice(0, equals)] = word.slice(equals + 1);
  }
  if (match === undefined || Object.keys(set).length === 0) throw unreadable(owner, text);
  return { match, set };
}

function unreadable(owner: string, text: string): GemmoeError {
  return new GemmoeError(
    'usage',
    `${owner}: "${text}" is no parameter group`,
    'write PATTERN(key=value key=value), each key once, and ; between groups: embedding(rate=0.5 weightDecay=0);*.qkv(rate=2)',
  );
}

/** Whether a parameter's role or name is one of the pattern's. */
function matcherOf(pattern: string): (parameter: Parameter) => boolean {
  const expression = namePattern(pattern);
  return ({ role, name }) => expression.test(role) || expression.test(name);
}

/** The settings of one group as the optimizer's schema wants them. */
function checkedSettings(
  { name, options }: GroupOwner,
  match: string,
  set: Group['set'],
  keys: readonly string[],
): Record<string, unknown> {
  const shape = options.shape as Record<string, z.ZodType>;
  const rate = z.number().nonnegative().default(1);
  const allowed = Object.fromEntries([...keys, 'weightDecay'].map((key) => [key, shape[key]]));
  const schema = z.strictObject({ rate, ...allowed });
  const parsed = parseOptions({ name: `${name}: group ${match}`, description: '', options: schema }, set);
  return Object.fromEntries(Object.keys(set).map((key) => [key, parsed[key]]));
}

function matchesNothing(owner: string, match: string, store: ParameterStore): GemmoeError {
  const roles = [...new Set(store.parameters.map(({ role }) => role))].join(', ');
  const names = store.parameters.slice(0, 8).map(({ name }) => name);
  return new GemmoeError(
    'usage',
    `${owner}: group ${match} matches no parameter of this model`,
    `roles: ${roles}; names: ${names.join(', ')}${store.parameters.length > names.length ? ', …' : ''}`,
  );
}
