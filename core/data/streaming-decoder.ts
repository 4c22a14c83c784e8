// Text out of ids as they come: what is certain is given out, half a character is held back.

import type { Tokenizer } from './tokenizer.ts';

const REPLACEMENT = '\u{FFFD}';
/** Tokens that are decoded again for context: a decoder may strip what stands at the very start. */
const CONTEXT = 8;
/** A character has four bytes at most: what is still broken behind more tokens stays broken. */
const LONGEST_CHARACTER = 4;

/**
 * Turns a stream of ids into text whose pieces, joined, are the text of all of them. Broken UTF-8 becomes U+FFFD; where it
 * comes through byte tokens of a SentencePiece vocabulary, their number may differ from that of the whole text.
 */
export class StreamingDecoder {
  private readonly tokenizer: Tokenizer;
  /** The newest ids, from a place on where a character begins. */
  private ids: number[];
  /** Characters of their text that have been given out. */
  private given: number;
  /** Tokens since text was last given out. */
  private held = 0;
  /** Counts of `ids` at which all text had been given out. */
  private boundaries: number[];

  /** @param before ids that stand before the stream, usually the prompt */
  constructor(tokenizer: Tokenizer, before: readonly number[] = []) {
    this.tokenizer = tokenizer;
    this.ids = before.slice(characterStart(tokenizer, before));
    const text = tokenizer.decode(this.ids);
    this.given = withoutBroken(text).length;
    this.boundaries = this.given === text.length ? [this.ids.length] : [];
  }

  /** Text that is complete now. */
  push(id: number): string {
    this.ids.push(id);
    this.held++;
    const text = this.tokenizer.decode(this.ids);
    const whole = withoutBroken(text);
    if (whole.length < text.length && this.held < LONGEST_CHARACTER) return this.give(whole);
    // no character is that long: only the last broken one may still become whole
    const piece = this.give(text.endsWith(REPLACEMENT) ? text.slice(0, -1) : text);
    if (this.given === text.length) this.forget();
    return piece;
  }

  /** What was held back, a broken character as U+FFFD. */
  flush(): string {
    return this.give(this.tokenizer.decode(this.ids));
  }

  private give(text: string): string {
    const piece = text.slice(this.given);
    if (piece === '') return '';
    this.given = text.length;
    this.held = 0;
    return piece;
  }

  /** Drops the ids before the last boundary that leaves enough context. */
  private forget(): void {
    const { ids, boundaries } = this;
    this.held = 0;
    boundaries.push(ids.length);
    const start = boundaries.findLast((boundary) => boundary <= ids.length - CONTEXT) ?? 0;
    if (start === 0) return;
    this.ids = ids.slice(start);
    this.boundaries = boundaries.filter((boundary) => boundary > start).map((boundary) => boundary - start);
    this.given = this.tokenizer.decode(this.ids).length;
  }
}

function withoutBroken(text: string): string {
  let end = text.length;
  while (text[end - 1] === REPLACEMENT) end--;
  return text.slice(0, end);
}

/** A place near the end, with context behind it, where no character is cut in two. */
function characterStart(tokenizer: Tokenizer, ids: readonly number[]): number {
  const latest = Math.max(0, ids.length - CONTEXT);
  for (let start = latest; start > Math.max(0, latest - LONGEST_CHARACTER); start--) {
    if (!tokenizer.decode(ids.slice(start)).startsWith(REPLACEMENT)) return start;
  }
  return latest <= LONGEST_CHARACTER ? 0 : latest;
}
