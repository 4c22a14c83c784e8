// Token embedding: row `id` of a table [V,C], times a factor that is 1 but in Granite.

import type { FloatArray } from '../tensor/dtype.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

export class Embedding {
  readonly table: Parameter;
  private readonly size: number;
  private readonly multiplier: number;

  constructor(store: ParameterStore, name: string, vocabSize: number, size: number, multiplier = 1) {
    this.size = size;
    this.multiplier = multiplier;
    this.table = store.declare(name, 'embedding', [vocabSize, size]);
  }

  /** y [N,C] = table rows of ids [N]. */
  forward(pass: Pass, y: FloatArray, ids: Int32Array): void {
    const { bf16 } = this.table;
    if (bf16) pass.kernels.embeddingBf16(y, bf16, ids, pass.rows, this.size);
    else pass.kernels.embedding(y, this.table.data, ids, pass.rows, this.size);
    this.scale(pass, y);
  }

  /** dTable += dy at ids; dy [N,C] is scratch afterwards. */
  backward(pass: Pass, dy: FloatArray, ids: Int32Array): void {
    this.scale(pass, dy);
    pass.kernels.embeddingBackward(this.table.gradient, dy, ids, pass.rows, this.size);
  }

  private scale({ kernels, rows }: Pass, x: FloatArray): void {
    if (this.multiplier !== 1) kernels.scale(x, x, this.multiplier, rows * this.size);
  }
}
