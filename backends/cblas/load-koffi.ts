// koffi, the foreign function interface, loaded when first needed: its binary is an optional package, and gemmoe works
// without it.

import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { platform } from 'node:os';
import { dirname, join } from 'node:path';
import type koffi from 'koffi';
import { GemmoeError, messageOf } from '../../core/errors.ts';

/** The interface of the package. */
export type Koffi = typeof koffi;

const require = createRequire(import.meta.url);
const HINT = 'install it again, optional packages included: npm install --include=optional koffi';

/** Why koffi cannot be loaded, as far as its files tell; undefined where they are all there. */
export function koffiUnavailable(): string | undefined {
  let folder: string;
  try {
    folder = dirname(require.resolve('koffi'));
  } catch {
    return `the package koffi is not installed: ${HINT}`;
  }
  return koffiBinaryMissing(folder, platform());
}

/** Why no binary of koffi, installed in `folder`, serves `system`: it comes in a package of its own, or was built inside. */
export function koffiBinaryMissing(folder: string, system: string): string | undefined {
  const parents = createRequire(join(folder, 'package.json')).resolve.paths('@koromix') ?? [];
  const packages = parents.map((parent) => join(parent, '@koromix')).filter((path) => existsSync(path));
  const prebuilt = packages.some((path) => readdirSync(path).some((name) => name.startsWith(`koffi-${system}-`)));
  if (prebuilt || existsSync(join(folder, 'build', 'koffi'))) return undefined;
  return `the package koffi has no binary for ${system}: ${HINT}`;
}

/** Loads koffi, once. @throws GemmoeError where it cannot */
export function loadKoffi(): Koffi {
  try {
    return require('koffi') as Koffi;
  } catch (error) {
    throw new GemmoeError('unavailable', `the package koffi cannot be loaded: ${messageOf(error)}`, HINT, {
      cause: error,
    });
  }
}
