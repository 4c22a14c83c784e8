// Files and folders that are written whole or not at all, shown by dying at every file system call in turn.

import * as fs from 'node:fs';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  makeDirectoryAtomic,
  recoverDirectory,
  removeStaleTemporaries,
  writeDirectoryAtomic,
  writeFileAtomic,
} from '../core/formats/atomic-files.ts';
import { GemmoeError } from '../core/errors.ts';

/** How the file system behaves: `fail` throws from one call, `dead` from that call on, as if the process were killed. */
const disk = vi.hoisted(() => ({
  calls: 0,
  failAt: Infinity,
  killed: false,
  fail: undefined as ((name: string, args: unknown[]) => boolean) | undefined,
}));

vi.mock('node:fs', async (importOriginal) => {
  const actual = await importOriginal<typeof fs>();
  const watched = [
    'openSync',
    'writeFileSync',
    'fsyncSync',
    'mkdirSync',
    'renameSync',
    'rmSync',
    'readdirSync',
  ] as const;
  const wrap = (name: (typeof watched)[number]) => {
    return (...args: unknown[]) => {
      if (disk.killed || disk.calls++ === disk.failAt) {
        disk.killed = true;
        throw new Error('killed');
      }
      if (disk.fail?.(name, args)) throw Object.assign(new Error(`EIO: ${name} failed`), { code: 'EIO' });
      return (actual[name] as (...rest: unknown[]) => unknown)(...args);
    };
  };
  return { ...actual, ...Object.fromEntries(watched.map((name) => [name, wrap(name)])) };
});

let parent: string;
beforeEach(() => {
  revive();
  parent = mkdtempSync(join(tmpdir(), 'gemmoe-atomic-'));
});
afterEach(() => {
  revive();
  rmSync(parent, { recursive: true, force: true });
});

function revive(): void {
  Object.assign(disk, { calls: 0, failAt: Infinity, killed: false, fail: undefined });
}

/** Runs `action` once per file system call that it makes, killed at that call; `after` looks at what is left. */
function killEverywhere(prepare: () => void, action: () => void, after: () => void): number {
  for (let at = 0; ; at++) {
    revive();
    prepare();
    Object.assign(disk, { calls: 0, failAt: at });
    let finished = true;
    try {
      action();
    } catch {
      finished = false;
    }
    revive();
    after();
    if (finished) return at;
  }
}

/** Every file below a folder with its text. */
function contents(directory: string): Record<string, string> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    entries.map((entry) => [entry.name, readFileSync(join(entry.parentPath, entry.name), 'utf8')]).toSorted(),
  );
}

function build(version: string): (directory: string) => void {
  return (directory) => {
    writeFileSync(join(directory, 'a'), `${version} a`);
    mkdirSync(join(directory, 'deep'));
    writeFileSync(join(directory, 'deep', 'b'), `${version} b`);
  };
}

const OLD = { a: 'old a', b: 'old b' };
const NEW = { a: 'new a', b: 'new b' };

describe('writeFileAtomic', () => {
  test('writes and replaces', () => {
    const path = join(parent, 'file');
    writeFileAtomic(path, 'one');
    writeFileAtomic(path, Uint8Array.of(116, 119, 111));
    expect(readFileSync(path, 'utf8')).toBe('two');
    expect(readdirSync(parent)).toEqual(['file']);
  });

  test('leaves the old or the new content wherever it dies', () => {
    const path = join(parent, 'file');
    const seen = new Set<string>();
    const calls = killEverywhere(
      () => writeFileSync(path, 'old'),
      () => writeFileAtomic(path, 'new'),
      () => seen.add(readFileSync(path, 'utf8')),
    );
    expect(seen).toEqual(new Set(['old', 'new']));
    expect(calls).toBeGreaterThanOrEqual(5); // open, write, flush, rename, flush of the folder
  });

  test('flushes the content before the rename', () => {
    const order: string[] = [];
    disk.fail = (name) => (order.push(name), false);
    writeFileAtomic(join(parent, 'file'), 'x');
    expect(order.indexOf('fsyncSync')).toBeLessThan(order.indexOf('renameSync'));
    expect(order.lastIndexOf('fsyncSync')).toBeGreaterThan(order.indexOf('renameSync'));
  });

  test('names the path it cannot write, and leaves nothing behind', () => {
    const folder = join(parent, 'folder');
    mkdirSync(join(folder, 'inside'), { recursive: true });
    expect(() => writeFileAtomic(folder, 'x')).toThrow(GemmoeError);
    expect(() => writeFileAtomic(folder, 'x')).toThrow(folder);
    expect(() => writeFileAtomic(join(parent, 'none', 'file'), 'x')).toThrow(/cannot write .*none/);
    expect(readdirSync(parent)).toEqual(['folder']);
  });

  test('goes without flushing a folder where the system does not let it (Windows)', () => {
    for (const code of ['EPERM', 'EISDIR']) {
      disk.fail = (name, [path]) => {
        if (name === 'openSync' && path === parent) throw Object.assign(new Error(code), { code });
        return false;
      };
      writeFileAtomic(join(parent, code), 'x');
      expect(readFileSync(join(parent, code), 'utf8')).toBe('x');
    }
  });
});

describe('writeDirectoryAtomic', () => {
  let path: string;
  beforeEach(() => (path = join(parent, 'model')));

  test('makes a new folder, missing parents too, and fills an empty one', () => {
    const deep = join(parent, 'x', 'y', 'model');
    writeDirectoryAtomic(deep, build('new'));
    expect(contents(deep)).toEqual(NEW);
    mkdirSync(path);
    writeDirectoryAtomic(`${path}/`, build('new'));
    expect(contents(path)).toEqual(NEW);
    expect(readdirSync(parent).toSorted()).toEqual(['model', 'x']);
  });

  test('refuses a folder that holds something, and a file', () => {
    writeDirectoryAtomic(path, build('old'));
    expect(() => writeDirectoryAtomic(path, build('new'))).toThrow(/model is not empty \(a, deep\)/);
    expect(contents(path)).toEqual(OLD);
    const file = join(path, 'a');
    for (const replace of [false, true]) {
      expect(() => writeDirectoryAtomic(file, build('new'), { replace })).toThrow(/is a file, not a folder/);
    }
    expect(contents(path)).toEqual(OLD);
  });

  test('replaces as a whole when asked to: what only the old one had is gone', () => {
    writeDirectoryAtomic(path, (directory) => writeFileSync(join(directory, 'only-old'), 'x'));
    writeDirectoryAtomic(path, build('new'), { replace: true });
    expect(contents(path)).toEqual(NEW);
    expect(readdirSync(parent)).toEqual(['model']);
  });

  test('keeps the old folder when the building fails', () => {
    writeDirectoryAtomic(path, build('old'));
    const failing = (directory: string) => {
      build('new')(directory);
      throw new Error('disk full');
    };
    expect(() => writeDirectoryAtomic(path, failing, { replace: true })).toThrow(/cannot write .*model: disk full/);
    expect(contents(path)).toEqual(OLD);
    expect(readdirSync(parent)).toEqual(['model']);
  });

  test('puts the old folder back when the new one cannot be moved into its place', () => {
    writeDirectoryAtomic(path, build('old'));
    let renames = 0;
    disk.fail = (name) => name === 'renameSync' && ++renames === 2;
    expect(() => writeDirectoryAtomic(path, build('new'), { replace: true })).toThrow(/EIO/);
    expect(contents(path)).toEqual(OLD);
    expect(readdirSync(parent)).toEqual(['model']);
  });

  test('leaves the whole old or the whole new folder wherever it dies', () => {
    const seen = new Set<string>();
    const calls = killEverywhere(
      () => {
        rmSync(path, { recursive: true, force: true });
        writeDirectoryAtomic(path, build('old'));
      },
      () => writeDirectoryAtomic(path, build('new'), { replace: true }),
      () => {
        removeStaleTemporaries(parent);
        expect(readdirSync(parent)).toEqual(['model']);
        const found = contents(path);
        expect([OLD, NEW]).toContainEqual(found);
        seen.add(found['a']);
      },
    );
    expect(seen).toEqual(new Set(['old a', 'new a']));
    expect(calls).toBeGreaterThan(12);
  });

  test('and the next write recovers by itself', () => {
    killEverywhere(
      () => {
        rmSync(path, { recursive: true, force: true });
        writeDirectoryAtomic(path, build('old'));
      },
      () => writeDirectoryAtomic(path, build('middle'), { replace: true }),
      () => {
        writeDirectoryAtomic(path, build('new'), { replace: true });
        expect(contents(path)).toEqual(NEW);
        expect(readdirSync(parent)).toEqual(['model']);
      },
    );
  });

  test('flushes every file and folder before the swap', () => {
    const flushed: string[] = [];
    let opened = '';
    disk.fail = (name, [target]) => {
      if (name === 'openSync') opened = String(target);
      if (name === 'fsyncSync') flushed.push(opened.slice(parent.length + 1).replace(/^model[^/]*/, 'model'));
      if (name === 'renameSync') flushed.push('rename');
      return false;
    };
    writeDirectoryAtomic(path, build('new'));
    const rename = flushed.indexOf('rename');
    expect(flushed.slice(0, rename).toSorted()).toEqual(['model', 'model/a', 'model/deep', 'model/deep/b']);
    expect(flushed.slice(rename + 1)).toEqual(['']); // the folder around it
  });

  test('names a folder it cannot make', () => {
    const file = join(parent, 'file');
    writeFileSync(file, 'x');
    const below = join(file, 'model');
    expect(() => writeDirectoryAtomic(below, build('new'))).toThrow(GemmoeError);
    expect(() => writeDirectoryAtomic(below, build('new'))).toThrow(`cannot make ${below}`);
    expect(readFileSync(file, 'utf8')).toBe('x');
  });
});

test('makeDirectoryAtomic gives the result of a slow build, and leaves nothing when it fails', async () => {
  const path = join(parent, 'data');
  const failing = makeDirectoryAtomic(path, async (directory) => {
    build('new')(directory);
    await Promise.reject(new Error('bad line 7'));
  });
  await expect(failing).rejects.toThrow(/cannot write .*data: bad line 7/);
  expect(readdirSync(parent)).toEqual([]);
  const made = await makeDirectoryAtomic(path, async (directory) => (build('new')(directory), 42));
  expect(made).toBe(42);
  expect(contents(path)).toEqual(NEW);
});

describe('recovering', () => {
  test('recoverDirectory deletes an old folder, even half deleted, beside the new one', () => {
    const path = join(parent, 'model');
    writeDirectoryAtomic(path, build('new'));
    mkdirSync(`${path}.gemmoe-old`);
    recoverDirectory(path);
    expect(contents(path)).toEqual(NEW);
    expect(existsSync(`${path}.gemmoe-old`)).toBe(false);
  });

  test('removeStaleTemporaries leaves other files alone, and a missing folder is fine', () => {
    writeFileSync(join(parent, 'notes.tmp'), 'x');
    writeFileSync(join(parent, 'state.json.gemmoe-tmp'), 'x');
    removeStaleTemporaries(parent);
    removeStaleTemporaries(join(parent, 'none'));
    expect(readdirSync(parent)).toEqual(['notes.tmp']);
  });
});
