// Files and folders that are written whole or not at all: a crash at any instant leaves the previous content.

import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';

/** Mark of what is being written; a name with it is never read. */
const TEMPORARY = '.gemmoe-tmp';
/** Mark of the old folder during a swap. */
const PREVIOUS = '.gemmoe-old';

/** Writes a file through a temporary one beside it. @throws GemmoeError naming the path */
export function writeFileAtomic(path: string, data: string | NodeJS.ArrayBufferView): void {
  const temporary = `${path}${TEMPORARY}`;
  try {
    const descriptor = openSync(temporary, 'w');
    try {
      writeFileSync(descriptor, data);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, path);
    syncDirectory(dirname(path));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new GemmoeError('usage', `cannot write ${path}: ${messageOf(error)}`, 'check the folder and the space left');
  }
}

/**
 * Builds a file under a temporary name beside `path` and renames it into place.
 * @throws GemmoeError when the file exists and `replace` is false, and for a folder in its place
 */
export function makeFileAtomic(path: string, build: (temporaryPath: string) => void, replace: boolean): void {
  const temporary = `${path}${TEMPORARY}`;
  if (existsSync(path) && (!replace || statSync(path).isDirectory())) {
    const what = statSync(path).isDirectory() ? 'is a folder, not a file' : 'is there already';
    throw new GemmoeError('exists', `${path} ${what}`, 'choose another name');
  }
  try {
    makeDirectory(dirname(resolve(path)));
    build(temporary);
    syncPath(temporary, 'r+');
    renameSync(temporary, path);
    syncDirectory(dirname(resolve(path)));
  } catch (error) {
    rmSync(temporary, { force: true });
    if (error instanceof GemmoeError) throw error;
    throw new GemmoeError('usage', `cannot write ${path}: ${messageOf(error)}`, 'check the folder and the space left');
  }
}

/**
 * Builds a folder in a temporary one beside `path` and renames it into place. An existing folder is refused unless it is empty
 * or `replace` is given; then old and new are swapped, and `recoverDirectory` finishes a swap that a crash cut short.
 * @throws GemmoeError when the folder exists or cannot be written
 */
export function writeDirectoryAtomic(
  path: string,
  build: (temporaryPath: string) => void,
  options: { readonly replace?: boolean } = {},
): void {
  const temporary = beginDirectory(path, options.replace ?? false);
  try {
    build(temporary);
    commitDirectory(temporary, path);
  } catch (error) {
    throw abandoned(temporary, path, error);
  }
}

/** As `writeDirectoryAtomic`, for a folder that takes its time; gives what `build` gives. */
export async function makeDirectoryAtomic<T>(path: string, build: (temporaryPath: string) => Promise<T>): Promise<T> {
  const temporary = beginDirectory(path, false);
  try {
    const result = await build(temporary);
    commitDirectory(temporary, path);
    return result;
  } catch (error) {
    throw abandoned(temporary, path, error);
  }
}

function beginDirectory(path: string, replace: boolean): string {
  const temporary = `${resolve(path)}${TEMPORARY}`;
  try {
    recoverDirectory(path);
    refuseExisting(path, replace);
    rmSync(temporary, { recursive: true, force: true });
    makeDirectory(temporary);
  } catch (error) {
    if (error instanceof GemmoeError) throw error;
    throw new GemmoeError('usage', `cannot make ${path}: ${messageOf(error)}`, 'choose a folder you may write to');
  }
  return temporary;
}

function commitDirectory(temporary: string, path: string): void {
  syncTree(temporary);
  swapIn(temporary, path);
}

function abandoned(temporary: string, path: string, error: unknown): GemmoeError {
  rmSync(temporary, { recursive: true, force: true });
  recoverDirectory(path); // where the second rename of the swap failed
  if (error instanceof GemmoeError) return error;
  return new GemmoeError('usage', `cannot write ${path}: ${messageOf(error)}`, 'check the folder and the space left', {
    cause: error,
  });
}

/** Makes a folder and its parents. Node's own recursion never ends where a parent refuses with ENOENT, as under /proc. */
export function makeDirectory(path: string): void {
  const parent = dirname(path);
  if (parent !== path && !existsSync(parent)) makeDirectory(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !statSync(path).isDirectory()) throw error;
  }
}

/** Puts the old folder back when a swap was cut short before the new one stood in its place. */
export function recoverDirectory(path: string): void {
  const previous = `${resolve(path)}${PREVIOUS}`;
  if (!existsSync(previous)) return;
  if (existsSync(path)) rmSync(previous, { recursive: true, force: true });
  else renameSync(previous, path);
}

/** Deletes what killed processes left half written in `parent`, and finishes their swaps. */
export function removeStaleTemporaries(parent: string): void {
  if (!existsSync(parent)) return;
  for (const name of readdirSync(parent)) {
    if (name.endsWith(TEMPORARY)) rmSync(join(parent, name), { recursive: true, force: true });
    else if (name.endsWith(PREVIOUS)) recoverDirectory(join(parent, name.slice(0, -PREVIOUS.length)));
  }
}

function refuseExisting(path: string, replace: boolean): void {
  if (!existsSync(path)) return;
  if (!statSync(path).isDirectory()) {
    throw new GemmoeError('exists', `${path} is a file, not a folder`, 'choose another name');
  }
  const entries = replace ? [] : readdirSync(path);
  if (entries.length === 0) return;
  throw new GemmoeError(
    'exists',
    `${path} is not empty (${entries.slice(0, 3).join(', ')}${entries.length > 3 ? ', …' : ''})`,
    'choose another folder, or empty this one',
  );
}

function swapIn(temporary: string, path: string): void {
  const previous = `${resolve(path)}${PREVIOUS}`;
  const replaces = existsSync(path);
  if (replaces) renameSync(path, previous);
  renameSync(temporary, path);
  syncDirectory(dirname(path));
  if (replaces) rmSync(previous, { recursive: true, force: true });
}

function syncTree(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) syncTree(path);
    else syncPath(path, 'r+');
  }
  syncDirectory(directory);
}

function syncPath(path: string, flags: string): void {
  const descriptor = openSync(path, flags);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Makes renames inside `directory` durable, where the system lets a folder be opened (Windows does not). */
function syncDirectory(directory: string): void {
  try {
    syncPath(directory === '' ? '.' : directory, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EISDIR' && code !== 'EPERM' && code !== 'EINVAL' && code !== 'EACCES') {
      throw new GemmoeError('usage', `cannot flush ${basename(directory)}: ${messageOf(error)}`);
    }
  }
}
