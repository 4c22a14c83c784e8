// Commands as a user runs them, from a folder.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { vi } from 'vitest';
import { run } from '../../cli/run.ts';
import { ROOT } from './golden.ts';

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Options {
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** The built program. */
export const MAIN = join(ROOT, 'dist', 'cli', 'main.js');

const { GEMMOE_REQUIRE_BACKENDS: _required, ...inherited } = process.env;

/** This process's environment without what only the tests read. */
export const ENVIRONMENT: NodeJS.ProcessEnv = inherited;

/** Options of `train` for a run of little work. */
export const SMALL_RUN: readonly string[] = [
  ...['--backend', 'reference', '--preset', 'tiny', '--hidden-size', '16', '--heads', '2'],
  ...['--expert-width', '16', '--sequence-length', '16', '--batch-size', '2'],
];

/** Ways to run commands from `folder`. */
export function commandLine(folder: string) {
  /** Runs a command in this process, which saves the half second that a new one takes to start. */
  async function gemmoe(args: string[], { env, cwd = folder }: Options = {}): Promise<Outcome> {
    const written = { out: '', err: '' };
    const catching = (stream: 'out' | 'err') => (text: string | Uint8Array) => {
      written[stream] += String(text);
      return true;
    };
    const spies = [
      vi.spyOn(process.stdout, 'write').mockImplementation(catching('out')),
      vi.spyOn(process.stderr, 'write').mockImplementation(catching('err')),
    ];
    try {
      return { code: await run(args, { env: { ...ENVIRONMENT, ...env }, cwd }), ...written };
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
  }

  /** Runs the built program in a process of its own. */
  function spawned(args: string[], options: Options & { readonly input?: string } = {}): Outcome {
    const result = spawnSync(process.execPath, [MAIN, ...args], {
      cwd: options.cwd ?? folder,
      env: { ...ENVIRONMENT, ...options.env },
      input: options.input ?? '',
      encoding: 'utf8',
    });
    return { code: result.status, out: result.stdout, err: result.stderr };
  }

  /** The one object of --json. */
  const json = async <T>(args: string[], options: Options = {}): Promise<T> =>
    JSON.parse((await gemmoe([...args, '--json'], options)).out) as T;

  return { gemmoe, spawned, json };
}
