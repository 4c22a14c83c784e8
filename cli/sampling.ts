// How the options and the model's own files say that tokens are chosen, for the commands that write text.

import type { Gemmoe } from '../core/container.ts';
import type { Tokenizer } from '../core/data/tokenizer.ts';
import { GemmoeError } from '../core/errors.ts';
import type { GenerationConfig } from '../core/formats/hugging-face.ts';
import { CHAIN_PRESETS, type ChainSettings, DRAW_SETTINGS } from '../core/generation/chain-presets.ts';
import { readGenerationConfig } from '../core/generation/generation-config.ts';
import { createChain, type SamplerChain } from '../core/generation/sampler-chain.ts';
import type { Transformer } from '../core/model/transformer.ts';
import type { CommandContext } from './command.ts';
import { flagOf, type OptionName } from './options.ts';

/** Options that the preset chains read. */
const SETTINGS = [
  ...DRAW_SETTINGS.filter((name) => name !== 'epsilonCutoff' && name !== 'etaCutoff'),
  ...(['repetitionPenalty', 'frequencyPenalty', 'presencePenalty', 'penaltyLastN'] as const),
  'dryMultiplier',
] satisfies readonly OptionName[];

/** Options of a command that generates. */
export const SAMPLER_OPTIONS: readonly OptionName[] = ['sampler', ...SETTINGS];

/** What of a model decides how its tokens are chosen. */
interface Generating {
  readonly model: Transformer;
  readonly generation: GenerationConfig | null;
  readonly tokenizer: Tokenizer | undefined;
  readonly stopIds: readonly number[];
}

/** Ids that end a text: the generation config's, failing that the config's, failing that the tokenizer's. */
export function stopIds(
  generation: GenerationConfig | null,
  original: Record<string, unknown>,
  tokenizer: Tokenizer | undefined,
): number[] {
  const named = generation?.['eos_token_id'] ?? original['eos_token_id'] ?? tokenizer?.endOfText;
  return [named].flat().filter((id) => typeof id === 'number');
}

/** In a chain of the user's own, options for the presets would be passed over. @throws GemmoeError naming the option */
export function refuseUnreadOptions({ options, flagged }: CommandContext): void {
  if (Object.hasOwn(CHAIN_PRESETS, options.sampler)) return;
  const given = SETTINGS.find((name) => flagged.includes(name));
  if (given === undefined) return;
  throw new GemmoeError(
    'usage',
    `--${flagOf(given)} has no place in the chain "${options.sampler}"`,
    `write it into the chain, or use one of ${Object.keys(CHAIN_PRESETS).join(', ')}`,
  );
}

/**
 * Makes the chain of --sampler, a new one for the n-th text. What the options leave open is the model's own choice, and then
 * the preset's: transformers takes the most likely token unless the model says `do_sample`. Notes what the model asks for
 * and is not done.
 */
export function chooseSampler(
  { options, terminal }: CommandContext,
  { samplers }: Gemmoe,
  { model, generation, tokenizer, stopIds: ends }: Generating,
): (text: number) => SamplerChain {
  const { sampler, seed, maxNewTokens } = options;
  const isPreset = Object.hasOwn(CHAIN_PRESETS, sampler);
  const vocabSize = Math.min(model.config.vocabSize, tokenizer?.vocabSize ?? Infinity);
  const own = readGenerationConfig((isPreset && generation) || {}, { stopIds: ends, vocabSize, maxNewTokens });
  if (own.unsupported.length > 0) {
    terminal.note(`generation_config.json asks for what is not done here: ${own.unsupported.join(', ')}`);
  }
  const given = Object.fromEntries(
    SETTINGS.flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]]])),
  );
  // a temperature that the model names without `do_sample` does not make transformers draw
  const unasked = sampler === 'hf' ? false : undefined;
  const doSample = DRAW_SETTINGS.some((name) => name in given) || (own.settings.doSample ?? unasked);
  const settings: ChainSettings = { ...own.settings, ...given, doSample };
  return (text) => createChain(sampler, samplers, seed + text, settings, { tokenizer });
}
