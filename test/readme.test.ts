// The README's claims about files and functions.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
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
