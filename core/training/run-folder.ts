// The folder of a run, apart from its checkpoints: settings in run.json, nothing overwritten.

import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';
import { makeDirectory, writeFileAtomic } from '../formats/atomic-files.ts';
import { type RunSettings, RunSettingsSchema } from './settings.ts';

const RUN_FILE = 'run.json';

/** The settings of a run folder. @throws GemmoeError when it is none */
export function readRunSettings(runDirectory: string): RunSettings {
  const path = join(runDirectory, RUN_FILE);
  if (!existsSync(path)) {
    throw new GemmoeError(
      'not-found',
      `${runDirectory} is not a run folder: it has no ${RUN_FILE}`,
      'name a folder that `gemmoe train` made',
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new GemmoeError(
      'bad-data',
      `${path} is not JSON: ${messageOf(error)}`,
      'restore the file, or start a new run',
    );
  }
  return parseRunSettings(value, path);
}

/** Validates settings. @throws GemmoeError naming the field */
export function parseRunSettings(value: unknown, source = 'run settings'): RunSettings {
  const parsed = RunSettingsSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new GemmoeError('bad-config', `${source}: ${issue.path.join('.')}: ${issue.message}`, 'correct the field');
}

/** @throws GemmoeError when the folder exists and is not empty */
export function refuseUsedDirectory(directory: string): void {
  let entries: string[];
  try {
    entries = readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return refuseUnwritable(directory);
    throw new GemmoeError(
      'exists',
      `cannot use ${directory} as run folder: ${messageOf(error)}`,
      'choose another with --out',
    );
  }
  if (entries.length === 0) return;
  throw new GemmoeError(
    'exists',
    `${directory} is not empty (${entries.slice(0, 3).join(', ')}${entries.length > 3 ? ', …' : ''})`,
    existsSync(join(directory, RUN_FILE))
      ? `it is a run: continue it with --resume ${directory}, or choose another folder with --out`
      : 'choose another folder with --out',
  );
}

/** Before an hour of work, not after: the folder will have to be made. */
function refuseUnwritable(directory: string): void {
  let ancestor = dirname(directory);
  while (!existsSync(ancestor) && dirname(ancestor) !== ancestor) ancestor = dirname(ancestor);
  try {
    readdirSync(ancestor);
    accessSync(ancestor, constants.W_OK);
  } catch (error) {
    throw new GemmoeError(
      'usage',
      `cannot make the run folder ${directory}: ${messageOf(error)}`,
      'choose another with --out',
    );
  }
}

/** Makes the folder with its run.json. */
export function createRunDirectory(directory: string, settings: RunSettings): void {
  try {
    makeDirectory(directory);
  } catch (error) {
    throw new GemmoeError(
      'usage',
      `cannot make the run folder ${directory}: ${messageOf(error)}`,
      'choose another with --out',
    );
  }
  writeRunSettings(directory, settings);
}

/** Writes, or replaces, run.json. */
export function writeRunSettings(directory: string, settings: RunSettings): void {
  writeFileAtomic(join(directory, RUN_FILE), `${JSON.stringify(settings, null, 2)}\n`);
}
