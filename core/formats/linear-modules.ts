// The linear layers of a model under the names that its family's files have, and which of them a pattern means.

import { GemmoeError } from '../errors.ts';
import type { LinearModule } from '../model/linear-module.ts';
import type { Transformer } from '../model/transformer.ts';
import { namePattern } from '../name-pattern.ts';
import { exportFamily } from './families/index.ts';
import type { TensorPlace } from './families/family.ts';

const WEIGHT = '.weight';

/**
 * Every matrix that a row of activations is multiplied with, in the family's published layout: attention, feed-forward, experts,
 * routers and an untied head. An embedding is looked up, and is none.
 */
export function linearModules(model: Transformer): LinearModule[] {
  const [places] = exportFamily(model.config).layouts(model.config);
  return places.flatMap((place) => moduleOf(model, place) ?? []);
}

function moduleOf({ parameters }: Transformer, place: TensorPlace): LinearModule | undefined {
  const { name, shape, parameter, offset } = place;
  const role = parameters.parameters.find((candidate) => candidate.name === parameter)?.role;
  if (role === undefined || role === 'embedding' || shape.length < 2 || !name.endsWith(WEIGHT)) return undefined;
  const [rows, columns] = shape.slice(-2);
  const experts = shape.length > 2 ? shape[0] : null;
  return { name: name.slice(0, -WEIGHT.length), parameter, role, offset, experts, rows, columns };
}

/**
 * The modules that any of `patterns` means: a role (attention, expert, router, head), a parameter's name, or a module's name or
 * the end of one (`q_proj`, `self_attn.q_proj`), in which * stands for anything.
 * @throws GemmoeError for a pattern that means none
 */
export function chooseModules(modules: readonly LinearModule[], patterns: readonly string[]): LinearModule[] {
  const chosen = new Set<LinearModule>();
  for (const pattern of patterns) {
    const expression = namePattern(pattern);
    const found = modules.filter((module) => namesOf(module).some((name) => expression.test(name)));
    if (found.length === 0) throw meansNothing(pattern, modules);
    for (const module of found) chosen.add(module);
  }
  return modules.filter((module) => chosen.has(module));
}

function namesOf({ role, parameter, name }: LinearModule): string[] {
  return [role, parameter, ...endings(name)];
}

/** `a.b.c`, `b.c` and `c`. */
export function endings(name: string): string[] {
  const words = name.split('.');
  return words.map((_, i) => words.slice(i).join('.'));
}

/** What a module is called within its layer: `q_proj`. */
export function lastWord(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}

function meansNothing(pattern: string, modules: readonly LinearModule[]): GemmoeError {
  const roles = [...new Set(modules.map(({ role }) => role))].join(', ');
  const names = [...new Set(modules.map(({ name }) => lastWord(name)))].join(', ');
  return new GemmoeError(
    'usage',
    `${pattern} is no linear layer of this model, so it takes no adapter`,
    `roles: ${roles}; layers: ${names}; one of them alone by its whole name: ${modules[0]?.name ?? 'there are none'}`,
  );
}
