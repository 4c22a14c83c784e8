// gemmoe generate: text from a model, as it is written.

import { GemmoeError } from '../../core/errors.ts';
import { Generator } from '../../core/generation/generator.ts';
import type { Tokenizer } from '../../core/data/tokenizer.ts';
import type { Command } from '../command.ts';
import type { OptionValues } from '../options.ts';
import { chooseSampler, refuseUnreadOptions, SAMPLER_OPTIONS, stopIds } from '../sampling.ts';
import { backendLine, backendOf, openModel, startServices } from '../services.ts';

function parsePromptIds(text: string): number[] {
  const ids = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (ids.every((id) => Number.isInteger(id) && id >= 0)) return ids;
  throw new GemmoeError('usage', `--prompt-ids ${text} is no list of ids`, 'write whole numbers with commas: 1,2,3');
}

function promptOf(options: OptionValues, tokenizer: Tokenizer | undefined, directory: string): number[] {
  if (options.promptIds !== undefined && options.prompt !== undefined) {
    throw new GemmoeError('usage', '--prompt and --prompt-ids are both given', 'give one of them');
  }
  if (options.promptIds !== undefined) return parsePromptIds(options.promptIds);
  if (!tokenizer) {
    throw new GemmoeError(
      'usage',
      `${directory} has no tokenizer.json`,
      'give ids instead of text: --prompt-ids 1,2,3',
    );
  }
  if (options.prompt !== undefined) {
    const ids = tokenizer.encode(options.prompt, { specialTokens: true });
    if (ids.length > 0) return ids;
    throw new GemmoeError('usage', 'the prompt is empty', 'give some text: --prompt TEXT');
  }
  if (tokenizer.endOfText !== undefined) return [tokenizer.endOfText];
  throw new GemmoeError('usage', 'there is no prompt', 'give one: --prompt TEXT');
}

export const generate: Command = {
  name: 'generate',
  summary: 'write text with a model',
  options: [
    'model',
    'adapter',
    'prompt',
    'promptIds',
    'maxNewTokens',
    ...SAMPLER_OPTIONS,
    'seed',
    'ignoreEos',
    'overflow',
    'weights',
    'backend',
    'plugin',
  ],
  examples: [
    'gemmoe generate --model runs/mine --prompt "Call me"',
    'gemmoe generate --model DIR --prompt "Once" --sampler greedy --max-new-tokens 80',
    'gemmoe generate --model DIR --prompt "Once" --sampler "top-k:k=40;temperature:value=0.7;sample"',
  ],
  stopsGently: true,
  async run(context) {
    const { options, terminal, signal } = context;
    refuseUnreadOptions(context);
    using services = await startServices(context);
    const { model, tokenizer, directory, generation, original } = openModel(context, services.kernels);
    const prompt = promptOf(options, tokenizer, directory);
    const ends = stopIds(generation, original, tokenizer);
    const sampler = chooseSampler(context, services, { model, generation, tokenizer, stopIds: ends })(0);
    const ids: number[] = [];
    let text = '';
    if (options.prompt !== undefined) terminal.write(options.prompt);
    const start = performance.now();
    const written = new Generator(model, tokenizer).generate(prompt, {
      sampler,
      maxNewTokens: options.maxNewTokens,
      stopIds: options.ignoreEos ? [] : ends,
      overflow: options.overflow,
      signal,
    });
    for await (const piece of written) {
      if (piece.id !== null) ids.push(piece.id);
      text += piece.text;
      terminal.write(tokenizer ? piece.text : `${piece.id} `);
    }
    const seconds = (performance.now() - start) / 1000;
    const tokensPerSecond = ids.length / seconds;
    const { finishReason } = written;
    terminal.print();
    terminal.note(
      `${ids.length} tokens, ${tokensPerSecond.toFixed(0)} tokens/s, ended by ${finishReason}; ${sampler.description}; ${backendLine(services)}`,
    );
    terminal.result({
      ids,
      text,
      finishReason,
      promptIds: prompt,
      promptTokens: prompt.length,
      newTokens: ids.length,
      tokensPerSecond,
      sampler: sampler.description,
      seed: options.seed,
      model: directory,
      backend: backendOf(services),
    });
    return finishReason === 'aborted' ? 130 : 0;
  },
};
