// Keys and values that outlive one generation: what a prompt has in common with the text before it is not read again.

import { KvCache } from '../model/kv-cache.ts';
import type { Transformer } from '../model/transformer.ts';

export class PrefixCache {
  readonly cache: KvCache;
  private readonly ids: number[] = [];

  /** @param capacity tokens that fit; default the model's longest sequence */
  constructor(model: Transformer, capacity = model.config.maxSequenceLength) {
    this.cache = new KvCache(model.config, 1, capacity, model.dtype);
  }

  /**
   * Keeps what `prompt` begins with and forgets the rest. The prompt's last token is never kept: its logits are still to be
   * computed.
   * @returns tokens kept
   */
  reuse(prompt: readonly number[]): number {
    const limit = Math.min(this.ids.length, prompt.length - 1);
    let kept = 0;
    while (kept < limit && this.ids[kept] === prompt[kept]) kept++;
    this.cache.truncate(kept);
    this.ids.length = kept;
    return kept;
  }

  /** Notes ids whose keys and values the cache has taken in. */
  append(ids: Iterable<number>): void {
    this.ids.push(...ids);
  }

  /** Forgets everything. */
  reset(): void {
    this.cache.reset();
    this.ids.length = 0;
  }
}
