// Byte-level BPE as GPT-2 has it; without merges it is the byte tokenizer.

import { BYTE_CHARACTERS, CHARACTER_BYTES, splitWords } from './byte-level.ts';
import { SpecialTokens } from './special-tokens.ts';
import type { Tokenizer } from './tokenizer.ts';
import { WordMerger } from './word-merger.ts';

/** What a byte-level BPE tokenizer is. */
export interface BpeVocabulary {
  /** Tokens in byte characters, index = id; all bytes and the special tokens are among them. */
  readonly tokens: readonly string[];
  /** Pairs of tokens in order of their rank. */
  readonly merges: readonly (readonly [string, string])[];
  /** Tokens that stand for themselves in text, such as the end of a document. */
  readonly special: readonly string[];
  /** The special token that ends a document; default END_OF_TEXT where it is one of them. */
  readonly endOfText?: string | undefined;
}

/** Name of the token that ends a document. */
export const END_OF_TEXT = '<|endoftext|>';

/** Words whose ids are remembered. */
const CACHE_SIZE = 1 << 16;
/** Longer words are seldom seen twice. */
const CACHED_WORD = 64;

export class BpeTokenizer implements Tokenizer {
  readonly kind: 'byte' | 'bpe';
  readonly vocabSize: number;
  readonly endOfText: number | undefined;
  companions?: Readonly<Record<string, string>> | undefined;
  private readonly vocabulary: BpeVocabulary;
  private readonly special: SpecialTokens;
  /** Id of each byte. */
  private readonly byteIds: readonly number[];
  private readonly merger = new WordMerger();
  private readonly cache = new Map<string, readonly number[]>();
  private readonly bytesOf: readonly Uint8Array[];
  private readonly utf8 = new TextEncoder();

  /** @throws RangeError when a byte, a merge or a special token is not among the tokens */
  constructor(vocabulary: BpeVocabulary) {
    const { tokens, merges, special, endOfText = END_OF_TEXT } = vocabulary;
    const idOf = new Map(tokens.map((token, id) => [token, id]));
    const id = (token: string) => {
      const found = idOf.get(token);
      if (found === undefined) throw new RangeError(`the vocabulary has no token ${JSON.stringify(token)}`);
      return found;
    };
    this.vocabulary = vocabulary;
    this.kind = merges.length === 0 ? 'byte' : 'bpe';
    this.vocabSize = tokens.length;
    this.byteIds = BYTE_CHARACTERS.map(id);
    for (const [rank, [left, right]] of merges.entries()) {
      this.merger.add(id(left), id(right), { rank, id: id(left + right) });
    }
    this.special = new SpecialTokens(new Map(special.map((token) => [token, id(token)])));
    this.endOfText = this.special.ids.get(endOfText);
    this.bytesOf = tokens.map((token) => this.bytesOfToken(token));
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    for (const piece of this.special.split(text)) {
      if (typeof piece === 'number') ids.push(piece);
      else if (this.kind === 'byte') for (const byte of this.utf8.encode(piece)) ids.push(this.byteIds[byte]);
      else for (const word of splitWords(piece)) for (const id of this.encodeWord(word)) ids.push(id);
    }
    return ids;
  }

  decode(ids: readonly number[], options: { readonly specialTokens?: boolean } = {}): string {
    const parts: Uint8Array[] = [];
    for (const id of ids) {
      if (!options.specialTokens && this.special.has(id)) continue;
      const bytes = this.bytesOf[id];
      if (bytes) parts.push(bytes);
    }
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts));
  }

  toJSON(): Record<string, unknown> {
    const { tokens, merges } = this.vocabulary;
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
      added_tokens: this.special.toJSON(),
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

  private encodeWord(word: string): readonly number[] {
    const known = this.cache.get(word);
    if (known) return known;
    const ids = this.merger.merge(Array.from(this.utf8.encode(word), (byte) => this.byteIds[byte]));
    if (word.length > CACHED_WORD) return ids;
    if (this.cache.size >= CACHE_SIZE) this.cache.clear();
    this.cache.set(word, ids);
    return ids;
  }

  /** A token with a character that stands for no byte is plain text. */
  private bytesOfToken(token: string): Uint8Array {
    const bytes = Array.from(token, (character) => CHARACTER_BYTES.get(character) ?? -1);
    return bytes.includes(-1) ? this.utf8.encode(token) : Uint8Array.from(bytes);
  }
}

/** The tokenizer whose ids are the bytes of the text, with an end of document behind them. */
export function byteTokenizer(): BpeTokenizer {
  return new BpeTokenizer({ tokens: [...BYTE_CHARACTERS, END_OF_TEXT], merges: [], special: [END_OF_TEXT] });
}
