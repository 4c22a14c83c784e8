// Tokenizers from files: ours where we know the kind, Hugging Face's library for the rest.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';
import { BpeTokenizer, END_OF_TEXT } from './bpe-tokenizer.ts';
import { BYTE_CHARACTERS } from './byte-level.ts';
import { readCompanions } from './companions.ts';
import { CharacterTokenizer } from './character-tokenizer.ts';
import { FileTokenizer } from './file-tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The tokenizer of a tokenizer.json, or of the model directory that holds one. @throws GemmoeError naming the file */
export function loadTokenizer(path: string): Tokenizer {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, 'tokenizer.json') : path;
  const json = readJson(file);
  const configFile = join(dirname(file), 'tokenizer_config.json');
  const config = existsSync(configFile) ? readJson(configFile) : {};
  try {
    const tokenizer = tokenizerFromJSON(json, config);
    tokenizer.companions = readCompanions(dirname(file));
    return tokenizer;
  } catch (error) {
    throw new GemmoeError(
      'bad-data',
      `${file} is no tokenizer.json that can be used: ${messageOf(error)}`,
      'name another tokenizer.json',
    );
  }
}

/**
 * The tokenizer that the content of a tokenizer.json describes, and of the tokenizer_config.json beside it.
 * @throws an error of any kind when it describes none
 */
export function tokenizerFromJSON(json: Record<string, unknown>, config: Record<string, unknown> = {}): Tokenizer {
  const file = json as unknown as TokenizerFile;
  const tokens = tokensById(file);
  const endOfText = endOfTextOf(config, tokens);
  if (isPlainBpe(file) && !tokens.includes(undefined)) {
    if (isByteLevel(file)) return bpeTokenizer(file, tokens as string[], endOfText);
    if (isCharacters(file, tokens as string[])) return new CharacterTokenizer(tokens as string[]);
  }
  return new FileTokenizer(json, config, endOfText);
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly single_word?: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

/** The parts of a tokenizer.json that tell its kind. */
interface TokenizerFile {
  readonly added_tokens?: readonly AddedToken[];
  readonly normalizer?: unknown;
  readonly pre_tokenizer?: { type: string; use_regex?: boolean; add_prefix_space?: boolean } | null;
  readonly post_processor?: { type: string } | null;
  readonly decoder?: { type: string } | null;
  readonly model: {
    readonly type: string;
    readonly vocab: Record<string, number> | readonly (readonly [string, number])[];
    readonly merges: readonly (string | readonly [string, string])[];
    readonly dropout?: number | null;
    readonly unk_token?: string | null;
    readonly byte_fallback?: boolean;
    readonly ignore_merges?: boolean;
    readonly continuing_subword_prefix?: string | null;
    readonly end_of_word_suffix?: string | null;
  };
}

/** BPE with nothing about it that our own implementations do not do. */
function isPlainBpe({ model, normalizer, post_processor, added_tokens = [] }: TokenizerFile): boolean {
  const unusual =
    normalizer ||
    // ByteLevel's changes offsets, not ids
    (post_processor && post_processor.type !== 'ByteLevel') ||
    model.dropout ||
    model.unk_token ||
    model.byte_fallback ||
    model.ignore_merges ||
    model.continuing_subword_prefix ||
    model.end_of_word_suffix;
  const plainAdded = added_tokens.every(
    (token) => token.special && !token.lstrip && !token.rstrip && !token.single_word,
  );
  return model.type === 'BPE' && !unusual && plainAdded;
}

/** GPT-2's bytes and splitting; without merges it makes no difference how text is split. */
function isByteLevel({ pre_tokenizer, decoder, model }: TokenizerFile): boolean {
  return (
    pre_tokenizer?.type === 'ByteLevel' &&
    !pre_tokenizer.add_prefix_space &&
    (pre_tokenizer.use_regex !== false || model.merges.length === 0) &&
    decoder?.type === 'ByteLevel' &&
    BYTE_CHARACTERS.every((character) => Object.hasOwn(model.vocab, character))
  );
}

/** Nothing but single characters and the end of a document, as our character tokenizer is written. */
function isCharacters({ pre_tokenizer, decoder, model, added_tokens = [] }: TokenizerFile, tokens: string[]): boolean {
  return (
    !pre_tokenizer &&
    decoder?.type === 'Fuse' &&
    model.merges.length === 0 &&
    added_tokens.every((token) => token.content === END_OF_TEXT) &&
    tokens.every((token) => (token === END_OF_TEXT ? added_tokens.length === 1 : [...token].length === 1))
  );
}

function bpeTokenizer(file: TokenizerFile, tokens: string[], endOfText: string | undefined): BpeTokenizer {
  const merges = file.model.merges.map((pair) => (typeof pair === 'string' ? pair.split(' ') : pair));
  const special = (file.added_tokens ?? []).map((token) => token.content);
  return new BpeTokenizer({ tokens, merges: merges as [string, string][], special, endOfText });
}

/** No vocabulary comes near; a larger id is a fault of the file. */
const MAX_VOCAB_SIZE = 2 ** 24;

/** Tokens by id; undefined where no token has it. */
function tokensById({ model, added_tokens = [] }: TokenizerFile): (string | undefined)[] {
  // a Unigram model lists [token, score] by id
  const vocab = Array.isArray(model.vocab)
    ? model.vocab.map(([token], id) => [token as string, id] as const)
    : Object.entries(model.vocab);
  const entries = [...vocab, ...added_tokens.map(({ content, id }) => [content, id] as const)];
  const size = entries.reduce((largest, [, id]) => Math.max(largest, id), -1) + 1;
  if (!(size <= MAX_VOCAB_SIZE)) throw new RangeError(`an id of ${size - 1} is too large`);
  const tokens: (string | undefined)[] = Array.from({ length: size });
  for (const [token, id] of entries) tokens[id] = token;
  return tokens;
}

/** Names that the token which ends a document goes by where no configuration tells. */
const END_NAMES = [END_OF_TEXT, '</s>', '<|end_of_text|>'];

function endOfTextOf(config: Record<string, unknown>, tokens: readonly (string | undefined)[]): string | undefined {
  const named = config['eos_token'];
  const content = typeof named === 'object' && named !== null ? (named as { content?: unknown }).content : named;
  const candidates = typeof content === 'string' ? [content, ...END_NAMES] : END_NAMES;
  return candidates.find((token) => tokens.includes(token));
}

function readJson(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new GemmoeError(
      missing ? 'not-found' : 'bad-data',
      missing ? `there is no ${path}` : `${path} is not JSON: ${messageOf(error)}`,
      'name a tokenizer.json, or a folder that holds one',
    );
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new GemmoeError(
    'bad-data',
    `${path} holds no JSON object`,
    'name a tokenizer.json, or a folder that holds one',
  );
}
