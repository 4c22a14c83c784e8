// Training of byte-level BPE (Sennrich et al. 2016): the most frequent pair of neighbours becomes a token, again and again.
// Same merges and ids as Hugging Face tokenizers: special tokens first, then the 256 byte characters by code point, then the
// merges; of equally frequent pairs, the one with the lower ids.

import { GemmoeError } from '../errors.ts';
import { BYTE_CHARACTERS, splitWords } from './byte-level.ts';
import type { BpeVocabulary } from './bpe-tokenizer.ts';
import { Heap } from './heap.ts';

export interface BpeTrainingOptions {
  readonly vocabSize: number;
  /** Pairs rarer than this are not merged; default 2. */
  readonly minFrequency?: number;
  readonly special?: readonly string[];
}

/** Counts words of text that comes in parts, each of which ends where a word does. */
export class WordCounter {
  readonly counts = new Map<string, number>();

  add(text: string): void {
    for (const word of splitWords(text)) this.counts.set(word, (this.counts.get(word) ?? 0) + 1);
  }
}

/** A word as ids, and how often it stands in the text. */
interface Word {
  ids: number[];
  readonly count: number;
}

/** The vocabulary and merges of counted words. @throws GemmoeError when the vocabulary cannot hold the bytes */
export function trainBpe(words: ReadonlyMap<string, number>, options: BpeTrainingOptions): BpeVocabulary {
  const { vocabSize, minFrequency = 2, special = [] } = options;
  const tokens = [...special, ...[...BYTE_CHARACTERS].sort()];
  if (vocabSize < tokens.length) {
    throw new GemmoeError(
      'usage',
      `a vocabulary of ${vocabSize} cannot hold the 256 bytes and ${special.length} special tokens`,
      `ask for at least ${tokens.length}`,
    );
  }
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const pairs = new PairTable(wordsAsIds(words, idOf));
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const pair = pairs.mostFrequent(minFrequency);
    if (!pair) break;
    const merged = tokens[pair.left] + tokens[pair.right];
    let id = idOf.get(merged);
    if (id === undefined) {
      id = tokens.push(merged) - 1;
      idOf.set(merged, id);
    }
    merges.push([tokens[pair.left], tokens[pair.right]]);
    pairs.merge(pair.left, pair.right, id);
  }
  return { tokens, merges, special };
}

function wordsAsIds(words: ReadonlyMap<string, number>, idOf: ReadonlyMap<string, number>): Word[] {
  const utf8 = new TextEncoder();
  const byteIds = BYTE_CHARACTERS.map((character) => idOf.get(character) as number);
  return [...words].map(([word, count]) => ({ ids: Array.from(utf8.encode(word), (byte) => byteIds[byte]), count }));
}

/** Two ids in one number. */
const PAIR = 2 ** 26;

interface HeapEntry {
  readonly count: number;
  readonly key: number;
}

/** How often each pair of neighbours occurs, and in which words; the most frequent one is at hand. */
class PairTable {
  private readonly words: readonly Word[];
  private readonly counts = new Map<number, number>();
  private readonly places = new Map<number, Set<number>>();
  /** An entry whose count is no longer true is put back with the true one when it surfaces. */
  private readonly heap = new Heap<HeapEntry>((a, b) => a.count > b.count || (a.count === b.count && a.key < b.key));

  constructor(words: readonly Word[]) {
    this.words = words;
    for (let i = 0; i < words.length; i++) this.count(i, 1);
    for (const key of this.counts.keys()) this.push(key);
  }

  mostFrequent(minFrequency: number): { left: number; right: number } | undefined {
    for (let entry = this.heap.pop(); entry; entry = this.heap.pop()) {
      const count = this.counts.get(entry.key) ?? 0;
      if (count !== entry.count) {
        if (count > 0) this.push(entry.key);
        continue;
      }
      if (count < minFrequency) return undefined;
      return { left: Math.floor(entry.key / PAIR), right: entry.key % PAIR };
    }
    return undefined;
  }

  /** Replaces the pair by `id` in every word. */
  merge(left: number, right: number, id: number): void {
    const key = left * PAIR + right;
    const touched = new Set<number>();
    for (const place of this.places.get(key) ?? []) {
      this.count(place, -1);
      const word = this.words[place];
      word.ids = mergeIn(word.ids, left, right, id);
      this.count(place, 1, touched);
    }
    this.places.delete(key);
    this.counts.delete(key);
    for (const changed of touched) this.push(changed);
  }

  /** Adds the pairs of a word, or takes them away. */
  private count(place: number, sign: 1 | -1, touched?: Set<number>): void {
    const { ids, count } = this.words[place];
    for (let i = 0; i + 1 < ids.length; i++) {
      const key = ids[i] * PAIR + ids[i + 1];
      this.counts.set(key, (this.counts.get(key) ?? 0) + sign * count);
      if (sign < 0) continue;
      let places = this.places.get(key);
      if (!places) this.places.set(key, (places = new Set()));
      places.add(place);
      touched?.add(key);
    }
  }

  private push(key: number): void {
    this.heap.push({ count: this.counts.get(key) ?? 0, key });
  }
}

function mergeIn(ids: readonly number[], left: number, right: number, id: number): number[] {
  const merged: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === left && ids[i + 1] === right) {
      merged.push(id);
      i++;
    } else merged.push(ids[i]);
  }
  return merged;
}
