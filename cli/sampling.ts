// How the options and the model's own files say that tokens are chosen, for the commands that write text.

import type { Tokenizer } from '../core/data/tokenizer.ts';
import { GemmoeError } from '../core/errors.ts';
import type { GenerationConfig } from '../core/formats/hugging-face.ts';
import { CHAIN_PRESETS, type ChainSettings } from '../core/generation/sampler-chain.ts';
import type { CommandContext } from './command.ts';
import { flagOf, type OptionValues } from './options.ts';

/** What the options leave open is the model's own choice; a model that says `do_sample: false` is greedy. */
export function chainSettings(options: OptionValues, generation: GenerationConfig | null): ChainSettings {
  const own = (key: string) => (typeof generation?.[key] === 'number' ? (generation[key] as number) : undefined);
  const ownTemperature = generation?.['do_sample'] === false ? 0 : own('temperature');
  return {
    temperature: options.temperature ?? ownTemperature ?? 0.8,
    topK: options.topK ?? own('top_k'),
    topP: options.topP ?? own('top_p') ?? 0.95,
    minP: options.minP ?? own('min_p'),
  };
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

/** Options that only the preset chains read; in a chain of the user's own they would be passed over. */
export function refuseUnreadOptions({ options, flagged }: CommandContext): void {
  if (Object.hasOwn(CHAIN_PRESETS, options.sampler)) return;
  const given = (['temperature', 'topK', 'topP', 'minP'] as const).find((name) => flagged.includes(name));
  if (given === undefined) return;
  throw new GemmoeError(
    'usage',
    `--${flagOf(given)} has no place in the chain "${options.sampler}"`,
    `write it into the chain, or use one of ${Object.keys(CHAIN_PRESETS).join(', ')}`,
  );
}
