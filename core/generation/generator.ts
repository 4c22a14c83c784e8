// Text from a model, token by token: one pass over the prompt, then one row a token over the cache.

import { StreamingDecoder } from '../data/streaming-decoder.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { GemmoeError } from '../errors.ts';
import { KvCache } from '../model/kv-cache.ts';
import type { Transformer } from '../model/transformer.ts';
import type { SamplerChain } from './sampler-chain.ts';

/** Why generation ended. */
export type FinishReason = 'stop' | 'length' | 'context' | 'aborted';

export interface GenerateOptions {
  readonly sampler: SamplerChain;
  readonly maxNewTokens: number;
  /** Ids that end the text; they are not part of it. */
  readonly stopIds?: readonly number[];
  /**
   * What happens when the context is full: `stop` (default), or `slide`: go on with the newer half of it, read again.
   */
  readonly overflow?: 'stop' | 'slide';
  readonly signal?: AbortSignal | undefined;
}

/** One generated token and the text it completes, which may be empty while a character is unfinished. */
export interface GeneratedToken {
  /** Null in a last piece of text that was held back and belongs to ids already given. */
  readonly id: number | null;
  readonly text: string;
}

/** Generates with one model; each call has a cache of its own. */
export class Generator {
  readonly model: Transformer;
  readonly tokenizer: Tokenizer | undefined;
  /** Why the last generation ended. */
  finishReason: FinishReason = 'length';

  constructor(model: Transformer, tokenizer?: Tokenizer) {
    this.model = model;
    this.tokenizer = tokenizer;
  }

  /**
   * Yields the tokens that follow the prompt.
   * @throws GemmoeError for an empty prompt, ids outside the vocabulary, or a prompt that fills the context
   */
  async *generate(promptIds: readonly number[], options: GenerateOptions): AsyncGenerator<GeneratedToken, void> {
    const { sampler, maxNewTokens, overflow = 'stop', signal } = options;
    const { maxSequenceLength: context } = this.model.config;
    this.checkPrompt(promptIds, context);
    checkCount(maxNewTokens);
    const stopIds = new Set(options.stopIds);
    const decoder = this.tokenizer && new StreamingDecoder(this.tokenizer, promptIds);
    const capacity = overflow === 'slide' ? context : Math.min(context, promptIds.length + maxNewTokens);
    const cache = new KvCache(this.model.config, 1, capacity, this.model.dtype);
    const ids = [...promptIds];
    const newest = new Int32Array(1);
    let unread = Int32Array.from(promptIds);
    this.finishReason = 'length';
    for (let step = 0; step < maxNewTokens; step++) {
      if (signal?.aborted) {
        this.finishReason = 'aborted';
        break;
      }
      if (cache.length + unread.length > context) {
        if (overflow === 'stop') {
          this.finishReason = 'context';
          break;
        }
        unread = Int32Array.from(ids.slice(-Math.ceil(context / 2)));
        cache.reset();
      }
      const id = this.next(unread, cache, sampler, { ids, promptLength: promptIds.length, step });
      if (stopIds.has(id)) {
        this.finishReason = 'stop';
        break;
      }
      ids.push(id);
      newest[0] = id;
      unread = newest;
      yield { id, text: decoder?.push(id) ?? '' };
      // lets signals and other work in; an await on a settled promise would not
      await new Promise((resolve) => setImmediate(resolve));
    }
    const rest = decoder?.flush() ?? '';
    if (rest !== '') yield { id: null, text: rest };
  }

  private next(
    unread: Int32Array,
    cache: KvCache,
    sampler: SamplerChain,
    context: { ids: readonly number[]; promptLength: number; step: number },
  ): number {
    const logits = this.model.forward(unread, 1, unread.length, { cache, logits: 'last' });
    // rows beyond the tokenizer pad the table and stand for nothing
    const known = Math.min(logits.length, this.tokenizer?.vocabSize ?? logits.length);
    return sampler.next(known < logits.length ? logits.subarray(0, known) : logits, context);
  }

  private checkPrompt(ids: readonly number[], context: number): void {
    if (ids.length === 0) throw new GemmoeError('usage', 'the prompt is empty', 'give at least one token');
    const { vocabSize } = this.model.config;
    const strange = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
    if (strange >= 0) {
      throw new GemmoeError(
        'usage',
        `token id ${ids[strange]} (number ${strange + 1} of the prompt) is outside the vocabulary of ${vocabSize}`,
        `ids are whole numbers from 0 to ${vocabSize - 1}: is this the model's own tokenizer?`,
      );
    }
    if (ids.length >= context) {
      throw new GemmoeError(
        'usage',
        `the prompt has ${ids.length} tokens, the model's context only ${context}, and at least one must be left to write`,
        'shorten the prompt, or use a model with a longer context',
      );
    }
  }
}

function checkCount(maxNewTokens: number): void {
  if (Number.isInteger(maxNewTokens) && maxNewTokens >= 0) return;
  throw new GemmoeError('usage', `maxNewTokens is ${maxNewTokens}`, 'ask for a whole number of tokens, 0 or more');
}
