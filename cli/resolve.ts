// Where an option's value comes from: flag over environment over config file over default.

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { GemmoeError, messageOf, nearestName } from '../core/errors.ts';
import { COMMON, flagOf, OPTIONS, type OptionName, optionOf, type OptionValues, variableOf } from './options.ts';

/** Variables that are read elsewhere than in the option table. */
const OTHER_VARIABLES = ['GEMMOE_REQUIRE_BACKENDS', 'GEMMOE_ISA', 'GEMMOE_ADDON'];

/** What a command line, an environment and a folder say. */
export interface Sources {
  /** Flags as text; a repeated one as an array. Keys are kebab-case. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
}

/** Values of all options; those that the command does not take have their defaults. */
export async function resolveOptions(taken: readonly OptionName[], sources: Sources): Promise<OptionValues> {
  const names = [...COMMON, ...taken];
  refuseUnknownFlags(names, sources.flags);
  refuseUnknownVariables(sources.env);
  const file = await readConfigFile(sources, sources.flags['config'] ?? sources.env[variableOf('config')]);
  const values: Record<string, unknown> = {};
  for (const name of Object.keys(OPTIONS) as OptionName[]) {
    const given = names.includes(name) ? givenValue(name, sources, file) : undefined;
    values[name] = check(name, given);
  }
  return values as OptionValues;
}

interface Given {
  readonly value: unknown;
  /** How the source calls it. */
  readonly source: string;
}

interface ConfigFile {
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
}

function givenValue(name: OptionName, { flags, env }: Sources, file: ConfigFile | undefined): Given | undefined {
  const flag = flagOf(name);
  const fromFlag = flags[flag];
  if (fromFlag !== undefined) return { value: readFlag(name, fromFlag), source: `--${flag}` };
  const fromEnv = env[variableOf(name)];
  if (fromEnv !== undefined && fromEnv !== '') return { value: readText(name, fromEnv), source: variableOf(name) };
  const fromFile = file?.values[name];
  if (fromFile === undefined) return undefined;
  const value = optionOf(name).kind === 'list' && typeof fromFile === 'string' ? [fromFile] : fromFile;
  const isText = typeof value === 'string' && ['duration', 'bytes'].includes(optionOf(name).kind ?? '');
  return { value: isText ? readText(name, value) : value, source: `${file?.path}: ${name}` };
}

function readFlag(name: OptionName, value: unknown): unknown {
  if (optionOf(name).kind === 'list') return Array.isArray(value) ? value : [value];
  if (Array.isArray(value)) {
    throw new GemmoeError('usage', `--${flagOf(name)} is given ${value.length} times`, 'give it once');
  }
  return typeof value === 'string' ? readText(name, value) : value;
}

/** Not what else Number() takes: nothing at all, 0x10, Infinity. */
const DECIMAL = /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i;

/** Text as what the option wants; what cannot be read stays text, and the schema refuses it. */
function readText(name: OptionName, text: string): unknown {
  const { kind } = optionOf(name);
  if (kind === 'number') return DECIMAL.test(text) ? Number(text) : text;
  if (kind === 'duration') return seconds(text);
  if (kind === 'bytes') return byteCount(text);
  if (kind === 'list') return text.split(',').filter((part) => part !== '');
  if (kind !== 'switch') return text;
  if (/^(1|true|on|yes|enabled)$/i.test(text)) return true;
  if (/^(0|false|off|no|disabled)$/i.test(text)) return false;
  return text;
}

const SECONDS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600 };

function seconds(text: string): unknown {
  const match = /^(\d+(?:\.\d+)?)(s|m|h|)$/.exec(text.trim());
  return match ? Number(match[1]) * SECONDS[match[2]] : text;
}

const BYTES: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9 };

/** `2GB`, `500MB`, `1000`: decimal units, as the libraries that shard models use them. */
function byteCount(text: string): unknown {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]?)b?$/i.exec(text.trim());
  return match ? Math.round(Number(match[1]) * BYTES[match[2].toLowerCase()]) : text;
}

function check(name: OptionName, given: Given | undefined): unknown {
  const parsed = optionOf(name).schema.safeParse(given?.value);
  if (parsed.success) return parsed.data;
  const { message } = parsed.error.issues[0];
  // JSON has no Infinity, and would say null
  const found = typeof given?.value === 'number' ? String(given.value) : JSON.stringify(given?.value);
  throw new GemmoeError('usage', `${given?.source} is ${found}: ${message}`, optionOf(name).description);
}

/** @throws GemmoeError for a flag that is none of `names`, with the nearest one */
export function refuseUnknownFlags(names: readonly OptionName[], flags: Readonly<Record<string, unknown>>): void {
  const known = names.map(flagOf);
  const unknown = Object.keys(flags).find((flag) => !known.includes(flag));
  if (unknown === undefined) return;
  const elsewhere = Object.keys(OPTIONS).map(flagOf).includes(unknown);
  const nearest = nearestName(unknown, known);
  throw new GemmoeError(
    'usage',
    `there is no option --${unknown}${elsewhere ? ' for this command' : ''}`,
    nearest ? `did you mean --${nearest}?` : 'add --help for the options',
  );
}

function refuseUnknownVariables(env: NodeJS.ProcessEnv): void {
  const known = [...Object.keys(OPTIONS).map(variableOf), ...OTHER_VARIABLES];
  const unknown = Object.keys(env).find((name) => name.startsWith('GEMMOE_') && !known.includes(name));
  if (unknown === undefined) return;
  const nearest = nearestName(unknown, known);
  throw new GemmoeError(
    'usage',
    `the environment sets ${unknown}, which is no option`,
    nearest ? `did you mean ${nearest}?` : 'unset it',
  );
}

const CONFIG_ENDINGS = ['ts', 'mts', 'js', 'mjs', 'cjs', 'json'];

async function readConfigFile({ cwd }: Sources, named: unknown): Promise<ConfigFile | undefined> {
  const configFile = typeof named === 'string' ? resolve(cwd, named) : undefined;
  if (configFile === undefined && !CONFIG_ENDINGS.some((ending) => existsSync(join(cwd, `gemmoe.config.${ending}`)))) {
    return undefined; // most runs have none, and loading the loader takes its time
  }
  const { loadConfig } = await import('c12');
  let loaded: Awaited<ReturnType<typeof loadConfig>>;
  try {
    loaded = await loadConfig({
      name: 'gemmoe',
      cwd,
      ...(configFile !== undefined && { configFile }),
      ...{ rcFile: false, globalRc: false, dotenv: false, packageJson: false, giget: false, extend: false },
      configFileRequired: configFile !== undefined,
    });
  } catch (error) {
    throw new GemmoeError(
      'usage',
      `the config file ${configFile ?? 'gemmoe.config'} cannot be loaded: ${messageOf(error)}`,
      'correct it, or name another with --config',
      { cause: error },
    );
  }
  const path = loaded.configFile;
  const values = loaded.config as Record<string, unknown> | null;
  if (!path || !values || Object.keys(values).length === 0) return undefined;
  const unknown = Object.keys(values).find((key) => !Object.hasOwn(OPTIONS, key));
  if (unknown !== undefined) {
    const nearest = nearestName(unknown, Object.keys(OPTIONS));
    throw new GemmoeError(
      'usage',
      `${path}: there is no option "${unknown}"`,
      nearest ? `did you mean "${nearest}"?` : 'see `gemmoe help`',
    );
  }
  return { path, values };
}
