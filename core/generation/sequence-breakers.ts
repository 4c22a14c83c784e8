// What ends a repetition, as line ends and quotation marks do: tokens that hold such a text, and sequences that spell it.

import type { Tokenizer } from '../data/tokenizer.ts';
import { GemmoeError, messageOf } from '../errors.ts';

/** llama.cpp's. */
const USUAL = ['\n', ':', '"', '*'];

/** Breakers of one tokenizer; which tokens break is found out as they appear. */
export class SequenceBreakers {
  private readonly texts: readonly string[];
  private readonly sequences: readonly (readonly number[])[];
  private readonly tokenizer: Tokenizer | undefined;
  private readonly known = new Map<number, boolean>();

  /**
   * @param texts breakers as text; undefined for line end, colon, quotation mark and asterisk where there is a tokenizer
   * @param ids (optional) tokens that break
   * @throws GemmoeError for texts without a tokenizer, or that the tokenizer has no ids for
   */
  constructor(texts: readonly string[] | undefined, ids: readonly number[] = [], tokenizer: Tokenizer | undefined) {
    if (texts && !tokenizer) {
      throw new GemmoeError('usage', 'dry: there is no tokenizer for its breakers', 'give ids: breakerIds=5|6');
    }
    this.tokenizer = tokenizer;
    this.texts = tokenizer ? (texts ?? USUAL) : [];
    for (const id of ids) this.known.set(id, true);
    const spelt = tokenizer && texts ? texts.map((text) => spell(text, tokenizer)) : [];
    this.sequences = spelt.filter(({ length }) => length > 1);
  }

  /** Whether the token ends a repetition by itself. */
  has(id: number): boolean {
    const known = this.known.get(id);
    if (known !== undefined) return known;
    const text = this.tokenizer?.decode([id], { specialTokens: true }) ?? '';
    const breaks = this.texts.some((breaker) => text.includes(breaker));
    this.known.set(id, breaks);
    return breaks;
  }

  /** How many of the newest tokens of ids[start…] come after the newest breaker. */
  unbroken(ids: readonly number[], start: number): number {
    for (let i = ids.length - 1; i >= start; i--) {
      if (this.has(ids[i])) return ids.length - 1 - i;
      const length = this.spelledFrom(ids, i);
      if (length > 0) return ids.length - i - length;
    }
    return ids.length - start;
  }

  /** Length of the longest breaker that ids spell from `at` on; 0 for none. */
  private spelledFrom(ids: readonly number[], at: number): number {
    let longest = 0;
    for (const sequence of this.sequences) {
      if (sequence.length > longest && sequence.every((id, i) => ids[at + i] === id)) longest = sequence.length;
    }
    return longest;
  }
}

function spell(text: string, tokenizer: Tokenizer): number[] {
  try {
    return tokenizer.encode(text);
  } catch (error) {
    throw new GemmoeError(
      'usage',
      `dry: the breaker ${JSON.stringify(text)} is unknown to the tokenizer: ${messageOf(error)}`,
      'leave it out',
      { cause: error },
    );
  }
}
