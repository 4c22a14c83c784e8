// A tokenizer.json as GGUF metadata: its kind, its tokens by id, and its special tokens.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../../errors.ts';
import { findChatTemplate } from '../../generation/chat-template.ts';
import type { RawConfig } from '../families/family.ts';
import { readJsonObject } from '../json-files.ts';
import { type PreTokenizer, preTokenizerName } from './pre-tokenizers.ts';
import { bool, floats, integers, type Metadata, strings, text, u32 } from './types.ts';

/** llama.cpp's types of tokens. */
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
}

type Step = { readonly type: string; readonly [key: string]: unknown };

/** The parts of a tokenizer.json that are read here. */
interface TokenizerFile {
  readonly added_tokens?: readonly AddedToken[];
  readonly normalizer?: Step | null;
  readonly pre_tokenizer?: PreTokenizer | null;
  readonly post_processor?: Step | null;
  readonly decoder?: Step | null;
  readonly model: {
    readonly type?: string;
    readonly vocab: Readonly<Record<string, number>> | readonly (readonly [string, number])[];
    readonly merges?: readonly (string | readonly [string, string])[];
    readonly unk_token?: string | null;
    readonly unk_id?: number | null;
    readonly byte_fallback?: boolean;
    readonly ignore_merges?: boolean;
  };
}

/** A tokenizer and what stands beside it. */
interface Vocabulary {
  readonly path: string;
  readonly file: TokenizerFile;
  /** tokenizer_config.json. */
  readonly settings: RawConfig;
  /** Tokens by id, filled up to the model's rows. */
  readonly tokens: string[];
  readonly types: number[];
}

/**
 * Adds the tokenizer of `directory` to the metadata; without tokenizer.json, that there is none.
 * @param vocabSize rows of the embedding table; ids beyond the tokenizer's become unused tokens
 * @returns what llama.cpp will do otherwise, in sentences
 * @throws GemmoeError for kinds and rules that llama.cpp does not have
 */
export function addVocabulary(metadata: Metadata, directory: string, config: RawConfig, vocabSize: number): string[] {
  const path = join(directory, 'tokenizer.json');
  if (!existsSync(path)) {
    metadata.set('tokenizer.ggml.model', text('none'));
    return ['there is no tokenizer.json: the file takes and gives ids, and programs that want text refuse it'];
  }
  const file = readJsonObject(path) as unknown as TokenizerFile;
  const settingsPath = join(directory, 'tokenizer_config.json');
  const settings = existsSync(settingsPath) ? readJsonObject(settingsPath) : {};
  const vocabulary = readVocabulary(path, file, settings, vocabSize);
  const notes = addKind(metadata, vocabulary);
  metadata.set('tokenizer.ggml.token_type', integers(vocabulary.types));
  addSpecialTokens(metadata, vocabulary, config);
  const template = findChatTemplate(directory);
  if (template) metadata.set('tokenizer.chat_template', text(template.text));
  return notes;
}

function readVocabulary(path: string, file: TokenizerFile, settings: RawConfig, vocabSize: number): Vocabulary {
  const { model, added_tokens: added = [] } = file;
  const entries = Array.isArray(model.vocab)
    ? model.vocab.map(([token], id) => [token as string, id] as const)
    : Object.entries(model.vocab as Record<string, number>);
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = Array.from({ length: vocabSize }, (): number => TYPE.unused);
  for (const [token, id] of [...entries, ...added.map(({ content, id }) => [content, id] as const)]) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw new GemmoeError(
        'bad-data',
        `${path}: token ${JSON.stringify(token)} has id ${id}, but the model has ${vocabSize} rows`,
        'use the tokenizer.json that belongs to the model',
      );
    }
    tokens[id] = token;
    types[id] = model.byte_fallback && /^<0x[0-9A-F]{2}>$/.test(token) ? TYPE.byte : TYPE.normal;
  }
  for (const { id, special } of added) types[id] = special ? TYPE.control : TYPE.userDefined;
  const unknown = model.unk_id ?? tokens.indexOf(model.unk_token ?? '');
  if (unknown >= 0) types[unknown] = TYPE.unknown;
  return { path, file, settings, tokens, types };
}

/** The keys that depend on the kind of tokenizer. */
function addKind(metadata: Metadata, vocabulary: Vocabulary): string[] {
  const { file, path } = vocabulary;
  const type = file.model.type ?? 'BPE';
  if (type === 'Unigram') return addUnigram(metadata, vocabulary);
  if (type === 'BPE' && file.decoder?.type === 'ByteLevel') return addByteLevel(metadata, vocabulary);
  if (type === 'BPE' && file.model.byte_fallback) return addSentencePiece(metadata, vocabulary);
  const isCharacters = file.decoder?.type === 'Fuse' && !file.pre_tokenizer && file.model.merges?.length === 0;
  if (type === 'BPE' && isCharacters) return addCharacters(metadata, vocabulary);
  throw new GemmoeError(
    'unavailable',
    `${path}: a tokenizer of type ${type} with decoder ${file.decoder?.type ?? 'none'} is none that llama.cpp has`,
    'byte-level BPE, BPE with byte fallback, Unigram and characters can be written; without tokenizer.json the model is written for ids alone',
  );
}

/** GPT-2's kind. */
function addByteLevel(metadata: Metadata, { file, settings, tokens }: Vocabulary): string[] {
  const merges = (file.model.merges ?? []).map((pair) => (typeof pair === 'string' ? pair : pair.join(' ')));
  const habits = {
    ignoreMerges: file.model.ignore_merges === true,
    // older transformers cleaned unless told otherwise
    cleansSpaces: settings['clean_up_tokenization_spaces'] === true,
  };
  // without merges it makes no difference how text is cut
  const name = merges.length === 0 ? 'trillion' : preTokenizerName(file.pre_tokenizer, habits);
  metadata.set('tokenizer.ggml.model', text('gpt2'));
  metadata.set('tokenizer.ggml.pre', text(name));
  metadata.set('tokenizer.ggml.tokens', strings(tokens));
  metadata.set('tokenizer.ggml.merges', strings(merges));
  return [];
}

/**
 * SentencePiece's BPE, which llama.cpp computes from scores: the pair of pieces with the best-scored whole is joined first, so
 * a token's score is the rank of the first merge that makes it.
 */
function addSentencePiece(metadata: Metadata, { file, tokens }: Vocabulary): string[] {
  const merges = file.model.merges ?? [];
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  // what no merge makes is joined last, if ever
  const scores = tokens.map(() => -merges.length - 1);
  const isScored = new Set<number>();
  for (const [rank, pair] of merges.entries()) {
    const id = idOf.get(typeof pair === 'string' ? pair.replace(' ', '') : pair.join(''));
    if (id === undefined || isScored.has(id)) continue;
    isScored.add(id);
    scores[id] = 0 - rank;
  }
  metadata.set('tokenizer.ggml.model', text('llama'));
  metadata.set('tokenizer.ggml.pre', text('default'));
  metadata.set('tokenizer.ggml.tokens', strings(tokens));
  metadata.set('tokenizer.ggml.scores', floats(scores));
  metadata.set('tokenizer.ggml.add_space_prefix', bool(prependsSpace(file)));
  return [];
}

/** SentencePiece's Unigram: the scores are log probabilities. */
function addUnigram(metadata: Metadata, { file, tokens }: Vocabulary): string[] {
  const pieces = file.model.vocab as readonly (readonly [string, number])[];
  const lowest = pieces.reduce((least, [, score]) => Math.min(least, score), 0);
  metadata.set('tokenizer.ggml.model', text('t5'));
  metadata.set('tokenizer.ggml.pre', text('default'));
  metadata.set('tokenizer.ggml.tokens', strings(tokens));
  metadata.set('tokenizer.ggml.scores', floats(tokens.map((_, id) => pieces[id]?.[1] ?? lowest)));
  metadata.set('tokenizer.ggml.add_space_prefix', bool(prependsSpace(file)));
  metadata.set('tokenizer.ggml.remove_extra_whitespaces', bool(false));
  const notes = file.model.byte_fallback
    ? ['llama.cpp has no byte fallback for Unigram: characters without a token become the unknown token']
    : [];
  const isPlain = stepsOf(file.normalizer, 'normalizers').every(({ type }) => ['Replace', 'Prepend'].includes(type));
  return isPlain ? notes : [...notes, 'the normalizer is not carried over: llama.cpp reads text as it is'];
}

/**
 * One token a character, in a vocabulary of RWKV's kind: the longest token that fits is taken, which is that character. Unlike
 * llama.cpp's BPE it can do without a token that ends the text.
 */
function addCharacters(metadata: Metadata, { tokens }: Vocabulary): string[] {
  metadata.set('tokenizer.ggml.model', text('rwkv'));
  metadata.set('tokenizer.ggml.tokens', strings(tokens.map(escaped)));
  // what has no token would otherwise be an id that no model has
  const stand = Math.max(0, tokens.indexOf(' '));
  metadata.set('tokenizer.ggml.unknown_token_id', u32(stand));
  return [`characters without a token become ${JSON.stringify(tokens[stand])} in llama.cpp, where gemmoe refuses them`];
}

/** A token as llama.cpp unescapes those of RWKV. */
function escaped(token: string): string {
  const names: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
  return token.replace(/[\\\n\r\t]/g, (character) => names[character]);
}

function prependsSpace({ normalizer, pre_tokenizer }: TokenizerFile): boolean {
  const steps = [
    ...stepsOf(normalizer, 'normalizers'),
    ...stepsOf(pre_tokenizer as unknown as Step | null, 'pretokenizers'),
  ];
  return steps.some(
    ({ type, prepend_scheme: scheme, add_prefix_space: adds }) =>
      type === 'Prepend' || (type === 'Metaspace' && (scheme === undefined ? adds !== false : scheme !== 'never')),
  );
}

function stepsOf(step: Step | null | undefined, key: string): readonly Step[] {
  if (!step) return [];
  return step.type === 'Sequence' ? ((step[key] ?? []) as readonly Step[]) : [step];
}

// ---------------------------------------------------------------- special tokens

function addSpecialTokens(metadata: Metadata, vocabulary: Vocabulary, config: RawConfig): void {
  const { file, settings, tokens, path } = vocabulary;
  const ends = endIds(vocabulary, config);
  const begin = specialId(vocabulary, config, 'bos');
  const isCharacters = file.decoder?.type === 'Fuse' && !file.pre_tokenizer;
  if (ends.length === 0 && !isCharacters) {
    throw new GemmoeError(
      'bad-data',
      `${path}: no token ends a text, and llama.cpp would take number 11, ${JSON.stringify(tokens[11])}`,
      'name one: "eos_token" in tokenizer_config.json',
    );
  }
  // llama.cpp's own default for a missing beginning is no better than its default for the end
  const start = begin ?? ends.at(0);
  if (start !== undefined) metadata.set('tokenizer.ggml.bos_token_id', u32(start));
  if (ends.length > 0) metadata.set('tokenizer.ggml.eos_token_id', u32(ends[0]));
  if (ends.length > 1) metadata.set('tokenizer.ggml.eot_token_id', u32(ends[1]));
  const unknown = vocabulary.types.indexOf(TYPE.unknown);
  if (unknown >= 0) metadata.set('tokenizer.ggml.unknown_token_id', u32(unknown));
  const padding = specialId(vocabulary, config, 'pad');
  if (padding !== undefined) metadata.set('tokenizer.ggml.padding_token_id', u32(padding));
  const around = tokensAround(file);
  metadata.set('tokenizer.ggml.add_bos_token', bool(around ? around.before : settings['add_bos_token'] === true));
  metadata.set('tokenizer.ggml.add_eos_token', bool(around ? around.behind : settings['add_eos_token'] === true));
}

/** Names that the token which ends a text goes by where no configuration tells. */
const END_NAMES = ['<|endoftext|>', '</s>', '<|end_of_text|>'];

function endIds(vocabulary: Vocabulary, config: RawConfig): number[] {
  const fromConfig = [config['eos_token_id']].flat().filter((id): id is number => isId(id, vocabulary));
  const named = namedToken(vocabulary, 'eos_token');
  const known = END_NAMES.map((name) => vocabulary.tokens.indexOf(name)).find((id) => id >= 0);
  const ids = [...(named === undefined ? [] : [named]), ...fromConfig];
  return [...new Set(ids.length > 0 || known === undefined ? ids : [known])];
}

function specialId(vocabulary: Vocabulary, config: RawConfig, kind: 'bos' | 'pad'): number | undefined {
  const id = config[`${kind}_token_id`];
  return namedToken(vocabulary, `${kind}_token`) ?? (isId(id, vocabulary) ? id : undefined);
}

function isId(value: unknown, { tokens, types }: Vocabulary): value is number {
  return Number.isInteger(value) && (value as number) < tokens.length && types[value as number] !== TYPE.unused;
}

/** Id of the token that tokenizer_config.json names, as text or as an object. */
function namedToken({ settings, tokens }: Vocabulary, key: string): number | undefined {
  const named = settings[key];
  const content = typeof named === 'object' && named !== null ? (named as { content?: unknown }).content : named;
  const id = typeof content === 'string' ? tokens.indexOf(content) : -1;
  return id < 0 ? undefined : id;
}

/** Whether the template of the post-processor puts a special token before and behind the text; undefined without one. */
function tokensAround({ post_processor }: TokenizerFile): { before: boolean; behind: boolean } | undefined {
  const template = stepsOf(post_processor, 'processors').find(({ type }) => type === 'TemplateProcessing');
  if (!template) return undefined;
  const parts = (template['single'] ?? []) as readonly Record<string, unknown>[];
  return { before: 'SpecialToken' in (parts[0] ?? {}), behind: 'SpecialToken' in (parts.at(-1) ?? {}) };
}
