// Documents to tokens in memory.

import { cutSafely, type DocumentPart } from './documents.ts';
import { safeCutOf } from './make-tokenizer.ts';
import { MemorySource, type TokenArray, tokenArray } from './sources.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The tokens of documents, each with `separator` behind it where there is one. */
export async function tokenise(
  documents: AsyncIterable<DocumentPart>,
  tokenizer: Tokenizer,
  separator: number | undefined,
): Promise<MemorySource> {
  const parts: TokenArray[] = [];
  let length = 0;
  let textBytes = 0;
  for await (const { text, end } of cutSafely(documents, safeCutOf(tokenizer))) {
    const ids = tokenizer.encode(text);
    if (end && separator !== undefined) ids.push(separator);
    parts.push(tokenArray(ids, tokenizer.vocabSize));
    length += ids.length;
    textBytes += Buffer.byteLength(text);
  }
  const tokens = tokenArray({ length }, tokenizer.vocabSize);
  let at = 0;
  for (const part of parts) {
    tokens.set(part, at);
    at += part.length;
  }
  return new MemorySource(tokens, textBytes);
}
