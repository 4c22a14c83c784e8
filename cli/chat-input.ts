// Lines that a person types, or that come through a pipe, with Ctrl-C heard apart.

import { createInterface, type Interface } from 'node:readline';

/** Lines one by one; null at their end. A line that ends in a backslash goes on with the next. */
export class ChatInput {
  private readonly reader: Interface;
  private readonly lines: string[] = [];
  private waiting: ((line: string | null) => void) | undefined;
  private isClosed = false;
  private unfinished = '';

  /** @param onInterrupt called on Ctrl-C */
  constructor(input: NodeJS.ReadStream, output: NodeJS.WriteStream, onInterrupt: () => void) {
    const terminal = input.isTTY === true && output.isTTY === true;
    this.reader = createInterface({ input, output, terminal, prompt: '' });
    this.reader.on('line', (line) => this.take(line));
    this.reader.on('close', () => this.close());
    this.reader.on('SIGINT', onInterrupt);
  }

  /** What is typed and not yet sent. */
  get typed(): string {
    return this.reader.line;
  }

  /** Throws away what is typed and not yet sent. */
  clear(): void {
    this.unfinished = '';
    this.reader.write(null, { ctrl: true, name: 'e' });
    this.reader.write(null, { ctrl: true, name: 'u' });
  }

  /** Shows `prompt` where a person types, and waits for a line. */
  next(prompt: string): Promise<string | null> {
    const line = this.lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    if (this.isClosed) return Promise.resolve(null);
    this.show(prompt);
    return new Promise((resolve) => (this.waiting = resolve));
  }

  show(prompt: string): void {
    this.reader.setPrompt(this.reader.terminal ? prompt : '');
    if (this.reader.terminal) this.reader.prompt();
  }

  end(): void {
    this.reader.close();
  }

  private take(line: string): void {
    const text = this.unfinished + line;
    if (text.endsWith('\\')) {
      this.unfinished = `${text.slice(0, -1)}\n`;
      if (this.waiting) this.show('… ');
      return;
    }
    this.unfinished = '';
    this.give(text);
  }

  private close(): void {
    this.isClosed = true;
    if (this.unfinished !== '') this.give(this.unfinished.trimEnd());
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.(null);
  }

  private give(text: string): void {
    const { waiting } = this;
    this.waiting = undefined;
    if (waiting) waiting(text);
    else this.lines.push(text);
  }
}
