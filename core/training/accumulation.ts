// Gradient accumulation: a step's sequences are taken a micro-batch at a time, and their gradients add up.

import { IGNORE_INDEX } from '../kernels.ts';

/** One micro-batch: views into the arrays of the step. */
export interface MicroBatch {
  readonly ids: Int32Array;
  readonly targets: Int32Array;
  readonly documentStarts: Int32Array | undefined;
}

/** Cuts the arrays of a step into micro-batches of equal size; the views are made once per pair of arrays. */
export class MicroBatches {
  private readonly count: number;
  private ids: Int32Array | undefined;
  private targets: Int32Array | undefined;
  private documentStarts: Int32Array | undefined;
  private parts: readonly MicroBatch[] = [];

  constructor(count: number) {
    this.count = count;
  }

  /** `count` micro-batches of `rows` tokens each, in order. */
  of(ids: Int32Array, targets: Int32Array, rows: number, documentStarts?: Int32Array): readonly MicroBatch[] {
    const isSame = ids === this.ids && targets === this.targets && documentStarts === this.documentStarts;
    const isKnown = isSame && this.parts[0].ids.length === rows;
    if (!isKnown) {
      this.ids = ids;
      this.targets = targets;
      this.documentStarts = documentStarts;
      this.parts = Array.from({ length: this.count }, (_, i) => ({
        ids: ids.subarray(i * rows, (i + 1) * rows),
        targets: targets.subarray(i * rows, (i + 1) * rows),
        documentStarts: documentStarts?.subarray(i * rows, (i + 1) * rows),
      }));
    }
    return this.parts;
  }
}

/** Rows that have a target. */
export function targetsIn(targets: Int32Array, rows: number): number {
  let count = 0;
  for (let n = 0; n < rows; n++) if (targets[n] !== IGNORE_INDEX) count++;
  return count;
}
