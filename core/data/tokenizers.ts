// Tokenizers from files: ours where we know the kind, Hugging Face's library for the rest.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { GemmoeError, messageOf } from '../errors.ts';
import { BpeTokenizer } from './bpe-tokenizer.ts';
import { CharacterTokenizer } from './character-tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The tokenizer of a tokenizer.json, or of the model directory that holds one. @throws GemmoeError naming the file */
export function loadTokenizer(path: string): Tokenizer {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, 'tokenizer.json') : path;
  const json = readJson(file);
  const configFile = join(dirname(file), 'tokenizer_config.json');
  try {
    return tokenizerFromJSON(json, existsSync(configFile) ? readJson(configFile) : {});
  } catch (error) {
    if (error instanceof GemmoeError) throw error;
    throw new GemmoeError('bad-data', `${file} is no tokenizer.json that can be used: ${messageOf(error)}`);
  }
}

/** The tokenizer that the content of a tokenizer.json describes. */
export function tokenizerFromJSON(json: Record<string, unknown>, config: Record<string, unknown> = {}): Tokenizer {
  const file = json as unknown as TokenizerFile;
  if (isPlainBpe(file)) {
    const special = (file.added_tokens ?? []).filter((token) => token.special).map((token) => token.content);
    const tokens = tokensById(file);
    if (file.pre_tokenizer?.type === 'ByteLevel' && (file.pre_tokenizer.use_regex || file.model.merges.length === 0)) {
      const merges = file.model.merges.map((pair) => (typeof pair === 'string' ? pair.split(' ') : pair));
      return new BpeTokenizer({ tokens, merges: merges as [string, string][], special });
    }
    if (file.decoder?.type === 'Fuse' && !file.pre_tokenizer && file.model.merges.length === 0) {
      return new CharacterTokenizer(tokens);
    }
  }
  return new FileTokenizer(json, config);
}

/** The parts of a tokenizer.json that tell its kind. */
interface TokenizerFile {
  readonly added_tokens?: readonly {
    id: number;
    content: string;
    special: boolean;
    normalized?: boolean;
    lstrip?: boolean;
    rstrip?: boolean;
  }[];
  readonly normalizer?: unknown;
  readonly pre_tokenizer?: { type: string; use_regex?: boolean; add_prefix_space?: boolean } | null;
  readonly post_processor?: { type: string } | null;
  readonly decoder?: { type: string } | null;
  readonly model: {
    readonly type: string;
    readonly vocab: Record<string, number>;
    readonly merges: readonly (string | readonly [string, string])[];
    readonly dropout?: number | null;
    readonly unk_token?: string | null;
    readonly byte_fallback?: boolean;
    readonly ignore_merges?: boolean;
    readonly continuing_subword_prefix?: string | null;
    readonly end_of_word_suffix?: string | null;
  };
}

/** BPE with nothing about it that our own implementation does not do. */
function isPlainBpe({ model, normalizer, post_processor, pre_tokenizer, added_tokens }: TokenizerFile): boolean {
  const unusual =
    normalizer ??
    // ByteLevel's changes offsets, not ids
    (post_processor?.type === 'ByteLevel' ? null : post_processor) ??
    (model.dropout || null) ??
    model.unk_token ??
    (model.byte_fallback || null) ??
    (model.ignore_merges || null) ??
    (model.continuing_subword_prefix || null) ??
    (model.end_of_word_suffix || null) ??
    (pre_tokenizer?.add_prefix_space || null);
  const plainAdded = (added_tokens ?? []).every((token) => token.special && !token.lstrip && !token.rstrip);
  return model.type === 'BPE' && unusual === null && plainAdded && isDense(model.vocab, added_tokens);
}

/** Ids run from 0 without holes. */
function isDense(vocab: Record<string, number>, added: TokenizerFile['added_tokens'] = []): boolean {
  const ids = new Set([...Object.values(vocab), ...added.map((token) => token.id)]);
  return Math.max(...ids) === ids.size - 1;
}

function tokensById({ model, added_tokens = [] }: TokenizerFile): string[] {
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token;
  for (const { id, content } of added_tokens) tokens[id] = content;
  return tokens;
}

/** Names that the token which ends a document goes by. */
const END_NAMES = ['eos_token', '<|endoftext|>', '</s>', '<|end_of_text|>'];

/** Any tokenizer.json, through Hugging Face's own library. */
class FileTokenizer implements Tokenizer {
  readonly kind = 'file';
  readonly vocabSize: number;
  readonly endOfText: number | undefined;
  private readonly json: Record<string, unknown>;
  private readonly library: LibraryTokenizer;

  constructor(json: Record<string, unknown>, config: Record<string, unknown>) {
    this.json = json;
    this.library = new LibraryTokenizer(json, config);
    let largest = -1;
    for (const id of this.library.get_vocab(true).values()) largest = Math.max(largest, id);
    this.vocabSize = largest + 1;
    const named = config['eos_token'];
    const content = typeof named === 'object' && named !== null ? (named as { content?: unknown }).content : named;
    const candidates = typeof content === 'string' ? [content, ...END_NAMES] : END_NAMES;
    const found = candidates.find((token) => this.library.token_to_id(token) !== undefined);
    this.endOfText = found === undefined ? undefined : this.library.token_to_id(found);
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

function readJson(path: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new GemmoeError(
      missing ? 'not-found' : 'bad-data',
      missing ? `there is no ${path}` : `${path} is not JSON: ${messageOf(error)}`,
      'name a tokenizer.json, or a folder that holds one',
    );
  }
}
