// What a model must beat: the cross-entropy of a bigram model on the same split.

import type { TokenSource } from './source.ts';

/** Added to every count, so that no pair is impossible. */
const SMOOTHING = 0.1;

/**
 * Mean nats per token of `validation` under counts of neighbours in `train`:
 * p(b|a) = (count(a,b) + α) / (count(a) + α·V), α = 0.1. The first token is not predicted.
 */
export function bigramLoss(train: TokenSource, validation: TokenSource, vocabSize: number): number {
  const pairs = new Map<number, number>();
  const firsts = new Float64Array(vocabSize);
  eachPair(train, (a, b) => {
    const key = a * vocabSize + b;
    pairs.set(key, (pairs.get(key) ?? 0) + 1);
    firsts[a]++;
  });
  let sum = 0;
  let count = 0;
  eachPair(validation, (a, b) => {
    const probability = ((pairs.get(a * vocabSize + b) ?? 0) + SMOOTHING) / (firsts[a] + SMOOTHING * vocabSize);
    sum -= Math.log(probability);
    count++;
  });
  return sum / count;
}

function eachPair(source: TokenSource, visit: (a: number, b: number) => void): void {
  const chunk = new Int32Array(1 << 16);
  for (let start = 0; start + 1 < source.length; start += chunk.length - 1) {
    const count = Math.min(chunk.length, source.length - start);
    source.read(start, chunk, 0, count);
    for (let i = 0; i + 1 < count; i++) visit(chunk[i], chunk[i + 1]);
  }
}
