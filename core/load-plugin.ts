// Loading a user's plugin file: found from the user's folder, checked before anything of it is used.

import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isAbsolute, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { z } from 'zod';
import { GemmoeError, messageOf, nearestName } from './errors.ts';
import { type Plugin, PLUGIN_API } from './plugin.ts';

const named = { name: z.string().regex(/^[a-z0-9][a-z0-9._-]*$/i), description: z.string() };
const isFunction = z.custom<(...args: never[]) => unknown>(
  (value) => typeof value === 'function',
  'must be a function',
);
const isSchema = z.custom<z.ZodObject>(
  (value) => typeof (value as z.ZodObject | undefined)?.safeParse === 'function' && 'shape' in (value as z.ZodObject),
  'must be a zod object',
);
const contribution = z.looseObject({ ...named, options: isSchema.optional(), create: isFunction });
const backend = z.looseObject({ ...named, options: z.array(z.string()), unavailable: isFunction, create: isFunction });

const PluginSchema = z.strictObject({
  gemmoePlugin: z.literal(PLUGIN_API),
  samplers: z.array(contribution).optional(),
  optimizers: z
    .array(contribution.extend({ relativeRate: isFunction.optional(), schedule: z.string().optional() }))
    .optional(),
  schedulers: z.array(contribution).optional(),
  backends: z.array(backend).optional(),
});

/**
 * Loads the plugin that `specifier` names: a path, or a package, as seen from `fromDirectory`. Loading runs its code.
 * @throws GemmoeError naming the file and what is wrong with it
 */
export async function loadPlugin(specifier: string, fromDirectory: string): Promise<Plugin> {
  const path = resolvePlugin(specifier, fromDirectory);
  let module: { default?: unknown };
  try {
    module = (await import(pathToFileURL(path).href)) as { default?: unknown };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // without a `.ts` of its own, the plugin imports some other file that cannot be run
    if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && /\.[cm]?tsx?$/.test(path)) {
      throw new GemmoeError(
        'plugin',
        `plugin ${path}: this version of Node.js cannot run TypeScript`,
        'compile it to .mjs, or use Node.js 22.18 or newer',
      );
    }
    throw new GemmoeError('plugin', `plugin ${path} throws when it is loaded: ${messageOf(error)}`, 'fix the plugin', {
      cause: error,
    });
  }
  return checkPlugin(module.default, path);
}

function resolvePlugin(specifier: string, fromDirectory: string): string {
  if (specifier.startsWith('.') || isAbsolute(specifier)) return existing(resolve(fromDirectory, specifier), specifier);
  const beside = resolve(fromDirectory, specifier);
  // a folder cannot be run, and may stand beside an installed package of its name
  if (statSync(beside, { throwIfNoEntry: false })?.isFile()) return beside;
  try {
    return createRequire(join(fromDirectory, 'x.js')).resolve(specifier);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_PACKAGE_PATH_NOT_EXPORTED') return existing(beside, specifier);
    throw new GemmoeError(
      'plugin',
      `plugin ${specifier} is installed, but its package.json offers no entry: ${messageOf(error)}`,
      'give its "exports" a "default" condition, or name the path of its file',
      { cause: error },
    );
  }
}

function existing(path: string, specifier: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory()) {
    throw new GemmoeError('plugin', `plugin ${specifier} is a folder: ${path}`, 'name the file in it');
  }
  if (found) return path;
  throw new GemmoeError(
    'not-found',
    `plugin ${specifier} was not found: there is no ${path}, and no installed package of that name`,
    'give the path of a file, or install the package',
  );
}

/** Checks what a plugin file exports. */
function checkPlugin(value: unknown, path: string): Plugin {
  if (value === undefined) {
    throw new GemmoeError(
      'plugin',
      `plugin ${path} has no default export`,
      'write `export default definePlugin({ samplers: [...] })`',
    );
  }
  if (typeof value !== 'object' || value === null) {
    throw new GemmoeError(
      'plugin',
      `plugin ${path}: its default export is ${inspect(value, { depth: 0 })}, which is no plugin`,
      'write `export default definePlugin({ samplers: [...] })`',
    );
  }
  const api = (value as { gemmoePlugin?: unknown }).gemmoePlugin;
  if (api !== PLUGIN_API) {
    throw new GemmoeError(
      'plugin',
      `plugin ${path} is made for plugin API ${JSON.stringify(api) ?? 'undefined'}, this gemmoe has API ${PLUGIN_API}`,
      `make its default export with definePlugin, or set gemmoePlugin: ${PLUGIN_API}`,
    );
  }
  const parsed = PluginSchema.safeParse(value);
  if (parsed.success) return value as Plugin;
  throw malformed(value, parsed.error.issues[0], path);
}

/** What each list of a plugin holds, for who got it wrong. */
const FORMS: Readonly<Record<string, string>> = {
  samplers: 'a sampler is { name, description, options?, create(options) }',
  optimizers: 'an optimizer is { name, description, options?, create(options, { store, kernels }) }',
  schedulers: 'a scheduler is { name, description, options?, create(options, { learningRate, totalSteps }) }',
  backends: 'a backend is { name, description, options: string[], unavailable(), create(options) }',
};

function malformed(value: unknown, issue: z.core.$ZodIssue, path: string): GemmoeError {
  if (issue.code === 'unrecognized_keys') {
    const parts = Object.keys(FORMS);
    const nearest = nearestName(issue.keys[0], parts);
    return new GemmoeError(
      'plugin',
      `plugin ${path}: there is no part "${issue.keys[0]}"`,
      `${nearest ? `did you mean "${nearest}"? ` : ''}parts: ${parts.join(', ')}`,
    );
  }
  let found = value;
  for (const key of issue.path) found = (found as Record<PropertyKey, unknown> | undefined)?.[key];
  return new GemmoeError(
    'plugin',
    `plugin ${path}: ${issue.path.join('.')}: ${issue.message}, found ${inspect(found, { depth: 0, breakLength: Infinity })}`,
    FORMS[String(issue.path[0])],
  );
}
