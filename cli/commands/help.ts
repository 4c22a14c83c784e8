// gemmoe help: the overview, one command's help, or the list of options for the README.

import { type Command, findCommand } from '../command.ts';
import { commandHelp, optionsMarkdown, overview } from '../help.ts';

export const help: Command = {
  name: 'help',
  summary: 'explain a command, or list all options',
  positional: { name: 'COMMAND', description: 'command to explain' },
  options: ['markdown'],
  examples: ['gemmoe help train', 'gemmoe help --markdown'],
  async run({ options, positional, terminal, commands }) {
    const command = positional === undefined ? undefined : findCommand(commands, positional);
    const general = options.markdown ? optionsMarkdown(commands) : overview(commands, terminal.columns);
    for (const line of command ? commandHelp(command, terminal.columns) : general) terminal.print(line);
    terminal.result({ commands: commands.map(({ name, summary }) => ({ name, summary })) });
    return 0;
  },
};
