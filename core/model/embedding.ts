// Token embedding: row `id` of a table [V,C].

import type { FloatArray } from '../tensor/dtype.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

export class Embedding {
  readonly table: Parameter;
  private readonly size: number;

  constructor(store: ParameterStore, name: string, vocabSize: number, size: number) {
    this.size = size;
    this.table = store.declare(name, 'embedding', [vocabSize, size]);
  }

  /** y [N,C] = table rows of ids [N]. */
  forward(pass: Pass, y: FloatArray, ids: Int32Array): void {
    pass.kernels.embedding(y, this.table.data, ids, pass.rows, this.size);
  }

  /** dTable += dy at ids. */
  backward(pass: Pass, dy: FloatArray, ids: Int32Array): void {
    pass.kernels.embeddingBackward(this.table.gradient, dy, ids, pass.rows, this.size);
  }
}
