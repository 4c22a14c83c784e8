// One command from its arguments to its exit code; the process belongs to main.ts.

import yargs from 'yargs';
import { GemmoeError } from '../core/errors.ts';
import { type Command, findCommand } from './command.ts';
import { COMMANDS } from './commands/index.ts';
import { commandHelp, overview } from './help.ts';
import { COMMON, flagOf, OPTIONS, type OptionName, optionOf } from './options.ts';
import { refuseUnknownFlags, resolveOptions } from './resolve.ts';
import { reportError, Terminal } from './terminal.ts';

/** Exit code of a program that a signal ended. */
const INTERRUPTED = 130;

interface CommandLine {
  readonly words: readonly string[];
  readonly flags: Readonly<Record<string, unknown>>;
}

/** Splits words and flags; values stay text. @throws GemmoeError for a flag without the value it needs */
function parseCommandLine(args: readonly string[]): CommandLine {
  const names = Object.keys(OPTIONS) as OptionName[];
  const switches = names.filter((name) => optionOf(name).kind === 'switch').map(flagOf);
  const valued = names.filter((name) => optionOf(name).kind !== 'switch').map(flagOf);
  let failure: string | undefined;
  const parser = yargs([])
    .help(false)
    .version(false)
    .exitProcess(false)
    .fail((message) => (failure = message))
    .boolean([...switches, 'help', 'version'])
    .string(valued)
    .requiresArg(valued)
    .alias('h', 'help')
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'greedy-arrays': false,
    });
  const { _: words, $0: _program, h: _alias, ...flags } = parser.parseSync([...args]);
  if (failure !== undefined) {
    const hint = 'add --help for the options; a value that begins with a dash is written --option=-value';
    throw new GemmoeError('usage', failure, hint);
  }
  const given = Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
  return { words: words.map(String), flags: given };
}

/** Where a command is run. */
export interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
}

/** Runs what the arguments ask for; the exit code. Writes to the process's streams. */
export async function run(args: readonly string[], { env, cwd }: Surroundings): Promise<number> {
  // until the options are resolved, the flags alone say how to speak
  let terminal = new Terminal(args.includes('--json'));
  let isDebugging = args.includes('--debug');
  const interruption = new AbortController();
  let stopListening = () => {};
  try {
    const { words, flags } = parseCommandLine(args);
    const { help, version, ...rest } = flags;
    const [name, positional, ...extra] = words;
    if (version) return printVersion(terminal);
    if (name === undefined) return printOverview(terminal, rest, help === true);
    const command = findCommand(COMMANDS, name);
    if (help) {
      for (const line of commandHelp(command, terminal.columns)) terminal.print(line);
      return 0;
    }
    const [output] = command.output ? extra.splice(0, 1) : [];
    refuseStrayWords(command, positional, extra);
    const options = await resolveOptions(command.options, { flags: rest, env, cwd });
    terminal = new Terminal(options.json);
    isDebugging = options.debug;
    if (command.stopsGently) stopListening = listenForInterrupts(interruption, terminal);
    const flagged = (Object.keys(OPTIONS) as OptionName[]).filter((option) => flagOf(option) in rest);
    return await command.run({
      flagged,
      options,
      positional,
      words: words.slice(1),
      output,
      terminal,
      cwd,
      commands: COMMANDS,
      signal: interruption.signal,
    });
  } catch (error) {
    if (interruption.signal.aborted && !isDebugging) return INTERRUPTED;
    return reportError(error, terminal, isDebugging);
  } finally {
    stopListening();
  }
}

/** What `gemmoe` says without a command, or the flag that it does not know. */
function printOverview(terminal: Terminal, flags: Readonly<Record<string, unknown>>, isAsked: boolean): number {
  refuseUnknownFlags(COMMON, flags);
  for (const line of overview(COMMANDS, terminal.columns)) terminal.print(line);
  return isAsked ? 0 : 2;
}

function refuseStrayWords(command: Command, positional: string | undefined, extra: readonly string[]): void {
  if (command.positional?.many) return;
  const stray = command.positional ? extra[0] : (positional ?? extra[0]);
  if (stray === undefined) return;
  throw new GemmoeError(
    'usage',
    `${command.name} does not know what "${stray}" is`,
    `see \`gemmoe ${command.name} --help\``,
  );
}

async function printVersion(terminal: Terminal): Promise<number> {
  const { readFileSync } = await import('node:fs');
  const manifest = new URL('../../package.json', import.meta.url);
  terminal.print((JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version);
  return 0;
}

/** The first Ctrl-C or SIGTERM aborts, the second ends the process at once. What is returned ends the listening. */
function listenForInterrupts(controller: AbortController, terminal: Terminal): () => void {
  const interrupt = () => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    controller.abort();
    terminal.note('stopping; once more to stop at once');
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  return () => {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  };
}
