// Where a model directory may be written.

import { existsSync, realpathSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { GemmoeError } from '../errors.ts';

/**
 * Refuses to replace what is no model directory, and a folder that holds the source. What is written without `replace` is
 * refused where it is written.
 * @param source directory that is read, or null
 */
export function checkTarget(target: string, source: string | null, replace: boolean): void {
  if (source !== null && contains(target, source)) {
    throw new GemmoeError(
      'usage',
      `${target} holds the model that is read, ${source}`,
      'choose a folder that is no parent of it',
    );
  }
  if (!replace || !existsSync(target) || existsSync(join(target, 'config.json'))) return;
  throw new GemmoeError(
    'exists',
    `${target} holds no config.json: it is no model directory, and is not replaced`,
    'choose another folder, or remove this one yourself',
  );
}

/** Whether `inner` lies below `outer`; a directory does not contain itself. */
function contains(outer: string, inner: string): boolean {
  const path = relative(real(outer), real(inner));
  return path !== '' && path !== '..' && !path.startsWith(`..${sep}`) && !path.startsWith(sep);
}

function real(path: string): string {
  return existsSync(path) ? realpathSync(path) : resolve(path);
}
