// A corpus of text that is tokenised in memory.

import { statSync } from 'node:fs';
import { GemmoeError } from '../errors.ts';
import { assembleCorpus, type Corpus, type CorpusOptions } from './corpus-parts.ts';
import { characterBoundary, type DocumentPart, readDocuments } from './documents.ts';
import { makeTokenizer } from './make-tokenizer.ts';
import { tokenise } from './tokenise.ts';
import type { Tokenizer } from './tokenizer.ts';

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
  const documents = await readWholeDocuments(files, joined, options.textField);
  const tokenizer = given ?? (await makeTokenizer(options, () => partsOf(documents)));
  const separator = documents.length > 1 || given ? tokenizer.endOfText : undefined;
  const [before, after] = splitDocuments(documents, options.validationFraction);
  const train = await tokenise(partsOf(before), tokenizer, separator);
  const validation = await tokenise(partsOf(after), tokenizer, separator);
  return assembleCorpus(tokenizer, train, validation, separator);
}

/** Text that is taken into memory, at most. */
const MAX_TEXT_BYTES = 2 ** 28;

async function readWholeDocuments(
  files: readonly string[],
  joined: boolean,
  field: string | undefined,
): Promise<string[]> {
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
  for await (const part of readDocuments(files, field)) {
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
