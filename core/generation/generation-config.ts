// What a model's generation_config.json says of choosing tokens, as chain settings; what we cannot do is named.

import { z } from 'zod';
import { GemmoeError } from '../errors.ts';
import type { BannedTokens, ChainSettings } from './chain-presets.ts';

const id = z.int().nonnegative();
const ids = z.array(id);
const idOrIds = z.union([id, ids]);

/** Keys that we follow; null is the same as absent. */
const FOLLOWED = z.object({
  do_sample: z.boolean().nullish(),
  temperature: z.number().nonnegative().nullish(),
  top_k: z.int().nonnegative().nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  typical_p: z.number().gt(0).max(1).nullish(),
  epsilon_cutoff: z.number().min(0).lt(1).nullish(),
  eta_cutoff: z.number().min(0).lt(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  no_repeat_ngram_size: z.int().nonnegative().nullish(),
  bad_words_ids: z.array(ids.min(1)).nullish(),
  sequence_bias: z
    .union([
      z.array(z.tuple([ids.min(1), z.number()])),
      z.record(z.string().regex(/^\(?\d+(, ?\d+)*,?\)?$/), z.number()),
    ])
    .nullish(),
  suppress_tokens: ids.nullish(),
  begin_suppress_tokens: ids.nullish(),
  forced_bos_token_id: id.nullish(),
  forced_eos_token_id: idOrIds.nullish(),
  min_length: z.int().nonnegative().nullish(),
  min_new_tokens: z.int().nonnegative().nullish(),
});

/** Keys that say nothing of which token is chosen, or that the caller decides. */
const NEUTRAL = new Set([
  ...['bos_token_id', 'eos_token_id', 'pad_token_id', 'decoder_start_token_id', 'transformers_version'],
  ...['_from_model_config', '_commit_hash', 'max_length', 'max_new_tokens', 'use_cache', 'cache_implementation'],
  ...['cache_config', 'return_dict_in_generate', 'output_attentions', 'output_hidden_states', 'output_scores'],
  ...['output_logits', 'num_return_sequences', 'early_stopping', 'length_penalty', 'low_memory', 'chat_format'],
  ...['compile_config', 'disable_compile', 'remove_invalid_values', 'renormalize_logits', 'is_assistant'],
  ...['num_assistant_tokens', 'num_assistant_tokens_schedule', 'assistant_confidence_threshold', 'trust_remote_code'],
]);

/** Values with which keys that we do not follow change nothing. */
const OFF: readonly string[] = ['null', 'false', '0', '1', '""', '[]', '{}'];

export interface GenerationChoices {
  readonly settings: ChainSettings;
  /** `key=value` of what the file asks for and is not done. */
  readonly unsupported: readonly string[];
}

/** What a generation needs beside the file. */
export interface GenerationLimits {
  /** Ids that end a text. */
  readonly stopIds: readonly number[];
  readonly maxNewTokens: number;
  /** Ids from here on are rows that pad the table; they are never chosen. */
  readonly vocabSize: number;
}

/** Reads the file's content. @throws GemmoeError (bad-config) naming the key whose value cannot be */
export function readGenerationConfig(
  generation: Readonly<Record<string, unknown>>,
  limits: GenerationLimits,
): GenerationChoices {
  const parsed = FOLLOWED.safeParse(generation);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0];
    const found = JSON.stringify(generation[String(path[0])]);
    throw new GemmoeError(
      'bad-config',
      `generation_config.json: ${String(path[0])} is ${found}: ${message}`,
      'correct the file',
    );
  }
  const config = parsed.data;
  const known = (list: readonly number[]) => list.every((token) => token < limits.vocabSize);
  return {
    unsupported: unsupportedOf(generation),
    settings: {
      doSample: config.do_sample ?? undefined,
      temperature: config.temperature ?? undefined,
      // transformers' nucleus of nothing still holds the most likely token
      ...(config.top_p === 0 ? { topK: 1 } : { topK: config.top_k ?? undefined, topP: config.top_p ?? undefined }),
      minP: config.min_p ?? undefined,
      typicalP: config.typical_p ?? undefined,
      epsilonCutoff: config.epsilon_cutoff ?? undefined,
      etaCutoff: config.eta_cutoff ?? undefined,
      repetitionPenalty: config.repetition_penalty ?? undefined,
      noRepeatNgram: config.no_repeat_ngram_size ?? undefined,
      logitBias: biasesOf(config.sequence_bias).filter((entry) => known(entry.ids)),
      // as transformers, which lets a text end whatever its bad words
      badWords: (config.bad_words_ids ?? []).filter(
        (sequence) => known(sequence) && !(sequence.length === 1 && limits.stopIds.includes(sequence[0])),
      ),
      bannedTokens: bannedOf(config, limits).map((entry) => ({
        ...entry,
        ids: entry.ids.filter((token) => token < limits.vocabSize),
      })),
      forcedTokens: forcedOf(config, limits),
    },
  };
}

function unsupportedOf(generation: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(generation)
    .filter(([key, value]) => !(key in FOLLOWED.shape) && !NEUTRAL.has(key) && !OFF.includes(JSON.stringify(value)))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`);
}

type Followed = z.infer<typeof FOLLOWED>;

/** A list of pairs, or the older record whose keys are Python's tuples. */
function biasesOf(biases: Followed['sequence_bias']): { ids: number[]; bias: number }[] {
  if (!biases) return [];
  if (Array.isArray(biases)) return biases.map(([sequence, bias]) => ({ ids: sequence, bias }));
  return Object.entries(biases).map(([key, bias]) => ({ ids: (key.match(/\d+/g) ?? []).map(Number), bias }));
}

function bannedOf(config: Followed, { stopIds }: GenerationLimits): BannedTokens[] {
  const banned: BannedTokens[] = [];
  if (config.suppress_tokens) banned.push({ ids: config.suppress_tokens });
  if (config.begin_suppress_tokens) banned.push({ ids: config.begin_suppress_tokens, steps: 1 });
  if (config.min_length) banned.push({ ids: stopIds, length: config.min_length });
  if (config.min_new_tokens) banned.push({ ids: stopIds, steps: config.min_new_tokens });
  return banned;
}

function forcedOf(config: Followed, { maxNewTokens }: GenerationLimits): { ids: number[]; at: number }[] {
  const forced: { ids: number[]; at: number }[] = [];
  if (typeof config.forced_bos_token_id === 'number') forced.push({ ids: [config.forced_bos_token_id], at: 0 });
  const end = [config.forced_eos_token_id ?? []].flat();
  if (end.length > 0) forced.push({ ids: [end[0]], at: maxNewTokens - 1 });
  return forced;
}
