// The README's claims about files and functions.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createChain } from '../core/generation/sampler-chain.ts';
import { loadPlugin } from '../core/load-plugin.ts';
import { Registry } from '../core/registry.ts';
import { greedy } from '../plugins/samplers/greedy.ts';
import { ROOT } from './support/golden.ts';

const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');

/** Rows of the table whose first header cell is `equation`. */
const rows = readme
  .slice(readme.indexOf('| equation |'))
  .split('\n')
  .slice(2)
  .filter((_, i, lines) => lines.slice(0, i + 1).every((earlier) => earlier.startsWith('|')))
  .map((line) => line.split(' | ').map((cell) => cell.replace(/^\||\|$/g, '').trim()));

const named = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]);

describe('every equation points at code that exists', () => {
  test('the map covers the model', () => expect(rows.length).toBeGreaterThanOrEqual(17));

  test.each(rows)('%s', (_, files, functions) => {
    expect(named(files).length).toBeGreaterThan(0);
    expect(named(functions).length).toBeGreaterThan(0);
    const sources = named(files).map((file) => readFileSync(join(ROOT, file), 'utf8'));
    for (const name of named(functions)) {
      const definition = new RegExp(`(function |class |const |^  )${name}\\b`, 'm');
      expect(
        sources.some((source) => definition.test(source)),
        `${name} in ${files}`,
      ).toBe(true);
    }
  });
});

test('the plugin that it shows loads and samples', async () => {
  const block = /```js\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
  // inside the repository, where the package can be imported by its name
  mkdirSync(join(ROOT, '.tmp'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, '.tmp', 'readme-'));
  try {
    writeFileSync(join(folder, 'typo.mjs'), block);
    const { samplers = [] } = await loadPlugin('./typo.mjs', folder);
    const chain = createChain('typo:rate=1;greedy', new Registry('sampler', [...samplers, greedy]), 1);
    expect(chain.next(Float32Array.of(1, 3, 2), { ids: [0], promptLength: 1, step: 0 })).toBe(2);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('every file and folder of the tree exists', () => {
  const tree = /```\n(core\/[\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const entries = [...tree.matchAll(/^(\s*)([\w./-]+\/|[\w-]+\.(?:ts|json))\s/gm)];
  expect(entries.length).toBeGreaterThan(10);
  const parents: string[] = [];
  for (const [, indent, name] of entries) {
    const depth = indent.length / 2;
    parents.length = depth;
    parents.push(name);
    const path = parents.join('');
    expect(existsSync(join(ROOT, path)), path).toBe(true);
  }
});
