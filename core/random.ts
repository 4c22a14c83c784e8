// One counter-based generator for everything random: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A value is a pure function of (seed, stream, step, index), so there is no state to drift: a resumed
// run asks for the same numbers by the same names.

import { normalQuantile } from './normal-quantile.ts';

/** The name of an independent sequence; initialisation, shuffling and sampling each own one. */
export type StreamName = string;

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** High 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/** Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key, written to `out`. */
export function philox4x32(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  key0: number,
  key1: number,
): void {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ key0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ key1) >>> 0;
    c3 = low0;
    key0 = (key0 + WEYL_0) >>> 0;
    key1 = (key1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** FNV-1a over the UTF-16 units of a name: the number of a stream. */
function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Random numbers of one stream of one seed, addressed by (step, index). */
export class Random {
  readonly seed: number;
  readonly stream: StreamName;
  /** The generator's key: the seed's lower and upper half. */
  readonly keyLow: number;
  readonly keyHigh: number;
  /** The fourth word of every counter. */
  readonly streamNumber: number;
  private readonly words = new Uint32Array(4);

  /** @param seed a whole number from 0 to 2^53-1 */
  constructor(seed: number, stream: StreamName) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new RangeError(`seed must be a whole number from 0 to 2^53-1, not ${seed}`);
    }
    this.seed = seed;
    this.stream = stream;
    this.keyLow = seed >>> 0;
    this.keyHigh = Math.floor(seed / 2 ** 32);
    this.streamNumber = hashName(stream);
  }

  private block(step: number, index: number): Uint32Array {
    philox4x32(
      this.words,
      index >>> 0,
      Math.floor(index / 2 ** 32) >>> 0,
      step >>> 0,
      this.streamNumber,
      this.keyLow,
      this.keyHigh,
    );
    return this.words;
  }

  /** A 32-bit word. */
  uint32(step: number, index: number): number {
    return this.block(step, index)[0];
  }

  /** Uniform on [0, 1) with 53 bits. */
  uniform(step: number, index: number): number {
    const words = this.block(step, index);
    return ((words[0] >>> 5) * 2 ** 26 + (words[1] >>> 6)) / 2 ** 53;
  }

  /** A whole number on [0, bound), without modulo bias worth the name: 53 random bits scaled. */
  below(bound: number, step: number, index: number): number {
    return Math.floor(this.uniform(step, index) * bound);
  }

  /**
   * Fills the first `count` elements of `out` with uniform values on [low, high): elements 4i to 4i + 3 are a function of
   * (step, first + i).
   */
  fillUniform(
    out: Float32Array | Float64Array,
    count: number,
    low: number,
    high: number,
    step: number,
    first: number,
  ): void {
    const scale = (high - low) / 2 ** 32;
    for (let i = 0; i < count; i += 4) {
      const words = this.block(step, first + (i >>> 2));
      for (let j = 0; j < 4 && i + j < count; j++) out[i + j] = low + scale * words[j];
    }
  }

  /**
   * Fills `out` with independent normal values, element i being a function of (step, start + i) alone: a long array may be
   * filled in pieces. The same bits on every machine.
   */
  fillNormal(out: Float32Array | Float64Array, mean: number, deviation: number, step: number, start = 0): void {
    const first = Math.floor(start / 4);
    for (let i = 4 * first - start; i < out.length; i += 4) {
      const words = this.block(step, (start + i) / 4);
      for (let j = Math.max(0, -i); j < 4 && i + j < out.length; j++) {
        out[i + j] = mean + deviation * normalQuantile(words[j]);
      }
    }
  }
}

/**
 * A permutation of [0, size) that needs no table: a four-round Feistel network over the next even power of two, walked until
 * the value falls inside. `permute(i)` costs O(1) time and memory, so shuffling a corpus of any size resumes at once.
 */
export class Permutation {
  readonly size: number;
  private readonly halfBits: number;
  private readonly keys: readonly number[];

  constructor(size: number, random: Random, step: number) {
    this.size = size;
    const bits = Math.max(2, Math.ceil(Math.log2(Math.max(2, size))));
    this.halfBits = Math.ceil(bits / 2);
    this.keys = [0, 1, 2, 3].map((round) => random.uint32(step, round));
  }

  /** The image of `index`; both lie in [0, size). */
  permute(index: number): number {
    let value = index;
    do value = this.encrypt(value);
    while (value >= this.size);
    return value;
  }

  private encrypt(value: number): number {
    const half = 2 ** this.halfBits;
    let left = Math.floor(value / half);
    let right = value % half;
    for (const key of this.keys) {
      let mixed = Math.imul(right ^ key, 0x9e3779b1);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b);
      mixed ^= mixed >>> 13;
      [left, right] = [right, (left ^ mixed) & (half - 1)];
    }
    return left * half + right;
  }
}
