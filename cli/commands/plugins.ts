// gemmoe plugins: samplers, optimizers and schedules, with their options and defaults; one of them with what each option means.

import { z } from 'zod';
import { GemmoeError, nearestName } from '../../core/errors.ts';
import type { Named } from '../../core/registry.ts';
import type { Command } from '../command.ts';
import { table } from '../format.ts';
import { container, loadPlugins } from '../services.ts';
import type { Terminal } from '../terminal.ts';

interface JsonSchema {
  readonly properties?: Record<string, { description?: string; default?: unknown; enum?: unknown[] }>;
}

interface Option {
  /** `beta1=0.9`, or the key alone where there is no default; then what there is to choose from. */
  readonly text: string;
  readonly description: string;
}

type Contribution = Named & { readonly options?: z.ZodObject | undefined };

function optionsOf({ options }: Contribution): Option[] {
  if (!options) return [];
  const schema = z.toJSONSchema(options, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
  return Object.entries(schema.properties ?? {}).map(
    ([key, { default: standard, enum: choices, description = '' }]) => {
      const value = standard === undefined ? '' : `=${String(standard)}`;
      return { text: `${key}${value}${choices ? ` (${choices.join('|')})` : ''}`, description };
    },
  );
}

/** Everything of each kind, on few lines. */
function printAll(terminal: Terminal, kinds: Readonly<Record<string, readonly Contribution[]>>): void {
  for (const [kind, contributions] of Object.entries(kinds)) {
    terminal.print(kind);
    for (const contribution of contributions) {
      terminal.print(`  ${contribution.name}  ${contribution.description}`);
      const options = optionsOf(contribution);
      if (options.length > 0) terminal.print(`      ${options.map(({ text }) => text).join('  ')}`);
    }
  }
}

/** The contributions of one name, an option a line. @throws GemmoeError when there is none, with the nearest */
function printOne(terminal: Terminal, kinds: Readonly<Record<string, readonly Contribution[]>>, name: string): void {
  const named = Object.entries(kinds).flatMap(([kind, all]) => all.map((contribution) => ({ kind, contribution })));
  const found = named.filter(({ contribution }) => contribution.name === name);
  if (found.length === 0) {
    const names = named.map(({ contribution }) => contribution.name);
    const nearest = nearestName(name, names);
    const hint = `${nearest ? `did you mean "${nearest}"? ` : ''}plugins: ${names.join(', ')}`;
    throw new GemmoeError('usage', `there is no plugin named "${name}"`, hint);
  }
  for (const { kind, contribution } of found) {
    terminal.print(`${contribution.name}, of the ${kind}: ${contribution.description}`);
    for (const line of table(optionsOf(contribution).map(({ text, description }) => [text, description]))) {
      terminal.print(line);
    }
  }
}

export const plugins: Command = {
  name: 'plugins',
  summary: 'list samplers, optimizers and schedules, with their options',
  positional: { name: 'NAME', description: 'the one to explain, with what each option means' },
  options: ['plugin'],
  examples: ['gemmoe plugins', 'gemmoe plugins muon', 'gemmoe plugins --plugin ./mine.mjs'],
  async run(context) {
    const { terminal, positional } = context;
    const { createContainer, OptimizerRegistry, SamplerRegistry, SchedulerRegistry } = await container();
    const composed = createContainer({ plugins: await loadPlugins(context) });
    const kinds = {
      samplers: composed.get(SamplerRegistry).all(),
      optimizers: composed.get(OptimizerRegistry).all(),
      schedulers: composed.get(SchedulerRegistry).all(),
    };
    if (positional === undefined) printAll(terminal, kinds);
    else printOne(terminal, kinds, positional);
    const listed = Object.entries(kinds).map(([kind, contributions]) => [
      kind,
      (contributions as readonly Contribution[])
        .filter(({ name }) => positional === undefined || name === positional)
        .map(({ name, description, options }) => ({
          ...{ name, description },
          options: optionsOf({ name, description, options }).map(({ text }) => text),
        })),
    ]);
    terminal.result(Object.fromEntries(listed));
    return 0;
  },
};
