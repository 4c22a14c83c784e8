// What is written where: results on standard output, everything else on standard error when --json is given.

import { basename, relative } from 'node:path';
import { GemmoeError, messageOf } from '../core/errors.ts';
import { printable } from './format.ts';

/** The two streams of a command. */
export class Terminal {
  private readonly isJson: boolean;
  private liveLength = 0;

  constructor(isJson: boolean) {
    this.isJson = isJson;
  }

  /** True when a line can be rewritten in place. */
  get isInteractive(): boolean {
    return this.stream.isTTY === true;
  }

  /** Columns of the terminal; 80 where it has none. */
  get columns(): number {
    return this.stream.columns ?? 80;
  }

  /** A line for people. */
  print(line = ''): void {
    this.clearLive();
    this.stream.write(`${line}\n`);
  }

  /** Text for people, without a line end. */
  write(text: string): void {
    this.stream.write(this.isInteractive ? printable(text) : text);
  }

  /** A line beside the result: what was chosen, how fast it went. */
  note(line: string): void {
    this.clearLive();
    process.stderr.write(`${line}\n`);
  }

  /** The one object of --json; nothing without it. */
  result(value: unknown): void {
    if (this.isJson) process.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** A line that the next one replaces; cut to the width of the terminal. */
  live(line: string): void {
    const cut = [...line].slice(0, this.columns - 1).join('');
    this.stream.write(`\r${cut}${' '.repeat(Math.max(0, this.liveLength - cut.length))}`);
    this.liveLength = cut.length;
  }

  /** Takes the live line away. */
  clearLive(): void {
    if (this.liveLength > 0) this.stream.write(`\r${' '.repeat(this.liveLength)}\r`);
    this.liveLength = 0;
  }

  /** Where text for people goes. */
  get stream(): NodeJS.WriteStream {
    return this.isJson ? process.stderr : process.stdout;
  }
}

/** Prints a command to be copied, and what its `gemmoe` stands for where the program is not installed under that name. */
export function printCommand(terminal: Terminal, intro: string, command: string): void {
  terminal.print(`${intro}: gemmoe ${command}`);
  const script = process.argv[1];
  if (basename(script) !== 'main.js') return;
  const path = relative(process.cwd(), script);
  terminal.print(`(gemmoe is here: node ${path.startsWith('..') ? script : path})`);
}

/** What went wrong, for people on standard error and, with --json, as the one object; the exit code. */
export function reportError(error: unknown, terminal: Terminal, isDebugging: boolean): number {
  const { code, message, hint } = asGemmoeError(error);
  terminal.note(`gemmoe: ${message}${hint === undefined ? '' : `\n  ${hint}`}`);
  if (isDebugging && error instanceof Error) terminal.note(error.stack ?? '');
  if (isDebugging && error instanceof Error && error.cause) terminal.note(String(error.cause));
  terminal.result({ error: { code, message, hint: hint ?? null } });
  return code === 'usage' ? 2 : 1;
}

/** What others throw, in our terms: the system's refusals and a lack of memory are no faults of ours. */
function asGemmoeError(error: unknown): GemmoeError {
  if (error instanceof GemmoeError) return error;
  const message = messageOf(error);
  if ((error as NodeJS.ErrnoException | undefined)?.syscall !== undefined) {
    return new GemmoeError('unavailable', `the system refused: ${message}`, 'check the path, its rights and the disk');
  }
  if (error instanceof RangeError && /(array|string) length|allocation failed/i.test(message)) {
    const hint = 'choose a smaller model, batch or sequence; `gemmoe inspect` shows what they need';
    return new GemmoeError('unavailable', `this does not fit in memory: ${message}`, hint);
  }
  return new GemmoeError('internal', message, 'this is a fault of gemmoe: --debug shows where');
}
