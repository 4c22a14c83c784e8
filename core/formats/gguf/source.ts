// Where the elements of a GGUF tensor stand in the safetensors files: ranges that follow each other.

import { GemmoeError } from '../../errors.ts';
import { readPieces } from '../stored-values.ts';
import type { TensorFiles } from '../weight-files.ts';

/** Elements [start, start + length) of a tensor of the files. */
export interface Range {
  readonly name: string;
  readonly start: number;
  readonly length: number;
}

/** A tensor of the GGUF file. */
export interface PlannedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Where its elements come from, or the elements themselves. */
  readonly from: readonly Range[] | Float32Array;
}

/** The tensors of a model directory, and which of them have found their place. */
export class TensorSource {
  readonly directory: string;
  private readonly files: TensorFiles;
  private readonly used = new Set<string>();

  constructor(directory: string, files: TensorFiles) {
    this.directory = directory;
    this.files = files;
  }

  has(name: string): boolean {
    return this.files.has(name);
  }

  /** The whole of a tensor. @throws GemmoeError when it is missing or of another shape */
  whole(name: string, shape: readonly number[]): Range[] {
    this.check(name, shape);
    return [{ name, start: 0, length: elements(shape) }];
  }

  /** Rows [first, first + count) of a tensor, its last dimension being a row. */
  rows(name: string, shape: readonly number[], first: number, count: number): Range[] {
    this.check(name, shape);
    const row = shape[shape.length - 1];
    return [{ name, start: first * row, length: count * row }];
  }

  /**
   * The rows of a query or key projection [heads·D,C], or of its bias [heads·D], in the order that turns half-split rope into
   * interleaved: of each head row 2i is the old row i, and row 2i + 1 the old row i + D/2.
   */
  interleaved(name: string, shape: readonly number[], headDim: number): Range[] {
    this.check(name, shape);
    const row = elements(shape.slice(1));
    const half = headDim / 2;
    return Array.from({ length: shape[0] }, (_, target) => {
      const within = target % headDim;
      const source = target - within + (within % 2) * half + Math.floor(within / 2);
      return { name, start: source * row, length: row };
    });
  }

  /** Tensors that no part of the GGUF file is made of. */
  unused(): string[] {
    return [...this.files.names()].filter((name) => !this.used.has(name));
  }

  /** The elements of a planned tensor in pieces, each valid until the next is taken. */
  *pieces({ from }: PlannedTensor): Generator<Float32Array, void> {
    if (from instanceof Float32Array) return yield from;
    for (const { name, start, length } of from) yield* readPieces(this.files.fileOf(name), name, start, length);
  }

  private check(name: string, shape: readonly number[]): void {
    if (!this.files.has(name)) throw disagreement(this.directory, `tensor ${name} [${shape}] is missing`);
    const found = this.files.fileOf(name).tensors.get(name)?.shape ?? [];
    if (found.join() !== shape.join()) {
      throw disagreement(this.directory, `tensor ${name} is [${found}], but config.json implies [${shape}]`);
    }
    this.used.add(name);
  }
}

/** Elements of a tensor. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function disagreement(directory: string, what: string): GemmoeError {
  return new GemmoeError('bad-data', `${directory}: ${what}`, 'config.json and the weights are not of one model');
}
