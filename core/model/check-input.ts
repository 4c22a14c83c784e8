// What users give a pass, checked before anything is computed: kernels trust their sizes.

import { GemmoeError } from '../errors.ts';
import { IGNORE_INDEX } from '../kernels.ts';
import type { ModelConfig } from './config.ts';
import type { KvCache } from './kv-cache.ts';

/** @throws GemmoeError for ids that are too few, too many behind `start`, or outside the vocabulary */
export function checkIds(
  { vocabSize, maxSequenceLength }: ModelConfig,
  ids: Int32Array,
  batch: number,
  length: number,
  start: number,
): void {
  const rows = batch * length;
  if (batch < 1 || length < 1 || ids.length < rows) {
    throw new GemmoeError('usage', `a batch of ${batch} x ${length} needs ${rows} ids (at least 1), got ${ids.length}`);
  }
  if (start + length > maxSequenceLength) {
    throw new GemmoeError(
      'usage',
      `a sequence of ${start + length} tokens is longer than the model's ${maxSequenceLength}`,
      'shorten it, or use a model with a longer context',
    );
  }
  for (let n = 0; n < rows; n++) {
    if (ids[n] >= 0 && ids[n] < vocabSize) continue;
    throw new GemmoeError(
      'usage',
      `token id ${ids[n]} (row ${n}) is outside the vocabulary of ${vocabSize}`,
      `ids run from 0 to ${vocabSize - 1}: is this the model's own tokenizer?`,
    );
  }
}

/** @throws GemmoeError for starts that are not rising within a sequence, or lie behind their row */
export function checkDocumentStarts(starts: Int32Array, batch: number, length: number): void {
  for (let n = 0; n < batch * length; n++) {
    const t = n % length;
    if (starts[n] >= (t === 0 ? 0 : starts[n - 1]) && starts[n] <= t) continue;
    throw new GemmoeError(
      'usage',
      `the document of row ${n} (place ${t} of its sequence) starts at ${starts[n]}`,
      'starts are places in the sequence: at most that of the row, and not before those of the rows before it',
    );
  }
}

/** @throws GemmoeError for a cache of another shape, or without room for `length` more tokens */
export function checkCache({ numLayers }: ModelConfig, cache: KvCache, batch: number, length: number): void {
  if (cache.batch !== batch || cache.keys.length !== numLayers) {
    throw new GemmoeError('internal', `a cache for ${cache.batch} sequences was used with a batch of ${batch}`);
  }
  if (cache.length + length > cache.capacity) {
    throw new GemmoeError(
      'usage',
      `the cache holds ${cache.length} of ${cache.capacity} tokens: ${length} more do not fit`,
      'make a larger cache, or start anew',
    );
  }
}

/** Rows with a target. @throws GemmoeError for a target that is neither an id of the vocabulary nor IGNORE_INDEX */
export function countTargets(targets: Int32Array, rows: number, vocabSize: number): number {
  let count = 0;
  for (let n = 0; n < rows; n++) {
    const target = targets[n];
    if (target === IGNORE_INDEX) continue;
    if (!(target >= 0 && target < vocabSize)) {
      throw new GemmoeError(
        'bad-data',
        `target ${target} (row ${n}) is outside the vocabulary of ${vocabSize}`,
        `targets run from 0 to ${vocabSize - 1}, or are ${IGNORE_INDEX} where there is none`,
      );
    }
    count++;
  }
  return count;
}
