// Text from a model, token by token: one pass over the prompt, then one row a token over the cache.

import { StreamingDecoder } from '../data/streaming-decoder.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { GemmoeError } from '../errors.ts';
import type { Transformer } from '../model/transformer.ts';
import { PrefixCache } from './prefix-cache.ts';
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
  /** Holds the text so far from call to call, as large as the context; a call has a cache of its own without it. */
  readonly prefix?: PrefixCache | undefined;
}

/** One generated token and the text it completes, which may be empty while a character is unfinished. */
export interface GeneratedToken {
  /** Null in a last piece of text that was held back and belongs to ids already given. */
  readonly id: number | null;
  readonly text: string;
}

/** A text under way: its tokens as they come, and then why it ended. To be iterated once. */
export class Generation implements AsyncIterable<GeneratedToken> {
  private readonly tokens: AsyncGenerator<GeneratedToken, FinishReason>;
  private reason: FinishReason | undefined;

  constructor(tokens: AsyncGenerator<GeneratedToken, FinishReason>) {
    this.tokens = tokens;
  }

  /** Why the text ended; undefined until it has, and when its reader left before. */
  get finishReason(): FinishReason | undefined {
    return this.reason;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void> {
    this.reason = yield* this.tokens;
  }
}

/** Generates with one model. */
export class Generator {
  readonly model: Transformer;
  readonly tokenizer: Tokenizer | undefined;

  constructor(model: Transformer, tokenizer?: Tokenizer) {
    this.model = model;
    this.tokenizer = tokenizer;
  }

  /**
   * The tokens that follow the prompt. Iterating
   * @throws GemmoeError for an empty prompt, ids outside the vocabulary, or a prompt that fills the context
   */
  generate(promptIds: readonly number[], options: GenerateOptions): Generation {
    return new Generation(this.run(promptIds, options));
  }

  private async *run(
    promptIds: readonly number[],
    options: GenerateOptions,
  ): AsyncGenerator<GeneratedToken, FinishReason> {
    const { sampler, maxNewTokens, overflow = 'stop', signal } = options;
    const { maxSequenceLength: context } = this.model.config;
    this.checkPrompt(promptIds, context);
    checkCount(maxNewTokens);
    const stopIds = new Set(options.stopIds);
    const decoder = this.tokenizer && new StreamingDecoder(this.tokenizer, promptIds);
    const capacity = overflow === 'slide' ? context : Math.min(context, promptIds.length + maxNewTokens);
    const prefix = options.prefix ?? new PrefixCache(this.model, capacity);
    const ids = [...promptIds];
    const newest = new Int32Array(1);
    let unread = Int32Array.from(promptIds.slice(prefix.reuse(promptIds)));
    let reason: FinishReason = 'length';
    for (let step = 0; step < maxNewTokens; step++) {
      if (signal?.aborted) {
        reason = 'aborted';
        break;
      }
      if (prefix.cache.length + unread.length > context) {
        if (overflow === 'stop') {
          reason = 'context';
          break;
        }
        unread = Int32Array.from(ids.slice(-Math.ceil(context / 2)));
        prefix.reset();
      }
      const id = this.next(unread, prefix, sampler, { ids, promptLength: promptIds.length, step });
      if (stopIds.has(id)) {
        reason = 'stop';
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
    return reason;
  }

  private next(
    unread: Int32Array,
    prefix: PrefixCache,
    sampler: SamplerChain,
    context: { ids: readonly number[]; promptLength: number; step: number },
  ): number {
    const logits = this.model.forward(unread, 1, unread.length, { cache: prefix.cache, logits: 'last' });
    prefix.append(unread);
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
