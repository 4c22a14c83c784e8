// The tokenizer that a setting names, made from the text where it has to be.

import { GemmoeError } from '../errors.ts';
import { lastSafeCut } from './byte-level.ts';
import { BpeTokenizer, byteTokenizer, END_OF_TEXT } from './bpe-tokenizer.ts';
import { trainBpe, WordCounter } from './bpe-trainer.ts';
import { CharacterSet } from './character-tokenizer.ts';
import { cutSafely, type DocumentPart } from './documents.ts';
import type { Tokenizer } from './tokenizer.ts';
import { loadTokenizer } from './tokenizers.ts';

/** What a tokenizer is made from. */
export interface TokenizerSpec {
  /** `byte`, `character`, `bpe`, or the path of a tokenizer.json. */
  readonly tokenizer: string;
  /** For `bpe`. */
  readonly bpeVocabSize: number;
  /** For `bpe`: pairs rarer than this are not merged; default 2. */
  readonly minFrequency?: number | undefined;
  /** For `bpe`: special tokens beside the end of a document. */
  readonly special?: readonly string[] | undefined;
}

/** Names that say how a tokenizer is made; anything else is a path. */
export const MADE_KINDS: readonly string[] = ['byte', 'character', 'bpe'];

/** Characters of a document that a foreign tokenizer is given at once. */
const LONGEST_WHOLE = 4_000_000;

/** Reads the documents when the kind needs them; one pass, in bounded memory. */
export async function makeTokenizer(
  spec: TokenizerSpec,
  documents: () => AsyncIterable<DocumentPart>,
): Promise<Tokenizer> {
  if (spec.tokenizer === 'byte') return byteTokenizer();
  if (spec.tokenizer === 'character') return characterTokenizer(documents());
  if (spec.tokenizer === 'bpe') return bpeTokenizer(spec, documents());
  return loadTokenizer(spec.tokenizer);
}

/** Where text may be cut into parts that a tokenizer is given one by one. */
export function safeCutOf(tokenizer: Tokenizer): (text: string) => number {
  if (tokenizer.kind === 'bpe') return lastSafeCut;
  // a foreign tokenizer may treat the start of a text in its own way: its documents are kept whole while memory allows
  if (tokenizer.kind === 'file') return (text) => (text.length < LONGEST_WHOLE ? 0 : text.lastIndexOf('\n') + 1);
  return cutBesideEndOfText;
}

/** The end of the text, or where an END_OF_TEXT begins that may go on in the next part. */
function cutBesideEndOfText(text: string): number {
  for (let length = END_OF_TEXT.length - 1; length > 0; length--) {
    if (text.endsWith(END_OF_TEXT.slice(0, length))) return text.length - length;
  }
  return text.length;
}

async function characterTokenizer(documents: AsyncIterable<DocumentPart>): Promise<Tokenizer> {
  const characters = new CharacterSet();
  let count = 0;
  let isChat = false;
  for await (const { text, end, learned } of documents) {
    characters.add(learned === undefined ? text : text.replaceAll(END_OF_TEXT, ''));
    isChat ||= learned !== undefined;
    if (end) count++;
  }
  return characters.tokenizer(count > 1 || isChat);
}

async function bpeTokenizer(spec: TokenizerSpec, documents: AsyncIterable<DocumentPart>): Promise<Tokenizer> {
  const words = new WordCounter();
  for await (const { text, learned } of cutSafely(documents, lastSafeCut)) {
    words.add(learned === undefined ? text : text.replaceAll(END_OF_TEXT, ''));
  }
  const { bpeVocabSize: vocabSize, minFrequency, special = [] } = spec;
  if (new Set(special).size < special.length || special.includes('')) {
    throw new GemmoeError(
      'usage',
      `special tokens ${JSON.stringify(special)} are not distinct names`,
      'name each once',
    );
  }
  const all = [...new Set([END_OF_TEXT, ...special])];
  return new BpeTokenizer(trainBpe(words.counts, { vocabSize, special: all, ...(minFrequency && { minFrequency }) }));
}
