// Files that are read by position.

import { closeSync, fstatSync, openSync } from 'node:fs';
import { GemmoeError, messageOf } from '../errors.ts';

/**
 * What `read` makes of an open file; its descriptor is closed when that fails, and otherwise left to what was made.
 * @throws GemmoeError (not-found) for a path that cannot be opened, or that is a folder
 */
export function openFile<T>(path: string, read: (descriptor: number, size: number) => T): T {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'r');
  } catch (error) {
    throw new GemmoeError('not-found', `cannot open ${path}: ${messageOf(error)}`, 'check the path');
  }
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) throw new GemmoeError('bad-data', `${path} is no file`, 'check the path');
    return read(descriptor, status.size);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}
