// What a forward or backward pass tells every layer about the rows it is given.

import type { Kernels } from '../kernels.ts';
import type { RoutingContext } from './balancing.ts';
import type { KvCache } from './kv-cache.ts';
import type { MixedPrecision } from './mixed-precision.ts';
import type { RopeTables } from './rope-tables.ts';

/** One pass over `batch` sequences of `length` tokens each: N = batch·length rows, sequence by sequence. */
export interface Pass {
  readonly kernels: Kernels;
  readonly batch: number;
  readonly length: number;
  /** N */
  readonly rows: number;
  /** [N] position of each row in its sequence. */
  readonly positions: Int32Array;
  /** [B] position of the first row of each sequence: what the cache already holds. */
  readonly starts: Int32Array;
  /** [N] place in its sequence where the document of each row begins; null where every sequence is one document. */
  readonly documentStarts: Int32Array | null;
  readonly cache: KvCache | null;
  readonly rope: RopeTables;
  /** What training adds to the routers; null when the model is used. */
  readonly routing: RoutingContext | null;
  /** Which products run on 16-bit operands; null where all are in the model's own precision. */
  readonly mixed: MixedPrecision | null;
}
