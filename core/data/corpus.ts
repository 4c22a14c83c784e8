// A corpus as training sees it: a tokenizer, a training source and a held-out one.

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';
import { plainRenderer } from './chat-rendering.ts';
import { byteTokenizer } from './bpe-tokenizer.ts';
import { assembleCorpus, type Corpus, type CorpusOptions, mixCorpora } from './corpus-parts.ts';
import { builtinCorpus, isTextFile, listTextFiles, readDocuments } from './documents.ts';
import { MADE_KINDS, makeTokenizer } from './make-tokenizer.ts';
import { hashOf, PREPARED_FILE, PreparedSchema } from './prepared.ts';
import { ShardSource, SourceRange } from './sources.ts';
import { openStream } from './stream-corpus.ts';
import { openText } from './text-corpus.ts';
import type { Tokenizer } from './tokenizer.ts';
import { loadTokenizer } from './tokenizers.ts';

export type { Corpus, CorpusOptions } from './corpus-parts.ts';

/** @throws GemmoeError for data that are missing, empty, not UTF-8, or of mixed kinds without weights */
export async function openCorpus(options: CorpusOptions): Promise<Corpus> {
  const { data, weights = [] } = options;
  if (options.stream) return openStreamed(options);
  if (weights.length === 0) return openSource(options);
  if (weights.length !== data.length) {
    throw new GemmoeError(
      'bad-config',
      `there are ${weights.length} weights for ${data.length} data sources`,
      'give one for each',
    );
  }
  const tokenizer = await sharedTokenizer(options);
  const parts: Corpus[] = [];
  try {
    for (const path of data) parts.push(await openSource({ ...options, data: [path] }, tokenizer));
    return mixCorpora(parts, weights);
  } catch (error) {
    for (const part of parts) part.close();
    throw error;
  }
}

/** Text alone can be streamed, as one source. */
function openStreamed(options: CorpusOptions): Promise<Corpus> {
  const { data, weights = [] } = options;
  const made = data.find((path) => isPrepared(path) || isShard(path) || shardsInFolder(path));
  if (made !== undefined || weights.length > 0) {
    throw new GemmoeError(
      'usage',
      made === undefined
        ? 'a stream is one source, without weights'
        : `${made} holds tokens already, so there is nothing to stream`,
      'leave --stream out: shards are read by window in bounded memory',
    );
  }
  return openStream(data.length === 0 ? builtinCorpus() : listTextFiles(data), options);
}

/** One source; `given` where it shares its tokenizer with others. */
async function openSource(options: CorpusOptions, given?: Tokenizer): Promise<Corpus> {
  if (options.data.length === 0) return openText(builtinCorpus(), options, { joined: true });
  const data = options.data.flatMap((path) => shardsInFolder(path) ?? [path]);
  const prepared = data.filter(isPrepared);
  const shards = data.filter(isShard);
  if (prepared.length === 0 && shards.length === 0) return openText(listTextFiles(data), options, { tokenizer: given });
  if (prepared.length === data.length && data.length === 1) return openPrepared(data[0], options, given);
  if (shards.length === data.length) return openShards(shards, options, given);
  throw new GemmoeError(
    'usage',
    `data of different kinds were named together: ${data.join(', ')}`,
    'name text files and folders, or one folder that `gemmoe prepare` made, or .bin shards; or give each a weight: --data PATH:1',
  );
}

const isPrepared = (path: string): boolean => existsSync(join(path, PREPARED_FILE));
const isShard = (path: string): boolean => extname(path) === '.bin';

/** The tokenizer of all sources: the named one, that of prepared data, or one made of all text. */
async function sharedTokenizer(options: CorpusOptions): Promise<Tokenizer> {
  const { data, tokenizer, textField: field, lossOn = 'answers' } = options;
  const prepared = data.find(isPrepared);
  if (prepared !== undefined && MADE_KINDS.includes(tokenizer)) return loadTokenizer(prepared);
  const text = data.filter((path) => !isPrepared(path) && !isShard(path) && !shardsInFolder(path));
  if (text.length < data.length && MADE_KINDS.includes(tokenizer)) return tokenizerOfShards(options);
  const files = listTextFiles(text);
  return makeTokenizer(options, () => readDocuments(files, { field, chat: plainRenderer(lossOn) }));
}

/** The shards of a folder that has nothing else to read; undefined for any other path. */
function shardsInFolder(path: string): string[] | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  const names = readdirSync(path).sort();
  const shards = names.filter((name) => extname(name) === '.bin');
  if (shards.length === 0 || names.some((name) => name === PREPARED_FILE || isTextFile(name))) return undefined;
  return shards.map((name) => join(path, name));
}

/** A folder that `prepare` made. */
function openPrepared(folder: string, options: CorpusOptions, given?: Tokenizer): Corpus {
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
  const source = MADE_KINDS.includes(options.tokenizer) ? folder : options.tokenizer;
  const tokenizer = given ?? loadTokenizer(source);
  if (hashOf(tokenizer) !== parsed.data.tokenizerHash) {
    throw new GemmoeError(
      'bad-data',
      `${folder} was made with another tokenizer than the one of ${given ? 'the other data' : source}`,
      'prepare the data again with this tokenizer',
    );
  }
  const shards = (names: readonly string[]) => names.map((name) => join(folder, basename(name)));
  return assembleCorpus(
    tokenizer,
    new ShardSource(shards(train.shards), tokenizer.vocabSize, train.textBytes),
    new ShardSource(shards(validation.shards), tokenizer.vocabSize, validation.textBytes),
    separator ?? undefined,
  );
}

/** Bare shards: those with "val" in their name are held out, failing that the last part. */
function openShards(paths: readonly string[], options: CorpusOptions, given?: Tokenizer): Corpus {
  const tokenizer = given ?? tokenizerOfShards(options);
  const held = paths.filter((path) => basename(path).includes('val'));
  const rest = paths.filter((path) => !held.includes(path));
  if (held.length > 0 && rest.length > 0) {
    const [train, validation] = [rest, held].map((part) => new ShardSource(part, tokenizer.vocabSize));
    return assembleCorpus(tokenizer, train, validation, tokenizer.endOfText);
  }
  const all = new ShardSource(paths, tokenizer.vocabSize);
  const cut = Math.floor(all.length * (1 - options.validationFraction));
  const train = new SourceRange(all, 0, cut);
  return assembleCorpus(tokenizer, train, new SourceRange(all, cut, all.length - cut), tokenizer.endOfText);
}

/** @throws GemmoeError for a kind that is made from text */
function tokenizerOfShards(options: CorpusOptions): Tokenizer {
  if (options.tokenizer === 'character' || options.tokenizer === 'bpe') {
    throw new GemmoeError(
      'usage',
      `shards do not say what their ids mean, and a ${options.tokenizer} tokenizer would be made from text`,
      'name the tokenizer.json they were made with: --tokenizer FILE',
    );
  }
  return options.tokenizer === 'byte' ? byteTokenizer() : loadTokenizer(options.tokenizer);
}
