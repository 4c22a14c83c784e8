// One id for each character (code point) of the training text.

import { GemmoeError } from '../errors.ts';
import { END_OF_TEXT } from './bpe-tokenizer.ts';
import { SpecialTokens } from './special-tokens.ts';
import type { Tokenizer } from './tokenizer.ts';

export class CharacterTokenizer implements Tokenizer {
  readonly kind = 'character';
  readonly vocabSize: number;
  readonly endOfText: number | undefined;
  companions?: Readonly<Record<string, string>> | undefined;
  private readonly tokens: readonly string[];
  private readonly idOf: ReadonlyMap<string, number>;
  private readonly special: SpecialTokens;

  /** @param tokens characters by id; END_OF_TEXT may stand among them */
  constructor(tokens: readonly string[]) {
    this.tokens = tokens;
    this.vocabSize = tokens.length;
    this.idOf = new Map(tokens.map((token, id) => [token, id]));
    this.endOfText = this.idOf.get(END_OF_TEXT);
    this.special = new SpecialTokens(new Map(this.endOfText === undefined ? [] : [[END_OF_TEXT, this.endOfText]]));
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    for (const piece of this.special.split(text)) {
      if (typeof piece === 'number') ids.push(piece);
      else for (const character of piece) ids.push(this.idOf.get(character) ?? this.refuse(character));
    }
    return ids;
  }

  decode(ids: readonly number[], options: { readonly specialTokens?: boolean } = {}): string {
    let text = '';
    for (const id of ids) if (options.specialTokens || !this.special.has(id)) text += this.tokens[id] ?? '';
    return text;
  }

  /** BPE without merges: its tokens are single characters, joined without spaces. */
  toJSON(): Record<string, unknown> {
    return {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: this.special.toJSON(),
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: 'Fuse' },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(this.tokens.map((token, id) => [token, id])),
        merges: [],
      },
    };
  }

  private refuse(character: string): never {
    const code = (character.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, '0');
    throw new GemmoeError(
      'bad-data',
      `the character ${JSON.stringify(character)} (U+${code}) is not among the ${this.vocabSize} that the tokenizer knows`,
      'leave it out, or use the byte or bpe tokenizer, which know every text',
    );
  }
}

/** The characters of texts, by code point. */
export class CharacterSet {
  private readonly points = new Set<number>();

  add(text: string): void {
    for (const character of text) this.points.add(character.codePointAt(0) as number);
  }

  /** A tokenizer of them, with an end of document where documents are to be told apart. */
  tokenizer(withEndOfText: boolean): CharacterTokenizer {
    const characters = [...this.points].sort((a, b) => a - b).map((point) => String.fromCodePoint(point));
    return new CharacterTokenizer(withEndOfText ? [...characters, END_OF_TEXT] : characters);
  }
}
