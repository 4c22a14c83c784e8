// Any tokenizer.json, through Hugging Face's own library.

import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import type { Tokenizer } from './tokenizer.ts';

export class FileTokenizer implements Tokenizer {
  readonly kind = 'file';
  readonly vocabSize: number;
  readonly endOfText: number | undefined;
  companions?: Readonly<Record<string, string>> | undefined;
  private readonly json: Record<string, unknown>;
  private readonly library: LibraryTokenizer;

  /**
   * @param config content of tokenizer_config.json, or nothing
   * @param endOfText text of the token that ends a document
   */
  constructor(json: Record<string, unknown>, config: Record<string, unknown>, endOfText: string | undefined) {
    this.json = json;
    this.library = new LibraryTokenizer(json, config);
    let largest = -1;
    for (const id of this.library.get_vocab(true).values()) largest = Math.max(largest, id);
    this.vocabSize = largest + 1;
    this.endOfText = endOfText === undefined ? undefined : this.library.token_to_id(endOfText);
  }

  encode(text: string, options: { readonly specialTokens?: boolean } = {}): number[] {
    return [...this.library.encode(text, { add_special_tokens: options.specialTokens ?? false }).ids];
  }

  decode(ids: readonly number[], options: { readonly specialTokens?: boolean } = {}): string {
    if (ids.length === 0) return '';
    return this.library.decode([...ids], {
      skip_special_tokens: !options.specialTokens,
      clean_up_tokenization_spaces: false,
    });
  }

  toJSON(): Record<string, unknown> {
    return this.json;
  }
}
