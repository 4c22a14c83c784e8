// Byte-level BPE as GPT-2 has it; without merges it is the byte tokenizer.

import { BYTE_CHARACTERS, CHARACTER_BYTES, splitWords } from './byte-level.ts';
import type { Tokenizer } from './tokenizer.ts';

/** What a byte-level BPE tokenizer is. */
export interface BpeVocabulary {
  /** Tokens in byte characters, index = id; special tokens included. */
  readonly tokens: readonly string[];
  /** Pairs of tokens in order of their rank. */
  readonly merges: readonly (readonly [string, string])[];
  /** Tokens that stand for themselves in text, such as the end of a document. */
  readonly special: readonly string[];
}

/** Name of the token that ends a document. */
export const END_OF_TEXT = '<|endoftext|>';

/** Words whose ids are remembered. */
const CACHE_SIZE = 1 << 16;
/** Larger than any vocabulary: two ids make one key. */
const PAIR = 2 ** 26;

export class BpeTokenizer implements Tokenizer {
  readonly kind: 'byte' | 'bpe';
  readonly vocabSize: number;
  readonly endOfText: number | undefined;
  private readonly vocabulary: BpeVocabulary;
  private readonly idOf: ReadonlyMap<string, number>;
  private readonly byteIds: Int32Array;
  /** Rank and merged id of a pair. */
  private readonly ranks = new Map<number, { readonly rank: number; readonly id: number }>();
  private readonly specialPattern: RegExp | undefined;
  private readonly specialIds: ReadonlySet<number>;
  private readonly cache = new Map<string, readonly number[]>();
  private readonly bytesOf: readonly Uint8Array[];
  private readonly utf8 = new TextEncoder();

  constructor(vocabulary: BpeVocabulary) {
    const { tokens, merges, special } = vocabulary;
    this.vocabulary = vocabulary;
    this.kind = merges.length === 0 ? 'byte' : 'bpe';
    this.vocabSize = tokens.length;
    this.idOf = new Map(tokens.map((token, id) => [token, id]));
    this.byteIds = Int32Array.from(BYTE_CHARACTERS, (character) => this.idOf.get(character) ?? -1);
    for (const [rank, [left, right]] of merges.entries()) {
      const key = this.id(left) * PAIR + this.id(right);
      if (!this.ranks.has(key)) this.ranks.set(key, { rank, id: this.id(left + right) });
    }
    this.endOfText = special.includes(END_OF_TEXT) ? this.id(END_OF_TEXT) : undefined;
    this.specialIds = new Set(special.map((token) => this.id(token)));
    if (special.length > 0) this.specialPattern = new RegExp(`(${special.map(escapePattern).join('|')})`);
    const isSpecial = new Set(special);
    this.bytesOf = tokens.map((token) =>
      isSpecial.has(token)
        ? this.utf8.encode(token)
        : Uint8Array.from(token, (character) => CHARACTER_BYTES.get(character) ?? 63),
    );
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    const pieces = this.specialPattern ? text.split(this.specialPattern) : [text];
    for (const [i, piece] of pieces.entries()) {
      if (i % 2 === 1) ids.push(this.id(piece));
      else if (this.kind === 'byte') for (const byte of this.utf8.encode(piece)) ids.push(this.byteIds[byte]);
      else for (const word of splitWords(piece)) for (const id of this.encodeWord(word)) ids.push(id);
    }
    return ids;
  }

  decode(ids: readonly number[], options: { readonly specialTokens?: boolean } = {}): string {
    const parts: Uint8Array[] = [];
    for (const id of ids) {
      if (!options.specialTokens && this.specialIds.has(id)) continue;
      const bytes = this.bytesOf[id];
      if (bytes) parts.push(bytes);
    }
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts));
  }

  toJSON(): Record<string, unknown> {
    const { tokens, merges, special } = this.vocabulary;
    const byteLevel = {
      type: 'ByteLevel',
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: this.kind === 'bpe',
    };
    return {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: special.map((content) => ({
        id: this.id(content),
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: { ...byteLevel, add_prefix_space: true, use_regex: true },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges,
      },
    };
  }

  private id(token: string): number {
    const id = this.idOf.get(token);
    if (id === undefined) throw new RangeError(`the vocabulary has no token ${JSON.stringify(token)}`);
    return id;
  }

  /** Ids of one word: the pair of lowest rank is merged until none is left. */
  private encodeWord(word: string): readonly number[] {
    const known = this.cache.get(word);
    if (known) return known;
    const ids = Array.from(this.utf8.encode(word), (byte) => this.byteIds[byte]);
    for (;;) {
      let best: { readonly rank: number; readonly id: number } | undefined;
      let at = -1;
      for (let i = 0; i + 1 < ids.length; i++) {
        const pair = this.ranks.get(ids[i] * PAIR + ids[i + 1]);
        if (pair && (!best || pair.rank < best.rank)) {
          best = pair;
          at = i;
        }
      }
      if (!best) break;
      ids.splice(at, 2, best.id);
    }
    if (this.cache.size >= CACHE_SIZE) this.cache.clear();
    this.cache.set(word, ids);
    return ids;
  }
}

/** The tokenizer whose ids are the bytes of the text, with an end of document behind them. */
export function byteTokenizer(): BpeTokenizer {
  return new BpeTokenizer({ tokens: [...BYTE_CHARACTERS, END_OF_TEXT], merges: [], special: [END_OF_TEXT] });
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
