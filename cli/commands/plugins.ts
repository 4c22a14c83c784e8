// gemmoe plugins: samplers, optimizers and schedules, with their options and defaults.

import { z } from 'zod';
import type { Named } from '../../core/registry.ts';
import type { Command } from '../command.ts';
import { container, loadPlugins } from '../services.ts';

interface JsonSchema {
  readonly properties?: Record<string, { type?: string; default?: unknown; enum?: unknown[] }>;
}

/** `beta1=0.9` for each option; `key` alone where there is no default. */
function optionsOf(contribution: Named & { readonly options?: z.ZodObject | undefined }): string[] {
  if (!contribution.options) return [];
  const schema = z.toJSONSchema(contribution.options, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
  return Object.entries(schema.properties ?? {}).map(([key, { default: standard, enum: choices }]) => {
    const value = standard === undefined ? '' : `=${String(standard)}`;
    return `${key}${value}${choices ? ` (${choices.join('|')})` : ''}`;
  });
}

export const plugins: Command = {
  name: 'plugins',
  summary: 'list samplers, optimizers and schedules, with their options',
  options: ['plugin'],
  examples: ['gemmoe plugins', 'gemmoe plugins --plugin ./mine.mjs'],
  async run(context) {
    const { terminal } = context;
    const { createContainer, OptimizerRegistry, SamplerRegistry, SchedulerRegistry } = await container();
    const composed = createContainer({ plugins: await loadPlugins(context) });
    const kinds = {
      samplers: composed.get(SamplerRegistry).all(),
      optimizers: composed.get(OptimizerRegistry).all(),
      schedulers: composed.get(SchedulerRegistry).all(),
    };
    const listed: Record<string, unknown> = {};
    for (const [kind, contributions] of Object.entries(kinds)) {
      terminal.print(kind);
      for (const contribution of contributions) {
        terminal.print(`  ${contribution.name}  ${contribution.description}`);
        const options = optionsOf(contribution);
        if (options.length > 0) terminal.print(`      ${options.join('  ')}`);
      }
      listed[kind] = contributions.map((contribution) => ({
        name: contribution.name,
        description: contribution.description,
        options: optionsOf(contribution),
      }));
    }
    terminal.result(listed);
    return 0;
  },
};
