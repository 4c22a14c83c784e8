// A conversation: each message is rendered with all before it by the model's template, and what the cache holds is not read
// again.

import type { Tokenizer } from '../data/tokenizer.ts';
import { GemmoeError } from '../errors.ts';
import type { Transformer } from '../model/transformer.ts';
import type { ChatMessage, ChatTemplate } from './chat-template.ts';
import { type FinishReason, Generator } from './generator.ts';
import { PrefixCache } from './prefix-cache.ts';
import type { SamplerChain } from './sampler-chain.ts';

export interface ChatOptions {
  readonly model: Transformer;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  /** What the conversation begins with, for templates that know a system message. */
  readonly system?: string | undefined;
  /** A new chain for the n-th answer, n from 0. */
  readonly sampler: (answer: number) => SamplerChain;
  /** Tokens of an answer at most. */
  readonly maxNewTokens: number;
  /** Ids that end an answer. */
  readonly stopIds: readonly number[];
}

/** What is known of an answer when it has ended. */
export interface ChatAnswer {
  readonly text: string;
  readonly finishReason: FinishReason;
  /** Tokens of the conversation before the answer, and how many of them the cache held. */
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly newTokens: number;
  /** Messages at the beginning that no longer fit the context and were left out. */
  readonly droppedMessages: number;
}

/** Share of the context that is left free for an answer when the conversation grows beyond it. */
const LEAST_FREE = 1 / 4;

export class ChatSession {
  private readonly options: ChatOptions;
  private readonly generator: Generator;
  private readonly prefix: PrefixCache;
  private turns: ChatMessage[] = [];
  private answers = 0;

  constructor(options: ChatOptions) {
    this.options = options;
    this.generator = new Generator(options.model, options.tokenizer);
    this.prefix = new PrefixCache(options.model);
  }

  /** The conversation so far, the system message first. */
  get messages(): readonly ChatMessage[] {
    const { system } = this.options;
    return system === undefined ? this.turns : [{ role: 'system', content: system }, ...this.turns];
  }

  /** Forgets the conversation, but not the system message. */
  reset(): void {
    this.turns = [];
  }

  /**
   * Yields the answer to a message in pieces of text. An answer that `signal` ends early stays in the conversation as far as it
   * was written.
   * @throws GemmoeError when the template refuses, or the message alone fills the context; the conversation is then as before
   */
  async *say(message: string, signal?: AbortSignal): AsyncGenerator<string, ChatAnswer> {
    const before = this.turns;
    this.turns = [...before, { role: 'user', content: message }];
    let ids: number[];
    try {
      ids = this.fittingPrompt();
    } catch (error) {
      this.turns = before;
      throw error;
    }
    const droppedMessages = before.length + 1 - this.turns.length;
    const cachedTokens = this.prefix.reuse(ids);
    const { maxNewTokens, stopIds, sampler } = this.options;
    const generation = this.generator.generate(ids, {
      ...{ sampler: sampler(this.answers++), maxNewTokens, stopIds, signal },
      prefix: this.prefix,
    });
    let text = '';
    let newTokens = 0;
    try {
      for await (const piece of generation) {
        if (piece.id !== null) newTokens++;
        text += piece.text;
        yield piece.text;
      }
    } finally {
      this.turns = [...this.turns, { role: 'assistant', content: text }];
    }
    const finishReason = generation.finishReason ?? 'aborted';
    return { text, finishReason, promptTokens: ids.length, cachedTokens, newTokens, droppedMessages };
  }

  /** Ids of the conversation, its oldest messages left out until there is room for an answer. */
  private fittingPrompt(): number[] {
    const { maxSequenceLength: context } = this.options.model.config;
    const free = Math.min(this.options.maxNewTokens, Math.ceil(context * LEAST_FREE));
    for (;;) {
      const ids = this.options.tokenizer.encode(this.options.template.render(this.messages, true));
      if (ids.length + free <= context) return ids;
      // a question and its answer go together
      if (this.turns.length > 2) this.turns = this.turns.slice(2);
      else if (ids.length < context) return ids;
      else {
        throw new GemmoeError(
          'usage',
          `the message takes ${ids.length} tokens with what the template adds, the model's context is ${context}`,
          'shorten it',
        );
      }
    }
  }
}
