// A corpus as training sees it: a tokenizer, a training source and a held-out one.

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';
import { byteTokenizer } from './bpe-tokenizer.ts';
import {
  builtinCorpus,
  characterBoundary,
  type DocumentPart,
  isTextFile,
  listTextFiles,
  readDocuments,
} from './documents.ts';
import { makeTokenizer, type TokenizerSpec } from './make-tokenizer.ts';
import { hashOf, PREPARED_FILE, PreparedSchema, sha256 } from './prepared.ts';
import type { TokenSource } from './source.ts';
import { ShardSource, SourceRange } from './sources.ts';
import { tokenise } from './tokenise.ts';
import type { Tokenizer } from './tokenizer.ts';
import { loadTokenizer } from './tokenizers.ts';

/** What is to be opened. */
export interface CorpusOptions extends TokenizerSpec {
  /** Text files, JSONL files and folders of them; or one folder that `prepare` made; or .bin shards. Empty: the built-in text. */
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
  if (options.data.length === 0) return openText(builtinCorpus(), options, true);
  const data = options.data.flatMap((path) => shardsInFolder(path) ?? [path]);
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

/** The shards of a folder that has nothing else to read; undefined for any other path. */
function shardsInFolder(path: string): string[] | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  const names = readdirSync(path).sort();
  const shards = names.filter((name) => extname(name) === '.bin');
  if (shards.length === 0 || names.some((name) => name === PREPARED_FILE || isTextFile(name))) return undefined;
  return shards.map((name) => join(path, name));
}

/** Text in memory: the last part of the characters is held out. `joined` makes one document of all files. */
async function openText(files: readonly string[], options: CorpusOptions, joined: boolean): Promise<Corpus> {
  const documents = await readWholeDocuments(files, joined);
  const tokenizer = await makeTokenizer(options, () => partsOf(documents));
  const separator = documents.length > 1 ? tokenizer.endOfText : undefined;
  const [before, after] = splitDocuments(documents, options.validationFraction);
  const train = await tokenise(partsOf(before), tokenizer, separator);
  const validation = await tokenise(partsOf(after), tokenizer, separator);
  return assemble(tokenizer, train, validation, separator);
}

/** Text that is taken into memory, at most. */
const MAX_TEXT_BYTES = 2 ** 28;

async function readWholeDocuments(files: readonly string[], joined: boolean): Promise<string[]> {
  const bytes = files.reduce((sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0), 0);
  if (bytes > MAX_TEXT_BYTES) {
    throw new GemmoeError(
      'bad-data',
      `${Math.ceil(bytes / 2 ** 20)} MiB of text are too much to tokenise in memory (at most ${MAX_TEXT_BYTES / 2 ** 20})`,
      'make token shards of it once with `gemmoe prepare`, and train on those',
    );
  }
  const documents: string[] = [];
  let text = '';
  for await (const part of readDocuments(files)) {
    text += part.text;
    if (!part.end) continue;
    documents.push(text);
    text = '';
  }
  if (documents.every((document) => document.trim() === '')) {
    const names = files.slice(0, 3).join(', ');
    throw new GemmoeError('bad-data', `there is no text in ${names}`, 'give a file with text in it');
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
    const cut = left < document.length ? characterBoundary(document, left) : document.length;
    if (cut > 0) before.push(document.slice(0, cut));
    if (cut < document.length) after.push(document.slice(cut));
    left = Math.max(0, left - document.length);
  }
  return [before, after];
}

/** Characters that are tokenised at once. */
const PART = 1 << 20;

async function* partsOf(documents: readonly string[]): AsyncGenerator<DocumentPart> {
  for (const document of documents) {
    for (let at = 0; at < document.length;) {
      const next = characterBoundary(document, Math.min(at + PART, document.length));
      yield { text: document.slice(at, next), end: next === document.length };
      at = next;
    }
  }
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
  // the names of kinds say how a tokenizer is made, and here it has been
  const source = ['byte', 'character', 'bpe'].includes(options.tokenizer) ? folder : options.tokenizer;
  const tokenizer = loadTokenizer(source);
  if (hashOf(tokenizer) !== parsed.data.tokenizerHash) {
    throw new GemmoeError(
      'bad-data',
      `${folder} was made with another tokenizer than the one of ${source}`,
      'prepare the data again with this tokenizer',
    );
  }
  const shards = (names: readonly string[]) => names.map((name) => join(folder, basename(name)));
  return assemble(
    tokenizer,
    new ShardSource(shards(train.shards), tokenizer.vocabSize, train.textBytes),
    new ShardSource(shards(validation.shards), tokenizer.vocabSize, validation.textBytes),
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
    const [train, validation] = [rest, held].map((part) => new ShardSource(part, tokenizer.vocabSize));
    return assemble(tokenizer, train, validation, tokenizer.endOfText);
  }
  const all = new ShardSource(paths, tokenizer.vocabSize);
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
