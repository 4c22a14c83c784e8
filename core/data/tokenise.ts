// Documents to tokens in memory.

import { cutSafely, type DocumentPart } from './documents.ts';
import { safeCutOf } from './make-tokenizer.ts';
import { MemorySource, type TokenArray, tokenArray } from './sources.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The tokens of documents, each with `separator` behind it where there is one; of conversations, only answers are targets. */
export async function tokenise(
  documents: AsyncIterable<DocumentPart>,
  tokenizer: Tokenizer,
  separator: number | undefined,
): Promise<MemorySource> {
  const parts: TokenArray[] = [];
  const unlearned: (readonly [begin: number, end: number])[] = [];
  let isChat = false;
  let length = 0;
  let textBytes = 0;
  for await (const { text, end, learned } of cutSafely(documents, safeCutOf(tokenizer))) {
    const ids = tokenizer.encode(text);
    if (learned === false) unlearned.push([length, length + ids.length]);
    isChat ||= learned !== undefined;
    // a chat template may have written the end itself
    const isEnded = learned !== undefined && ids.at(-1) === separator;
    if (end && separator !== undefined && !isEnded) ids.push(separator);
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
  if (!isChat) return new MemorySource(tokens, textBytes);
  const ignored = new Uint8Array(length);
  for (const [begin, end] of unlearned) ignored.fill(1, begin, end);
  return new MemorySource(tokens, undefined, ignored);
}
