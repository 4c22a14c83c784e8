// What a run writes to show how far it is: the same for the same weights, seed and step.

import type { Corpus } from '../data/corpus.ts';
import { GemmoeError, messageOf } from '../errors.ts';
import { Generator } from '../generation/generator.ts';
import { createChain } from '../generation/sampler-chain.ts';
import type { Transformer } from '../model/transformer.ts';
import type { SamplerContribution } from '../plugin.ts';
import type { Registry } from '../registry.ts';
import type { SampleRecord } from './events.ts';
import type { RunSettings } from './settings.ts';

const SAMPLE_CHAIN = 'temperature:value=0.8;top-p:p=0.95;sample';

/** A prompt as the settings name it, and its ids. */
export interface SamplePrompt {
  readonly prompt: string | null;
  readonly ids: readonly number[];
}

/** The prompts of a run's samples. @throws GemmoeError for one that the tokenizer cannot write or the context cannot hold */
export function samplePrompts(settings: RunSettings, corpus: Corpus): SamplePrompt[] {
  const { samplePrompts: prompts, model } = settings;
  if (prompts.length === 0) return [{ prompt: null, ids: [beginning(corpus)] }];
  return prompts.map((prompt) => {
    let ids: number[];
    try {
      ids = corpus.tokenizer.encode(prompt, { specialTokens: true });
    } catch (error) {
      throw new GemmoeError(
        'bad-config',
        `the prompt ${JSON.stringify(prompt)}: ${messageOf(error)}`,
        'choose another',
      );
    }
    if (ids.length > 0 && ids.length < model.maxSequenceLength) return { prompt, ids };
    throw new GemmoeError(
      'bad-config',
      `the prompt ${JSON.stringify(prompt)} has ${ids.length} tokens, the model has room for ${model.maxSequenceLength}`,
      'a prompt has at least one token, and leaves room for one more',
    );
  });
}

/** One token that text begins with: the end of the document before, or the first one of the training split. */
function beginning({ separator, train }: Corpus): number {
  if (separator !== undefined) return separator;
  const first = new Int32Array(1);
  train.read(0, first, 0, 1);
  return first[0];
}

export interface SampleOptions {
  readonly settings: RunSettings;
  readonly corpus: Corpus;
  readonly model: Transformer;
  readonly samplers: Registry<SamplerContribution>;
  readonly step: number;
  /** Of each prompt. */
  readonly maxNewTokens: number;
  readonly signal?: AbortSignal | undefined;
  /** Called when one of `count` samples begins; what it returns is asked after each token, and ends it. */
  readonly limit?: ((count: number) => () => boolean) | undefined;
}

/** A text after each prompt. */
export async function* writeSamples(options: SampleOptions): AsyncGenerator<SampleRecord> {
  const { settings, corpus, model, samplers, step, maxNewTokens, signal, limit } = options;
  const generator = new Generator(model, corpus.tokenizer);
  const prompts = samplePrompts(settings, corpus);
  for (const { prompt, ids } of prompts) {
    const isOver = limit?.(prompts.length);
    const sampler = createChain(SAMPLE_CHAIN, samplers, settings.seed + step);
    let text = '';
    for await (const piece of generator.generate(ids, { sampler, maxNewTokens, overflow: 'slide', signal })) {
      text += piece.text;
      if (isOver?.()) break;
    }
    yield { kind: 'sample', step, prompt, text };
  }
}
