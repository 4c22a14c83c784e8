// A command is data and a handler.

import { GemmoeError, nearestName } from '../core/errors.ts';
import type { OptionName, OptionValues } from './options.ts';
import type { Terminal } from './terminal.ts';

/** What a handler works with. */
export interface CommandContext {
  readonly options: OptionValues;
  /** Options that stood on the command line, not in the environment or a file. */
  readonly flagged: readonly OptionName[];
  /** What stood on the command line without a flag. */
  readonly positional: string | undefined;
  /** All that stood there, `positional` first. */
  readonly words: readonly string[];
  /** The second such value. */
  readonly output: string | undefined;
  readonly terminal: Terminal;
  /** Folder that relative paths are seen from. */
  readonly cwd: string;
  /** Every command, for help. */
  readonly commands: readonly Command[];
  /** Aborted by the first Ctrl-C or SIGTERM, for a command that stops gently. */
  readonly signal: AbortSignal;
}

/** Exit code of a handler: 0 done, 1 a check that did not pass, 130 interrupted; failures are thrown. */
export type ExitCode = 0 | 1 | 130;

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** A value without a flag. */
  readonly positional?: { readonly name: string; readonly description: string; readonly many?: true };
  /** A second one: what is written. */
  readonly output?: { readonly name: string; readonly description: string };
  readonly options: readonly OptionName[];
  readonly examples: readonly string[];
  /** Heeds `signal` on Ctrl-C; others end at once. */
  readonly stopsGently?: true;
  run(context: CommandContext): Promise<ExitCode>;
}

/** The command called `name`. @throws GemmoeError with the nearest one */
export function findCommand(commands: readonly Command[], name: string): Command {
  const found = commands.find((command) => command.name === name);
  if (found) return found;
  const names = commands.map((command) => command.name);
  const nearest = nearestName(name, names);
  throw new GemmoeError(
    'usage',
    `there is no command "${name}"`,
    `${nearest ? `did you mean "${nearest}"? ` : ''}commands: ${names.join(', ')}`,
  );
}
