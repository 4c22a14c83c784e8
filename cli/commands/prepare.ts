// gemmoe prepare: text to token shards, in bounded memory.

import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { builtinCorpus, listTextFiles } from '../../core/data/documents.ts';
import { prepare } from '../../core/data/prepare.ts';
import { GemmoeError } from '../../core/errors.ts';
import type { Command, CommandContext } from '../command.ts';
import { grouped } from '../format.ts';
import type { OptionValues } from '../options.ts';
import { chosenTokenizer } from '../tokenizer-choice.ts';

/** Standard input is read twice or more, so it goes to a file first. */
async function spoolInput(folder: string, isJsonLines: boolean): Promise<string> {
  const file = join(folder, isJsonLines ? 'stdin.jsonl' : 'stdin.txt');
  await pipeline(process.stdin, createWriteStream(file));
  return file;
}

async function inputFiles({ options, positional, cwd }: CommandContext, scratch: string): Promise<string[]> {
  const named = [...(positional === undefined ? [] : [positional]), ...options.data];
  if (named.length === 0) return builtinCorpus();
  if (named.length === 1 && (named[0] === '-' || named[0] === '-.jsonl')) {
    return [await spoolInput(scratch, named[0] !== '-')];
  }
  return listTextFiles(named.map((path) => resolve(cwd, path)));
}

/** Options that only the training of a bpe tokenizer reads. */
function refuseBpeOptions(tokenizer: string, { vocabSize, minFrequency, special }: OptionValues): void {
  if (tokenizer === 'bpe') return;
  const given = [
    ['--vocab-size', vocabSize !== undefined],
    ['--min-frequency', minFrequency !== undefined],
    ['--special', special.length > 0],
  ].find(([, isGiven]) => isGiven);
  if (!given) return;
  throw new GemmoeError(
    'usage',
    `${given[0]} is for a bpe tokenizer, but the tokenizer is ${tokenizer}`,
    'add --tokenizer bpe',
  );
}

export const prepareCommand: Command = {
  name: 'prepare',
  summary: 'turn text into token shards that train in bounded memory',
  positional: { name: 'PATH', description: 'text, JSONL, a folder of them, - for standard input (-.jsonl for JSONL)' },
  options: [
    'data',
    'out',
    'tokenizer',
    'vocabSize',
    'minFrequency',
    'special',
    'textField',
    'validationFraction',
    'shardTokens',
  ],
  examples: [
    'gemmoe prepare texts/ --out prepared --tokenizer bpe --vocab-size 8192',
    'zcat corpus.gz | gemmoe prepare - --out prepared --tokenizer byte',
    'gemmoe train --data prepared --preset bpe',
  ],
  async run(context) {
    const { options, terminal, cwd } = context;
    if (options.out === undefined) throw new GemmoeError('usage', 'no folder to write is named', 'name one: --out DIR');
    const tokenizer = chosenTokenizer(options, cwd);
    refuseBpeOptions(tokenizer, options);
    const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-prepare-'));
    try {
      const record = await prepare({
        files: await inputFiles(context, scratch),
        textField: options.textField,
        outputDirectory: resolve(cwd, options.out),
        tokenizer,
        bpeVocabSize: options.vocabSize ?? 4096,
        minFrequency: options.minFrequency,
        special: options.special,
        validationFraction: options.validationFraction,
        shardTokens: options.shardTokens,
        progress: (tokens) => terminal.isInteractive && terminal.live(`${grouped(tokens)} tokens`),
      });
      terminal.clearLive();
      const { train, validation, vocabSize } = record;
      terminal.print(`${options.out}: vocabulary of ${grouped(vocabSize)}`);
      for (const [name, split] of [
        ['train', train],
        ['validation', validation],
      ] as const) {
        terminal.print(
          `  ${name.padEnd(10)}  ${grouped(split.tokens)} tokens, ${grouped(split.textBytes)} bytes of text, ${grouped(split.documents)} documents, ${split.shards.length} shards`,
        );
      }
      terminal.print(`train with: gemmoe train --data ${options.out}`);
      terminal.result(record);
      return 0;
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  },
};
