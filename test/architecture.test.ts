// The import rules of the layout: who may know whom.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from './support/golden.ts';

const MAY_IMPORT: Record<string, readonly string[]> = {
  core: [],
  backends: ['core'],
  plugins: ['core'],
  cli: ['core', 'backends', 'plugins'],
};

interface Source {
  readonly path: string;
  readonly code: string;
  readonly imports: readonly string[];
}

/** Source files of a folder, comments taken out. */
function sourcesOf(folder: string): Source[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const code = readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
      const imports = [...code.matchAll(/(?:from|import|require)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]);
      return { path: relative(ROOT, path), code, imports };
    });
}

const layers = Object.keys(MAY_IMPORT);
const sources = new Map(layers.map((layer) => [layer, sourcesOf(layer)]));
const all = [...sources.values()].flat();

test.each(Object.entries(MAY_IMPORT))('%s imports only %j', (layer, allowed) => {
  const strays = (sources.get(layer) ?? []).flatMap(({ path, imports }) =>
    imports
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => relative(ROOT, resolve(ROOT, dirname(path), specifier)).split('/')[0])
      .filter((target) => target !== layer && !allowed.includes(target))
      .map((target) => `${path} -> ${target}`),
  );
  expect(sources.get(layer)?.length).toBeGreaterThan(2);
  expect(strays).toEqual([]);
});

/** Files whose code matches, apart from those allowed. */
function matches(pattern: RegExp, allowed: (path: string) => boolean): string[] {
  return all.filter(({ path, code }) => pattern.test(code) && !allowed(path)).map(({ path }) => path);
}

describe('things that belong in one place', () => {
  test('printing and exiting: cli', () => {
    expect(matches(/console\.|process\.(stdout|stderr|exit|argv|stdin)/, (path) => path.startsWith('cli/'))).toEqual(
      [],
    );
  });

  test('the environment: cli, and where libraries are looked for', () => {
    const lookers = ['backends/cblas/find-library.ts', 'backends/accelerate/machine.ts'];
    const allowed = (path: string) => path.startsWith('cli/') || lookers.includes(path);
    expect(matches(/process\.|\bprocess;/, allowed)).toEqual([]);
  });

  test('Math.random: nowhere', () => expect(matches(/Math\.random/, () => false)).toEqual([]));

  test('inversify: the container, and types of tokens', () => {
    const users = all.filter(({ imports }) => imports.includes('inversify')).map(({ path }) => path);
    expect(users.sort()).toEqual(['core/backend.ts', 'core/container.ts', 'core/plugin.ts']);
  });

  test('koffi: the cblas backend', () => {
    const users = all.filter(({ imports }) => imports.includes('koffi')).map(({ path }) => path);
    for (const path of users) expect(path).toMatch(/^backends\/cblas\//);
    expect(users.length).toBeGreaterThan(0);
  });
});
