// Which part of a text is held out, found in a stream of documents.

import { createHash } from 'node:crypto';
import { GemmoeError } from '../errors.ts';
import { characterBoundary, type DocumentPart } from './documents.ts';

/** A part of a document that is all for one split; `end` ends a run of one split, `closes` the document. */
export interface SplitPart extends DocumentPart {
  readonly held: boolean;
  readonly closes: boolean;
}

/** How much text there is. */
export interface TextSize {
  readonly documents: number;
  readonly characters: number;
}

/** When fewer documents than this would be held out, they are too few to choose from: the last part of the text is. */
const MANY_DOCUMENTS = 10;

/** Counts, reading everything once. @throws GemmoeError when there is nothing */
export async function measureText(documents: AsyncIterable<DocumentPart>): Promise<TextSize> {
  let count = 0;
  let characters = 0;
  for await (const { text, end } of documents) {
    characters += text.length;
    if (end) count++;
  }
  if (characters === 0) throw new GemmoeError('bad-data', 'there is no text in the input', 'give text to prepare');
  return { documents: count, characters };
}

/** Holds out a share of the documents by a hash of their text, or of the characters when there are few documents. */
export function splitText(
  documents: AsyncIterable<DocumentPart>,
  size: TextSize,
  fraction: number,
): AsyncGenerator<SplitPart> {
  if (size.documents * fraction >= MANY_DOCUMENTS) return splitByHash(documents, fraction);
  return splitByPosition(documents, Math.floor(size.characters * (1 - fraction)));
}

/** A document is held out when a hash of its beginning says so: it stays in its split when others come or go. */
async function* splitByHash(documents: AsyncIterable<DocumentPart>, fraction: number): AsyncGenerator<SplitPart> {
  let held: boolean | undefined;
  for await (const part of documents) {
    held ??= createHash('sha256').update(part.text).digest().readUInt32LE() / 2 ** 32 < fraction;
    yield { ...part, held, closes: part.end };
    if (part.end) held = undefined;
  }
}

/** The characters from `cut` on are held out, with the whole of a conversation that begins before it left in training. */
async function* splitByPosition(documents: AsyncIterable<DocumentPart>, cut: number): AsyncGenerator<SplitPart> {
  let at = 0;
  let chatHeld: boolean | undefined;
  for await (const part of documents) {
    const { text, end } = part;
    if (part.learned !== undefined) {
      chatHeld ??= at >= cut;
      yield { ...part, held: chatHeld, closes: end };
      if (end) chatHeld = undefined;
    } else {
      const before = cut - at < text.length ? characterBoundary(text, Math.max(0, cut - at)) : text.length;
      const reaches = at + text.length >= cut;
      const isAllBefore = before === text.length;
      if (before > 0) {
        yield { text: text.slice(0, before), end: reaches || end, held: false, closes: end && isAllBefore };
      }
      if (!isAllBefore) yield { text: text.slice(before), end, held: true, closes: end };
    }
    at += text.length;
  }
}
