// Golden data made with Hugging Face transformers: test/fixtures/hf/<family>/.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the repository, from test/support as from dist/test/support. */
export const ROOT = findRoot(fileURLToPath(new URL('.', import.meta.url)));

function findRoot(directory: string): string {
  if (existsSync(join(directory, 'package.json'))) return directory;
  return findRoot(join(directory, '..'));
}

export const FIXTURES = join(ROOT, 'test', 'fixtures');

/** Third-party data beside the repository, which a user's machine does not have. */
export const SHARED_DATA = join(ROOT, '..', 'shared', 'data');

/** Name of a data set when it is missing, for the title of a skipped test. */
export function missingData(name: string): string | undefined {
  return existsSync(join(SHARED_DATA, name)) ? undefined : `${name} is not beside the repository`;
}

export function readJson<T>(...path: string[]): T {
  return JSON.parse(readFileSync(join(...path), 'utf8')) as T;
}

/** expected.json of a family. */
export interface Expected {
  readonly ids: number[][];
  readonly shape: [number, number, number];
  readonly logits: number[];
  readonly loss: number;
  readonly aux: number | null;
  readonly greedy: number[];
}

/** Rows of ids as a model takes them, and each row's ids shifted by one as targets. */
export function batchOf(
  rows: readonly (readonly number[])[],
  ignore: number,
): { ids: Int32Array; targets: Int32Array } {
  return {
    ids: Int32Array.from(rows.flat()),
    targets: Int32Array.from(rows.flatMap((row) => [...row.slice(1), ignore])),
  };
}
