// gemmoe evaluate: loss, perplexity and bits per byte of a model on a text.

import { existsSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { chatRenderer, type LossOn } from '../../core/data/chat-rendering.ts';
import { openCorpus } from '../../core/data/corpus.ts';
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

/** A source, and what stands between its documents. */
interface Evaluated {
  readonly source: TokenSource;
  readonly separator: number | undefined;
}

/** What --data names: text, .bin shards, or the held-out split of a folder that `prepare` made. */
async function openSource(
  { options, cwd }: CommandContext,
  tokenizer: Tokenizer,
  modelDirectory: string,
): Promise<Evaluated & Disposable> {
  const paths = options.data.map((path) => resolve(cwd, path));
  const isPrepared = paths.length === 1 && existsSync(join(paths[0], PREPARED_FILE));
  const shards = paths.filter((path) => extname(path) === '.bin');
  if (shards.length > 0 && shards.length < paths.length) {
    const hint = 'name text files and folders, or .bin shards, or one folder that `gemmoe prepare` made';
    throw new GemmoeError('usage', `data of different kinds were named together: ${paths.join(', ')}`, hint);
  }
  if (isPrepared) return disposable(await openHeldOut(paths[0], modelDirectory));
  const source =
    shards.length > 0
      ? new ShardSource(shards, tokenizer.vocabSize)
      : await readText(paths, options.textField, options.lossOn, tokenizer);
  return disposable({ source, separator: tokenizer.endOfText });
}

const disposable = (evaluated: Evaluated): Evaluated & Disposable =>
  Object.assign(evaluated, { [Symbol.dispose]: () => evaluated.source.close() });

/** The held-out split, which must have been made with the model's tokenizer. */
async function openHeldOut(folder: string, modelDirectory: string): Promise<Evaluated> {
  // the two that only unprepared text asks for stand idle
  const idle = { bpeVocabSize: 1, validationFraction: 0.5 };
  const { train, validation, separator } = await openCorpus({ data: [folder], tokenizer: modelDirectory, ...idle });
  train.close();
  return { source: validation, separator };
}

/** The tokens of text, with the end-of-text token between documents where there is one; of conversations `lossOn` counts. */
async function readText(
  paths: readonly string[],
  field: string,
  lossOn: LossOn,
  tokenizer: Tokenizer,
): Promise<TokenSource> {
  const documents = readDocuments(listTextFiles(paths), { field, chat: chatRenderer(tokenizer, lossOn) });
  const source = await tokenise(documents, tokenizer, tokenizer.endOfText);
  const hasEnd = tokenizer.endOfText !== undefined && source.length > 0;
  return hasEnd && !source.isMasked ? new SourceRange(source, 0, source.length - 1, source.textBytes) : source;
}

export const evaluate: Command = {
  name: 'evaluate',
  summary: 'measure loss, perplexity and bits per byte of a model on a text',
  options: [
    'model',
    'adapter',
    'data',
    'textField',
    'lossOn',
    'documents',
    'sequenceLength',
    'batchSize',
    'weights',
    'backend',
    'plugin',
  ],
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
    using evaluated = await openSource(context, tokenizer, directory);
    const { source, separator } = evaluated;
    const sequenceLength = options.sequenceLength ?? Math.min(model.config.maxSequenceLength, source.length - 1);
    const batchSize = options.batchSize ?? BATCH;
    const documents = { mode: options.documents, separator };
    const result = await evaluateSource(model, source, { batchSize, sequenceLength, documents, signal });
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
