// The contract of a tokenizer; byte, character and BPE ones stand beside this file.

/** Text to ids and back. Every tokenizer can be written as a standard tokenizer.json. */
export interface Tokenizer {
  readonly kind: 'byte' | 'character' | 'bpe' | 'file';
  /** One more than the largest id. */
  readonly vocabSize: number;
  /** Id that ends a document, undefined where there is none. */
  readonly endOfText: number | undefined;
  /** Files that stood beside its tokenizer.json, by name: settings and chat templates, which a copy of it takes along. */
  companions?: Readonly<Record<string, string>> | undefined;
  /**
   * Ids of `text`. `specialTokens` (default false) lets the tokenizer put its beginning- or end-of-sequence ids around it,
   * as a prompt wants and a piece of a corpus does not.
   * @throws GemmoeError (bad-data) naming the first character that has no id
   */
  encode(text: string, options?: { readonly specialTokens?: boolean }): number[];
  /** Text of `ids`; special tokens are left out unless asked for. Invalid UTF-8 becomes U+FFFD. */
  decode(ids: readonly number[], options?: { readonly specialTokens?: boolean }): string;
  /** The content of a tokenizer.json that Hugging Face tokenizers loads. */
  toJSON(): Record<string, unknown>;
}
