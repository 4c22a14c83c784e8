// gemmoe help: the overview, one command's help, or the list of options for the README.

import { GemmoeError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { commandHelp, optionsMarkdown, overview } from '../help.ts';
import { COMMANDS } from './index.ts';

export const help: Command = {
  name: 'help',
  summary: 'explain a command, or list all options',
  positional: { name: 'COMMAND', description: 'command to explain' },
  options: ['markdown'],
  examples: ['gemmoe help train', 'gemmoe help --markdown'],
  async run({ options, positional, terminal }) {
    const command = COMMANDS.find(({ name }) => name === positional);
    if (positional !== undefined && !command) {
      const names = COMMANDS.map(({ name }) => name).join(', ');
      throw new GemmoeError('usage', `there is no command "${positional}"`, `commands: ${names}`);
    }
    const general = options.markdown ? optionsMarkdown() : overview(terminal.columns);
    for (const line of command ? commandHelp(command, terminal.columns) : general) terminal.print(line);
    terminal.result({ commands: COMMANDS.map(({ name, summary }) => ({ name, summary })) });
    return 0;
  },
};
