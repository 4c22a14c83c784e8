// The texts of --help and the README's list of options, out of the option table.

import type { Command } from './command.ts';
import { table, wrapped } from './format.ts';
import { COMMON, defaultOf, flagOf, GROUPS, OPTIONS, type OptionName, optionOf } from './options.ts';

/** What `gemmoe` without a command says. */
export function overview(commands: readonly Command[], columns: number): string[] {
  return [
    'gemmoe: Mixture-of-Experts transformers, trained and run on the CPU',
    '',
    'gemmoe COMMAND [options]',
    '',
    ...table(commands.map(({ name, summary }) => [name, summary])),
    '',
    ...wrapped(
      'gemmoe COMMAND --help lists the options of a command. An option may also stand in the environment, as ' +
        'GEMMOE_BACKEND=reference, or in gemmoe.config.{ts,js,mjs,json}, as { "backend": "reference" }; a flag wins over ' +
        'the environment, the environment over the file.',
      columns,
    ),
  ];
}

/** --help of one command. */
export function commandHelp(command: Command, columns: number): string[] {
  const { name, summary, positional, output, options, examples } = command;
  const words = [positional, output].filter((word) => word !== undefined);
  const shown = words.map((word) => ` [${word.name}]${word === positional && positional.many ? '…' : ''}`);
  const usage = `gemmoe ${name}${shown.join('')} [options]`;
  return [
    summary,
    '',
    usage,
    ...(words.length > 0 ? ['', ...table(words.map((word) => [word.name, word.description]))] : []),
    ...optionGroups([...options, ...COMMON], columns),
    '',
    'examples',
    ...examples.map((example) => `  ${example}`),
  ];
}

/** The options under their headings; within one, in the order that the command lists them. */
function optionGroups(options: readonly OptionName[], columns: number): string[] {
  return GROUPS.flatMap(({ title, names }) => {
    const group = options.filter((option) => names.includes(option));
    return group.length === 0 ? [] : ['', title, ...group.flatMap((option) => optionHelp(option, columns))];
  });
}

const INDENT = 8;

function optionHelp(name: OptionName, columns: number): string[] {
  const { description, value } = optionOf(name);
  const standard = defaultOf(name);
  const text = `${description}${standard === undefined ? '' : ` (default: ${standard})`}`;
  return [
    `  --${flagOf(name)}${value ? ` ${value}` : ''}`,
    ...wrapped(text, columns - INDENT).map((line) => `${' '.repeat(INDENT)}${line}`),
  ];
}

/** Every option as a Markdown table. */
export function optionsMarkdown(commands: readonly Command[]): string[] {
  const rows = (Object.keys(OPTIONS) as OptionName[]).map((name) => {
    const { description, value } = optionOf(name);
    const flag = `\`--${flagOf(name)}${value ? ` ${value}` : ''}\``.replaceAll('|', '\\|');
    const takers = commands.filter((command) => command.options.includes(name)).map((command) => command.name);
    const where = COMMON.includes(name) ? 'all' : takers.join(', ');
    return `| ${flag} | ${description.replaceAll('|', '\\|')} | ${defaultOf(name) ?? ''} | ${where} |`;
  });
  return ['| option | meaning | default | commands |', '|---|---|---|---|', ...rows];
}
