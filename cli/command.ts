// A command is data and a handler.

import type { OptionName, OptionValues } from './options.ts';
import type { Terminal } from './terminal.ts';

/** What a handler works with. */
export interface CommandContext {
  readonly options: OptionValues;
  /** Options that stood on the command line, not in the environment or a file. */
  readonly flagged: readonly OptionName[];
  /** What stood on the command line without a flag. */
  readonly positional: string | undefined;
  readonly terminal: Terminal;
  /** Folder that relative paths are seen from. */
  readonly cwd: string;
  /** Every command, for help. */
  readonly commands: readonly Command[];
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
}

/** Exit code of a handler: 0 done, 130 interrupted; failures are thrown. */
export type ExitCode = 0 | 130;

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** A value without a flag. */
  readonly positional?: { readonly name: string; readonly description: string };
  readonly options: readonly OptionName[];
  readonly examples: readonly string[];
  run(context: CommandContext): Promise<ExitCode>;
}
