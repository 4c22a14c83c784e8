// Bias on token sequences: on the last id of a sequence when the text ends with the ids before it.

import type { FloatArray } from '../tensor/dtype.ts';
import { checkIds } from './logits.ts';
import type { SequenceBias } from './token-lists.ts';

/**
 * Adds the biases of the sequences that `ids` has begun; -Infinity removes a token, +Infinity removes all tokens without it.
 * @throws GemmoeError naming `owner` when a sequence has an id outside the vocabulary
 */
export function addBiases(
  owner: string,
  biases: readonly SequenceBias[],
  ids: readonly number[],
  logits: FloatArray,
): void {
  let certain = false;
  for (const { ids: sequence, bias } of biases) {
    checkIds(owner, sequence, logits.length);
    if (!endsWith(ids, sequence)) continue;
    const last = sequence[sequence.length - 1];
    // a removed token stays removed: -Infinity + Infinity is no number
    if (logits[last] !== -Infinity) logits[last] += bias;
    certain ||= logits[last] === Infinity;
  }
  if (certain) keepInfinite(logits);
}

/** Whether the text ends with all ids of the sequence but its last. */
function endsWith(ids: readonly number[], sequence: readonly number[]): boolean {
  const start = ids.length - (sequence.length - 1);
  if (start < 0) return false;
  for (let i = 0; i < sequence.length - 1; i++) if (ids[start + i] !== sequence[i]) return false;
  return true;
}

/** Removes all but the tokens at +Infinity, which become equally likely. */
function keepInfinite(logits: FloatArray): void {
  for (let i = 0; i < logits.length; i++) logits[i] = logits[i] === Infinity ? 0 : -Infinity;
}
