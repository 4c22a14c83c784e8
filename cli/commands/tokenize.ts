// gemmoe tokenize: text to ids, and back.

import { resolve } from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { GemmoeError } from '../../core/errors.ts';
import { byteTokenizer } from '../../core/data/bpe-tokenizer.ts';
import type { Tokenizer } from '../../core/data/tokenizer.ts';
import { loadTokenizer } from '../../core/data/tokenizers.ts';
import { modelDirectoryOf } from '../../core/training/checkpoint.ts';
import type { Command, CommandContext } from '../command.ts';
import { chosenTokenizer } from '../tokenizer-choice.ts';

function openTokenizer({ options, cwd }: CommandContext): Tokenizer {
  if (options.model !== undefined) return loadTokenizer(modelDirectoryOf(resolve(cwd, options.model)));
  const chosen = chosenTokenizer(options, cwd);
  if (chosen === 'byte') return byteTokenizer();
  if (chosen === 'character' || chosen === 'bpe') {
    throw new GemmoeError(
      'usage',
      'no tokenizer is named',
      'name a tokenizer.json or a model: --tokenizer FILE or --model DIR (or --tokenizer byte)',
    );
  }
  return loadTokenizer(chosen);
}

function parseIds(text: string, vocabSize: number): number[] {
  const words = text.split(/[\s,[\]]+/).filter((word) => word !== '');
  return words.map((word) => {
    const id = Number(word);
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) return id;
    throw new GemmoeError('usage', `"${word}" is no id of this tokenizer`, `ids run from 0 to ${vocabSize - 1}`);
  });
}

export const tokenize: Command = {
  name: 'tokenize',
  summary: 'turn text into ids, or ids into text',
  positional: { name: 'TEXT', description: 'text (or ids, with --decode); standard input when absent' },
  options: ['model', 'tokenizer', 'decode'],
  examples: ['gemmoe tokenize "Call me Ishmael." --model DIR', 'gemmoe tokenize --decode "1 2 3" --tokenizer FILE'],
  async run(context) {
    const { options, positional, terminal } = context;
    const tokenizer = openTokenizer(context);
    const input = positional ?? (await readAll(process.stdin));
    const ids = options.decode ? parseIds(input, tokenizer.vocabSize) : tokenizer.encode(input);
    const text = options.decode ? tokenizer.decode(ids, { specialTokens: true }) : input;
    terminal.result({ ids, text, count: ids.length, vocabSize: tokenizer.vocabSize });
    terminal.print(options.decode ? text : ids.join(' '));
    return 0;
  },
};
