// Chains that answer as others do: which samplers run in which order, and with what where nothing is said. The order is data.

import { type SequenceBias, writeBiases, writeSequences } from './token-lists.ts';

/** What a preset places in its order; a missing setting, or one that changes nothing, leaves its link out. */
export interface ChainSettings {
  /** Whether tokens are drawn; false takes the most likely one, after the processors. */
  readonly doSample?: boolean | undefined;
  /** 0 is greedy. */
  readonly temperature?: number | undefined;
  readonly topK?: number | undefined;
  readonly topP?: number | undefined;
  readonly minP?: number | undefined;
  readonly typicalP?: number | undefined;
  readonly epsilonCutoff?: number | undefined;
  readonly etaCutoff?: number | undefined;
  readonly topNSigma?: number | undefined;
  readonly xtcProbability?: number | undefined;
  /** Target surprise in bits; mirostat then takes the place of every filter but the temperature. */
  readonly mirostat?: number | undefined;
  readonly repetitionPenalty?: number | undefined;
  readonly frequencyPenalty?: number | undefined;
  readonly presencePenalty?: number | undefined;
  /** Newest tokens that the three penalties and DRY look at; all where it is undefined. */
  readonly penaltyLastN?: number | undefined;
  readonly noRepeatNgram?: number | undefined;
  readonly dryMultiplier?: number | undefined;
  readonly logitBias?: readonly SequenceBias[] | undefined;
  /** Sequences of ids that are not to be completed. */
  readonly badWords?: readonly (readonly number[])[] | undefined;
  readonly bannedTokens?: readonly BannedTokens[] | undefined;
  readonly forcedTokens?: readonly { readonly ids: readonly number[]; readonly at: number }[] | undefined;
}

/** Ids that are banned: always, for the first `steps` generated tokens, or while prompt and text are below `length`. */
export interface BannedTokens {
  readonly ids: readonly number[];
  readonly steps?: number | undefined;
  readonly length?: number | undefined;
}

/** The links that a setting makes; none where the setting is missing or changes nothing. */
const LINKS = {
  logitBias: ({ logitBias = [] }) => some(logitBias.length > 0, `logit-bias:biases=${writeBiases(logitBias)}`),
  repetitionPenalty: (settings) => penalty('repetition-penalty', settings.repetitionPenalty, 1, settings),
  frequencyPenalty: (settings) => penalty('frequency-penalty', settings.frequencyPenalty, 0, settings),
  presencePenalty: (settings) => penalty('presence-penalty', settings.presencePenalty, 0, settings),
  noRepeatNgram: ({ noRepeatNgram }) => number('no-repeat-ngram:size', noRepeatNgram, 0),
  dry: ({ dryMultiplier, penaltyLastN }) => number('dry:multiplier', dryMultiplier, 0, lastN(penaltyLastN)),
  badWords: ({ badWords = [] }) => some(badWords.length > 0, `bad-words:ids=${writeSequences(badWords)}`),
  bannedTokens: ({ bannedTokens = [] }) =>
    bannedTokens
      .filter(({ ids }) => ids.length > 0)
      .map(({ ids, steps, length }) => {
        const limits = `${steps === undefined ? '' : `,steps=${steps}`}${length === undefined ? '' : `,length=${length}`}`;
        return `ban-tokens:ids=${ids.join('|')}${limits}`;
      }),
  forcedTokens: ({ forcedTokens = [] }) =>
    forcedTokens.map(({ ids, at }) => `force-tokens:ids=${ids.join('|')},at=${at}`),
  temperature: ({ temperature }) => number('temperature:value', temperature, 1),
  topK: ({ topK }) => number('top-k:k', topK, 0),
  topP: ({ topP }) => number('top-p:p', topP, 1),
  minP: ({ minP }) => number('min-p:p', minP, 0),
  typicalP: ({ typicalP }) => number('typical:mass', typicalP, 1),
  epsilonCutoff: ({ epsilonCutoff }) => number('epsilon-cutoff:epsilon', epsilonCutoff, 0),
  etaCutoff: ({ etaCutoff }) => number('eta-cutoff:epsilon', etaCutoff, 0),
  topNSigma: ({ topNSigma }) => number('top-n-sigma:n', topNSigma, 0),
  xtc: ({ xtcProbability }) => number('xtc:probability', xtcProbability, 0),
} satisfies Readonly<Record<string, (settings: ChainSettings) => string[]>>;

type LinkName = keyof typeof LINKS;

function some(present: boolean, link: string): string[] {
  return present ? [link] : [];
}

function number(option: string, value: number | undefined, neutral: number, more = ''): string[] {
  return some(value !== undefined && value !== neutral, `${option}=${value}${more}`);
}

function penalty(name: string, value: number | undefined, neutral: number, { penaltyLastN }: ChainSettings): string[] {
  return number(`${name}:penalty`, value, neutral, lastN(penaltyLastN));
}

function lastN(count: number | undefined): string {
  return count === undefined ? '' : `,lastN=${count}`;
}

/** One way of doing it. */
interface ChainPreset {
  /** Links that also run before the most likely token is taken. */
  readonly processors: readonly LinkName[];
  /** Links that run only where tokens are drawn. */
  readonly filters: readonly LinkName[];
  /** Settings where tokens are drawn. */
  readonly defaults: ChainSettings;
  /** Whether tokens are drawn where neither `doSample` nor any setting of the draw is given. */
  readonly draws: boolean;
}

/**
 * transformers' `generate`, with its defaults, and llama.cpp's chain, with its defaults. What one of them lacks stands where
 * it does in the other, or beside its like.
 */
export const CHAIN_PRESETS: Readonly<Record<string, ChainPreset>> = {
  hf: {
    processors: [
      ...(['logitBias', 'repetitionPenalty', 'frequencyPenalty', 'presencePenalty', 'noRepeatNgram'] as const),
      ...(['dry', 'badWords', 'bannedTokens', 'forcedTokens'] as const),
    ],
    filters: [
      ...(['temperature', 'topNSigma', 'topK', 'topP', 'minP', 'typicalP', 'epsilonCutoff', 'etaCutoff'] as const),
      'xtc',
    ],
    defaults: { topK: 50 },
    draws: false,
  },
  llamacpp: {
    processors: [
      ...(['logitBias', 'badWords', 'bannedTokens', 'noRepeatNgram'] as const),
      ...(['repetitionPenalty', 'frequencyPenalty', 'presencePenalty', 'dry', 'forcedTokens'] as const),
    ],
    filters: [
      ...(['topNSigma', 'topK', 'typicalP', 'topP', 'minP', 'epsilonCutoff', 'etaCutoff'] as const),
      ...(['xtc', 'temperature'] as const),
    ],
    defaults: { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05, penaltyLastN: 64 },
    draws: true,
  },
};

/** Settings that say something only where tokens are drawn: one of them asks for that. */
export const DRAW_SETTINGS = [
  ...(['temperature', 'topK', 'topP', 'minP', 'typicalP', 'epsilonCutoff', 'etaCutoff'] as const),
  ...(['topNSigma', 'xtcProbability', 'mirostat'] as const),
] satisfies readonly (keyof ChainSettings)[];

/** The chain of a preset as text. */
export function presetChain(preset: ChainPreset, settings: ChainSettings): string {
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  const filled: ChainSettings = { ...preset.defaults, ...given };
  const asked = DRAW_SETTINGS.some((key) => settings[key] !== undefined);
  const draws = (settings.doSample ?? (asked || preset.draws)) && filled.temperature !== 0;
  const links = (names: readonly LinkName[]) => names.flatMap((name) => LINKS[name](filled));
  if (!draws) return [...links(preset.processors), 'greedy'].join(';');
  if (filled.mirostat === undefined) return [...links(preset.processors), ...links(preset.filters), 'sample'].join(';');
  return [...links(preset.processors), ...links(['temperature']), `mirostat:tau=${filled.mirostat}`].join(';');
}
