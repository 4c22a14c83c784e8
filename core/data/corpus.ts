// A corpus as training sees it: a tokenizer, a training source and a held-out one.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';
import { byteTokenizer } from './bpe-tokenizer.ts';
import { builtinCorpus, listTextFiles, readDocuments } from './documents.ts';
import { makeTokenizer, type TokenizerSpec } from './make-tokenizer.ts';
import { hashOf, PREPARED_FILE, PreparedSchema, sha256 } from './prepared.ts';
import type { TokenSource } from './source.ts';
import { MemorySource, ShardSource, SourceRange, tokenArray } from './sources.ts';
import type { Tokenizer } from './tokenizer.ts';
import { loadTokenizer } from './tokenizers.ts';

/** What is to be opened. */
export interface CorpusOptions extends TokenizerSpec {
  /** Text files, JSONL files and folders of them; or folders that `prepare` made; or .bin shards. Empty: the built-in text. */
  readonly data: readonly string[];
  /** Last part that is held out, where the data do not say themselves. */
  readonly validationFraction: number;
}

export interface Corpus {
  readonly tokenizer: Tokenizer;
  readonly train: TokenSource;
  readonly validation: TokenSource;
  /** Id that stands between documents; undefined where there is one document. */
  readonly separator: number | undefined;
  /** Hash of tokenizer and tokens: a resumed run must see the same. */
  readonly fingerprint: string;
  close(): void;
}

/** @throws GemmoeError for data that are missing, empty, not UTF-8, or of mixed kinds */
export async function openCorpus(options: CorpusOptions): Promise<Corpus> {
  const { data } = options;
  if (data.length === 0) return openText(builtinCorpus(), options, true);
  const prepared = data.filter((path) => existsSync(join(path, PREPARED_FILE)));
  const shards = data.filter((path) => extname(path) === '.bin');
  if (prepared.length === 0 && shards.length === 0) return openText(listTextFiles(data), options, false);
  if (prepared.length === data.length && data.length === 1) return openPrepared(data[0], options);
  if (shards.length === data.length) return openShards(shards, options);
  throw new GemmoeError(
    'usage',
    `data of different kinds were named together: ${data.join(', ')}`,
    'name text files and folders, or one folder that `gemmoe prepare` made, or .bin shards',
  );
}

/** Text in memory: the last part of the characters is held out. `joined` makes one document of all files. */
async function openText(files: readonly string[], options: CorpusOptions, joined: boolean): Promise<Corpus> {
  const documents = await readWholeDocuments(files, joined);
  const whole = async function* () {
    for (const text of documents) yield { text, end: true };
  };
  const tokenizer = await makeTokenizer(options, whole);
  const separator = documents.length > 1 ? tokenizer.endOfText : undefined;
  const [train, validation] = splitDocuments(documents, options.validationFraction).map((part) =>
    tokenise(part, tokenizer, separator),
  );
  return assemble(tokenizer, train, validation, separator);
}

async function readWholeDocuments(files: readonly string[], joined: boolean): Promise<string[]> {
  const documents: string[] = [];
  let text = '';
  for await (const part of readDocuments(files)) {
    text += part.text;
    if (!part.end) continue;
    documents.push(text);
    text = '';
  }
  if (documents.every((document) => document.trim() === '')) {
    throw new GemmoeError(
      'bad-data',
      `there is no text in ${files.slice(0, 3).join(', ')}`,
      'give a file with text in it',
    );
  }
  return joined ? [documents.join('\n\n')] : documents;
}

/** Documents before and after the cut that leaves the last `fraction` of the characters behind it. */
function splitDocuments(documents: readonly string[], fraction: number): [string[], string[]] {
  const total = documents.reduce((sum, document) => sum + document.length, 0);
  let left = Math.floor(total * (1 - fraction));
  const before: string[] = [];
  const after: string[] = [];
  for (const document of documents) {
    const cut = Math.min(left, document.length);
    if (cut > 0) before.push(document.slice(0, cut));
    if (cut < document.length) after.push(document.slice(cut));
    left -= cut;
  }
  return [before, after];
}

function tokenise(documents: readonly string[], tokenizer: Tokenizer, separator: number | undefined): MemorySource {
  const parts = documents.map((document) => {
    const ids = tokenizer.encode(document);
    if (separator !== undefined) ids.push(separator);
    return tokenArray(ids, tokenizer.vocabSize);
  });
  const tokens = tokenArray({ length: parts.reduce((sum, part) => sum + part.length, 0) }, tokenizer.vocabSize);
  let at = 0;
  for (const part of parts) {
    tokens.set(part, at);
    at += part.length;
  }
  return new MemorySource(
    tokens,
    documents.reduce((sum, document) => sum + Buffer.byteLength(document), 0),
  );
}

/** A folder that `prepare` made. */
function openPrepared(folder: string, options: CorpusOptions): Corpus {
  const path = join(folder, PREPARED_FILE);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new GemmoeError('bad-data', `${path} is not JSON: ${messageOf(error)}`, 'prepare the data again');
  }
  const parsed = PreparedSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new GemmoeError('bad-data', `${path}: ${issue.path.join('.')}: ${issue.message}`, 'prepare the data again');
  }
  const { train, validation, separator } = parsed.data;
  const isFile = existsSync(options.tokenizer) && statSync(options.tokenizer);
  const tokenizer = loadTokenizer(isFile ? options.tokenizer : folder);
  if (hashOf(tokenizer) !== parsed.data.tokenizerHash) {
    throw new GemmoeError(
      'bad-data',
      `${folder} was made with another tokenizer than ${isFile ? options.tokenizer : 'the one in it'}`,
      'prepare the data again with this tokenizer',
    );
  }
  const shards = (names: readonly string[]) => names.map((name) => join(folder, basename(name)));
  return assemble(
    tokenizer,
    new ShardSource(shards(train.shards), train.textBytes),
    new ShardSource(shards(validation.shards), validation.textBytes),
    separator ?? undefined,
  );
}

/** Bare shards: those with "val" in their name are held out, failing that the last part. */
function openShards(paths: readonly string[], options: CorpusOptions): Corpus {
  if (options.tokenizer === 'character' || options.tokenizer === 'bpe') {
    throw new GemmoeError(
      'usage',
      `shards do not say what their ids mean, and a ${options.tokenizer} tokenizer would be made from text`,
      'name the tokenizer.json they were made with: --tokenizer FILE',
    );
  }
  const tokenizer = options.tokenizer === 'byte' ? byteTokenizer() : loadTokenizer(options.tokenizer);
  const held = paths.filter((path) => basename(path).includes('val'));
  const rest = paths.filter((path) => !held.includes(path));
  if (held.length > 0 && rest.length > 0) {
    return assemble(tokenizer, new ShardSource(rest), new ShardSource(held), tokenizer.endOfText);
  }
  const all = new ShardSource(paths);
  const cut = Math.floor(all.length * (1 - options.validationFraction));
  const train = new SourceRange(all, 0, cut);
  return assemble(tokenizer, train, new SourceRange(all, cut, all.length - cut), tokenizer.endOfText);
}

function assemble(
  tokenizer: Tokenizer,
  train: TokenSource,
  validation: TokenSource,
  separator: number | undefined,
): Corpus {
  return {
    tokenizer,
    train,
    validation,
    separator,
    fingerprint: sha256(`${hashOf(tokenizer)} ${train.fingerprint} ${validation.fingerprint}`),
    close() {
      train.close();
      validation.close();
    },
  };
}
