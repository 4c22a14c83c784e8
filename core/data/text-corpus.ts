// A corpus of text that is tokenised in memory.

import { statSync } from 'node:fs';
import { GemmoeError } from '../errors.ts';
import { addPlainTemplate, chatRenderer, plainRenderer } from './chat-rendering.ts';
import { assembleCorpus, type Corpus, type CorpusOptions } from './corpus-parts.ts';
import { characterBoundary, type DocumentPart, readDocuments, type RowOptions } from './documents.ts';
import { MADE_KINDS, makeTokenizer } from './make-tokenizer.ts';
import { tokenise } from './tokenise.ts';
import type { Tokenizer } from './tokenizer.ts';
import { loadTokenizer } from './tokenizers.ts';

/** How text is opened. */
export interface TextOptions {
  /** Makes one document of all files. */
  readonly joined?: boolean;
  /** Given where other sources share it; every document then has a separator behind it. */
  readonly tokenizer?: Tokenizer | undefined;
}

/** Text in memory: the last part of the characters is held out. */
export async function openText(
  files: readonly string[],
  options: CorpusOptions,
  { joined = false, tokenizer: given }: TextOptions = {},
): Promise<Corpus> {
  const early = given ?? (MADE_KINDS.includes(options.tokenizer) ? undefined : loadTokenizer(options.tokenizer));
  const { lossOn = 'answers', textField: field } = options;
  const chat = early ? chatRenderer(early, lossOn) : plainRenderer(lossOn);
  const documents = await readWholeDocuments(files, joined, { field, chat });
  const tokenizer = early ?? (await makeTokenizer(options, () => partsOf(documents)));
  if (documents.some(isConversation)) addPlainTemplate(tokenizer);
  const separator = documents.length > 1 || given ? tokenizer.endOfText : undefined;
  const [before, after] = splitDocuments(documents, options.validationFraction);
  const train = await tokenise(partsOf(before), tokenizer, separator);
  const validation = await tokenise(partsOf(after), tokenizer, separator);
  return assembleCorpus(tokenizer, train, validation, separator);
}

/** A document in memory: plain text is one part. */
type WholeDocument = readonly DocumentPart[];

const isConversation = ([{ learned }]: WholeDocument): boolean => learned !== undefined;
const lengthOf = (document: WholeDocument): number => document.reduce((sum, { text }) => sum + text.length, 0);

/** Text that is taken into memory, at most. */
const MAX_TEXT_BYTES = 2 ** 28;

async function readWholeDocuments(
  files: readonly string[],
  joined: boolean,
  options: RowOptions,
): Promise<WholeDocument[]> {
  const bytes = files.reduce((sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0), 0);
  if (bytes > MAX_TEXT_BYTES) {
    throw new GemmoeError(
      'bad-data',
      `${Math.ceil(bytes / 2 ** 20)} MiB of text are too much to tokenise in memory (at most ${MAX_TEXT_BYTES / 2 ** 20})`,
      'tokenise it while training runs with --stream, or make token shards of it once with `gemmoe prepare`',
    );
  }
  const documents: WholeDocument[] = [];
  let parts: DocumentPart[] = [];
  for await (const part of readDocuments(files, options)) {
    parts.push(part);
    if (!part.end) continue;
    documents.push(isConversation(parts) ? parts : [{ text: parts.map(({ text }) => text).join(''), end: true }]);
    parts = [];
  }
  if (documents.every((document) => document.every(({ text }) => text.trim() === ''))) {
    const names = files.slice(0, 3).join(', ');
    throw new GemmoeError('bad-data', `there is no text in ${names}`, 'give a file with text in it');
  }
  return joined ? [[{ text: documents.map(([{ text }]) => text).join('\n\n'), end: true }]] : documents;
}

/**
 * Documents before and after the cut that leaves the last `fraction` of the characters behind it; a conversation that it falls
 * into stays whole, behind it unless it is the first.
 */
function splitDocuments(documents: readonly WholeDocument[], fraction: number): [WholeDocument[], WholeDocument[]] {
  const total = documents.reduce((sum, document) => sum + lengthOf(document), 0);
  let left = Math.floor(total * (1 - fraction));
  const before: WholeDocument[] = [];
  const after: WholeDocument[] = [];
  for (const document of documents) {
    const length = lengthOf(document);
    if (isConversation(document)) (left > 0 && (before.length === 0 || left >= length) ? before : after).push(document);
    else {
      const [{ text }] = document;
      const cut = left < length ? characterBoundary(text, left) : length;
      if (cut > 0) before.push([{ text: text.slice(0, cut), end: true }]);
      if (cut < length) after.push([{ text: text.slice(cut), end: true }]);
    }
    left = Math.max(0, left - length);
  }
  return [before, after];
}

/** Characters that are tokenised at once. */
const PART = 1 << 20;

async function* partsOf(documents: readonly WholeDocument[]): AsyncGenerator<DocumentPart> {
  for (const document of documents) {
    if (isConversation(document)) yield* document;
    else yield* cutInParts(document[0].text);
  }
}

function* cutInParts(text: string): Generator<DocumentPart> {
  for (let at = 0; at < text.length;) {
    const next = characterBoundary(text, Math.min(at + PART, text.length));
    yield { text: text.slice(at, next), end: next === text.length };
    at = next;
  }
}
