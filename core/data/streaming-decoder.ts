// Text out of ids as they come: what is certain is given out, half a character is held back.

import type { Tokenizer } from './tokenizer.ts';

const REPLACEMENT = '\u{FFFD}';
/** Tokens that are decoded again for context: a decoder may strip what stands at the very start. */
const CONTEXT = 8;

/** Turns a stream of ids into text whose pieces, joined, are the text of all of them. */
export class StreamingDecoder {
  private readonly tokenizer: Tokenizer;
  private readonly ids: number[];
  /** Ids before this one are settled; those from it on are decoded with each push. */
  private start: number;
  /** Ids up to this one have been given out. */
  private given: number;

  /** @param before ids that stand before the stream, usually the prompt */
  constructor(tokenizer: Tokenizer, before: readonly number[] = []) {
    this.tokenizer = tokenizer;
    this.ids = before.slice(-CONTEXT);
    this.start = 0;
    this.given = this.ids.length;
  }

  /** Text that is complete now. */
  push(id: number): string {
    this.ids.push(id);
    return this.take(false);
  }

  /** What was held back, a broken character as U+FFFD. */
  flush(): string {
    return this.take(true);
  }

  private take(all: boolean): string {
    const settled = this.tokenizer.decode(this.ids.slice(this.start, this.given));
    const text = this.tokenizer.decode(this.ids.slice(this.start));
    if (!all && text.endsWith(REPLACEMENT)) return '';
    this.start = Math.max(this.start, this.given - CONTEXT);
    this.given = this.ids.length;
    return text.slice(commonLength(settled, text));
  }
}

/** A settled prefix may end in a broken character that has become whole; the rest after what is equal is new. */
function commonLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}
