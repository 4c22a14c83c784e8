// gemmoe evaluate: loss, perplexity and bits per byte of a model on a text.

import { existsSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { openCorpus } from '../../core/data/corpus.ts';
import { chatRenderer } from '../../core/data/chat-rendering.ts';
import { listTextFiles, readDocuments } from '../../core/data/documents.ts';
import { PREPARED_FILE } from '../../core/data/prepared.ts';
import type { TokenSource } from '../../core/data/source.ts';
import { ShardSource, SourceRange } from '../../core/data/sources.ts';
import { tokenise } from '../../core/data/tokenise.ts';
import type { Tokenizer } from '../../core/data/tokenizer.ts';
import { GemmoeError } from '../../core/errors.ts';
import { evaluateSource } from '../../core/training/evaluate.ts';
import type { Command, CommandContext } from '../command.ts';
import { grouped, table } from '../format.ts';
import { backendLine, backendOf, openModel, startServices } from '../services.ts';

const BATCH = 8;

/** What --data names: text, .bin shards, or the held-out split of a folder that `prepare` made. */
async function openSource(
  { options, cwd }: CommandContext,
  tokenizer: Tokenizer,
  modelDirectory: string,
): Promise<TokenSource & Disposable> {
  const paths = options.data.map((path) => resolve(cwd, path));
  const isPrepared = paths.length === 1 && existsSync(join(paths[0], PREPARED_FILE));
  const shards = paths.filter((path) => extname(path) === '.bin');
  if (shards.length > 0 && shards.length < paths.length) {
    const hint = 'name text files and folders, or .bin shards, or one folder that `gemmoe prepare` made';
    throw new GemmoeError('usage', `data of different kinds were named together: ${paths.join(', ')}`, hint);
  }
  const source = isPrepared
    ? await openHeldOut(paths[0], modelDirectory)
    : shards.length > 0
      ? new ShardSource(shards, tokenizer.vocabSize)
      : await readText(paths, options.textField, tokenizer);
  return Object.assign(source, { [Symbol.dispose]: () => source.close() });
}

/** The held-out split, which must have been made with the model's tokenizer. */
async function openHeldOut(folder: string, modelDirectory: string): Promise<TokenSource> {
  // the two that only unprepared text asks for stand idle
  const idle = { bpeVocabSize: 1, validationFraction: 0.5 };
  const { train, validation } = await openCorpus({ data: [folder], tokenizer: modelDirectory, ...idle });
  train.close();
  return validation;
}

/** The tokens of text, with the end-of-text token between documents where there is one; of conversations the answers count. */
async function readText(paths: readonly string[], field: string, tokenizer: Tokenizer): Promise<TokenSource> {
  const documents = readDocuments(listTextFiles(paths), { field, chat: chatRenderer(tokenizer, 'answers') });
  const source = await tokenise(documents, tokenizer, tokenizer.endOfText);
  const hasEnd = tokenizer.endOfText !== undefined && source.length > 0;
  return hasEnd && !source.isMasked ? new SourceRange(source, 0, source.length - 1, source.textBytes) : source;
}

export const evaluate: Command = {
  name: 'evaluate',
  summary: 'measure loss, perplexity and bits per byte of a model on a text',
  options: ['model', 'adapter', 'data', 'textField', 'sequenceLength', 'batchSize', 'weights', 'backend', 'plugin'],
  examples: ['gemmoe evaluate --model runs/mine --data test.txt', 'gemmoe evaluate --model runs/mine --data prepared'],
  stopsGently: true,
  async run(context) {
    const { options, terminal, signal } = context;
    if (options.data.length === 0) throw new GemmoeError('usage', 'no text is named', 'name one: --data FILE');
    using services = await startServices(context);
    const { model, tokenizer, directory } = openModel(context, services.kernels);
    if (!tokenizer) {
      throw new GemmoeError(
        'not-found',
        `${directory} has no tokenizer.json, so text cannot be read with it`,
        'add the file',
      );
    }
    using source = await openSource(context, tokenizer, directory);
    const sequenceLength = options.sequenceLength ?? Math.min(model.config.maxSequenceLength, source.length - 1);
    const batchSize = options.batchSize ?? BATCH;
    const result = await evaluateSource(model, source, { batchSize, sequenceLength, signal });
    const { loss, perplexity, bitsPerByte, windows, tokens } = result;
    terminal.result({ ...result, sequenceLength, backend: backendOf(services) });
    terminal.note(backendLine(services));
    for (const line of table([
      ['loss', `${loss.toFixed(4)} nats per token`],
      ['perplexity', perplexity.toFixed(3)],
      ['bits per byte', bitsPerByte?.toFixed(4) ?? 'unknown'],
      ['tokens', `${grouped(tokens)} in ${grouped(windows)} windows of ${grouped(sequenceLength)}`],
    ])) {
      terminal.print(line);
    }
    return 0;
  },
};
