// Text to token shards on disk, in bounded memory, so that a corpus larger than memory trains.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeCompanions } from './companions.ts';
import { GemmoeError } from '../errors.ts';
import { cutSafely, listTextFiles, readDocuments, spool, type TextFile } from './documents.ts';
import { makeTokenizer, safeCutOf, type TokenizerSpec } from './make-tokenizer.ts';
import { hashOf, type Prepared, PREPARED_FILE } from './prepared.ts';
import { MAX_SHARD_TOKENS, ShardWriter } from './shards.ts';
import { measureText, type SplitPart, splitText } from './split.ts';
import { makeDirectoryAtomic } from '../formats/atomic-files.ts';
import type { Tokenizer } from './tokenizer.ts';

export interface PrepareOptions extends TokenizerSpec {
  /** Text and JSONL files, and folders of them. */
  readonly files: readonly string[];
  /** A stream of bytes, such as standard input, read before the files. */
  readonly input?: AsyncIterable<Uint8Array> | undefined;
  /** How the documents of `input` are told apart; default `text`: it is one. */
  readonly inputFormat?: TextFile['format'] | undefined;
  /** Key of the text in a JSONL row; default `text`. */
  readonly textField?: string | undefined;
  readonly outputDirectory: string;
  /** Share that is held out: of the documents by a hash of their text, or of the characters when there are few. */
  readonly validationFraction: number;
  /** Tokens of a shard; default 100 million. */
  readonly shardTokens?: number | undefined;
  /** Told the tokens written, now and then. */
  readonly progress?: (tokens: number) => void;
}

const DEFAULT_SHARD_TOKENS = 100_000_000;
/**
 * Writes tokenizer.json, train_000001.bin …, val_000001.bin … and prepare.json to a new folder, whole or not at all.
 * @throws GemmoeError for a folder that is not empty, text that is empty or not UTF-8, malformed JSONL (with its line)
 */
export async function prepare(options: PrepareOptions): Promise<Prepared> {
  const { outputDirectory, files, validationFraction, shardTokens = DEFAULT_SHARD_TOKENS } = options;
  if (!(shardTokens >= 1 && shardTokens <= MAX_SHARD_TOKENS)) {
    throw new GemmoeError('usage', `a shard of ${shardTokens} tokens cannot be`, `choose 1 to ${MAX_SHARD_TOKENS}`);
  }
  const listed = listTextFiles(files);
  return makeDirectoryAtomic(outputDirectory, async (folder) => {
    const spooled = join(folder, 'input.tmp');
    const input = options.input ? [await spool(options.input, spooled, options.inputFormat ?? 'text')] : [];
    const documents = () => readDocuments([...input, ...listed], { field: options.textField });
    const size = await measureText(documents());
    const tokenizer = await makeTokenizer(options, documents);
    const separator = size.documents > 1 ? tokenizer.endOfText : undefined;
    const split = splitText(documents(), size, validationFraction);
    const train = new SplitWriter(folder, 'train', tokenizer, shardTokens);
    const validation = new SplitWriter(folder, 'val', tokenizer, shardTokens);
    try {
      for await (const part of cutSafely(split, safeCutOf(tokenizer))) {
        (part.held ? validation : train).write(part, separator);
        options.progress?.(train.tokens + validation.tokens);
      }
    } finally {
      train.close();
      validation.close();
    }
    if (train.tokens === 0 || validation.tokens === 0) {
      throw new GemmoeError(
        'bad-data',
        `the text leaves ${train.tokens} tokens to train on and ${validation.tokens} to validate on`,
        'give more text, or another validation fraction',
      );
    }
    const record: Prepared = {
      format: 1,
      vocabSize: tokenizer.vocabSize,
      tokenizerHash: hashOf(tokenizer),
      separator: separator ?? null,
      train: train.record(),
      validation: validation.record(),
    };
    rmSync(spooled, { force: true });
    writeFileSync(join(folder, 'tokenizer.json'), `${JSON.stringify(tokenizer.toJSON(), null, 2)}\n`);
    writeCompanions(folder, tokenizer.companions ?? {});
    writeFileSync(join(folder, PREPARED_FILE), `${JSON.stringify(record, null, 2)}\n`);
    return record;
  });
}

/** Shards of one split. */
class SplitWriter {
  tokens = 0;
  private readonly folder: string;
  private readonly name: string;
  private readonly tokenizer: Tokenizer;
  private readonly shardTokens: number;
  private readonly shards: string[] = [];
  private writer: ShardWriter | undefined;
  private textBytes = 0;
  private documents = 0;

  constructor(folder: string, name: string, tokenizer: Tokenizer, shardTokens: number) {
    this.folder = folder;
    this.name = name;
    this.tokenizer = tokenizer;
    this.shardTokens = shardTokens;
  }

  write({ text, closes }: SplitPart, separator: number | undefined): void {
    this.textBytes += Buffer.byteLength(text);
    for (const id of this.tokenizer.encode(text)) this.push(id);
    if (!closes) return;
    this.documents++;
    if (separator !== undefined) this.push(separator);
  }

  close(): void {
    this.writer?.close();
  }

  record(): Prepared['train'] {
    return { shards: this.shards, tokens: this.tokens, textBytes: this.textBytes, documents: this.documents };
  }

  private push(id: number): void {
    if (!this.writer || this.writer.count >= this.shardTokens) this.openNext();
    this.writer?.push(id);
    this.tokens++;
  }

  private openNext(): void {
    this.writer?.close();
    const name = `${this.name}_${String(this.shards.length + 1).padStart(6, '0')}.bin`;
    this.shards.push(name);
    this.writer = new ShardWriter(join(this.folder, name), this.tokenizer.vocabSize);
  }
}
