// JSON files that hold one object, as the directories of models are made of.

import { readFileSync, writeFileSync } from 'node:fs';
import { GemmoeError, messageOf } from '../errors.ts';

/** The object in a file of a model directory. @throws GemmoeError when there is none */
export function readJsonObject(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new GemmoeError('not-found', `${path} does not exist`, 'name a Hugging Face model directory');
    }
    throw new GemmoeError('bad-data', `${path} is not JSON: ${messageOf(error)}`, 'fetch the file again');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new GemmoeError('bad-data', `${path} holds no JSON object`, 'fetch the file again');
}

/** Writes a value as indented JSON. */
export function writeJson(path: string, value: unknown): void {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
