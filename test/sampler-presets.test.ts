// The chains that answer as transformers and llama.cpp do, and what a model's generation_config.json makes of them.
//
// Where transformers defines a sampler, its values are those of its published code (generation/logits_process.py), worked out
// here in exact fractions: no Python runs in these tests.

import { describe, expect, test } from 'vitest';
import type { ChainSettings } from '../core/generation/chain-presets.ts';
import { readGenerationConfig } from '../core/generation/generation-config.ts';
import { createChain } from '../core/generation/sampler-chain.ts';
import { logOf, samplers } from './support/samplers.ts';

const EVERYTHING: ChainSettings = {
  ...{ temperature: 0.7, topK: 5, topP: 0.9, minP: 0.1, typicalP: 0.8, epsilonCutoff: 0.001, etaCutoff: 0.002 },
  ...{ topNSigma: 2, xtcProbability: 0.5, repetitionPenalty: 1.1, frequencyPenalty: 0.2, presencePenalty: 0.3 },
  ...{ penaltyLastN: 32, noRepeatNgram: 4, dryMultiplier: 0.8, badWords: [[5, 6], [7]] },
  logitBias: [
    { ids: [1], bias: -Infinity },
    { ids: [2, 3], bias: 1.5 },
  ],
  bannedTokens: [{ ids: [8, 9] }, { ids: [2], steps: 3 }, { ids: [2], length: 10 }],
  forcedTokens: [{ ids: [4], at: 0 }],
};

const chainOf = (preset: string, settings: ChainSettings = {}) =>
  createChain(preset, samplers, 1, settings).description.split(';');

describe('presets', () => {
  test('transformers: processors, then the temperature before the filters', () => {
    expect(chainOf('hf', EVERYTHING)).toEqual([
      'logit-bias:biases=1:-inf|2 3:1.5',
      'repetition-penalty:penalty=1.1,lastN=32',
      'frequency-penalty:penalty=0.2,lastN=32',
      'presence-penalty:penalty=0.3,lastN=32',
      'no-repeat-ngram:size=4',
      'dry:multiplier=0.8,lastN=32',
      'bad-words:ids=5 6|7',
      'ban-tokens:ids=8|9',
      'ban-tokens:ids=2,steps=3',
      'ban-tokens:ids=2,length=10',
      'force-tokens:ids=4,at=0',
      'temperature:value=0.7',
      'top-n-sigma:n=2',
      'top-k:k=5',
      'top-p:p=0.9',
      'min-p:p=0.1',
      'typical:mass=0.8',
      'epsilon-cutoff:epsilon=0.001',
      'eta-cutoff:epsilon=0.002',
      'xtc:probability=0.5',
      'sample',
    ]);
  });

  test('llama.cpp: biases, penalties, DRY, then the filters, and the temperature last', () => {
    expect(chainOf('llamacpp', EVERYTHING).map((link) => link.split(':')[0])).toEqual([
      ...['logit-bias', 'bad-words', 'ban-tokens', 'ban-tokens', 'ban-tokens', 'no-repeat-ngram'],
      ...['repetition-penalty', 'frequency-penalty', 'presence-penalty', 'dry', 'force-tokens'],
      ...['top-n-sigma', 'top-k', 'typical', 'top-p', 'min-p', 'epsilon-cutoff', 'eta-cutoff', 'xtc', 'temperature'],
      'sample',
    ]);
  });

  test.each<[string, ChainSettings, string]>([
    ['hf', {}, 'greedy'], // do_sample is false unless something asks for it
    ['hf', { doSample: true }, 'top-k:k=50;sample'],
    ['hf', { temperature: 0.7 }, 'temperature:value=0.7;top-k:k=50;sample'],
    ['hf', { doSample: false, temperature: 0.7, repetitionPenalty: 1.2 }, 'repetition-penalty:penalty=1.2;greedy'],
    ['hf', { repetitionPenalty: 1.2 }, 'repetition-penalty:penalty=1.2;greedy'],
    ['hf', { temperature: 0, topP: 0.9 }, 'greedy'],
    ['llamacpp', {}, 'top-k:k=40;top-p:p=0.95;min-p:p=0.05;temperature:value=0.8;sample'],
    ['llamacpp', { topK: 0, topP: 1, minP: 0, temperature: 1 }, 'sample'],
    ['llamacpp', { temperature: 0 }, 'greedy'],
    ['llamacpp', { doSample: false }, 'greedy'],
    ['llamacpp', { presencePenalty: 1, temperature: 0 }, 'presence-penalty:penalty=1,lastN=64;greedy'],
    ['llamacpp', { mirostat: 4 }, 'temperature:value=0.8;mirostat:tau=4'],
    ['hf', { mirostat: 4 }, 'mirostat:tau=4'],
  ])('%s with %j is %s', (preset, settings, links) => expect(chainOf(preset, settings).join(';')).toBe(links));

  test('settings that cannot be are refused by the sampler that they are for', () => {
    expect(() => chainOf('hf', { temperature: -1 })).toThrow(/temperature: value: Too small/);
    expect(() => chainOf('hf', { topP: Number.NaN })).toThrow(/top-p: p/);
    expect(() => chainOf('hf', { repetitionPenalty: 0 })).toThrow(/repetition-penalty: penalty/);
  });

  test('llama.cpp filters on what the model thinks, transformers after the temperature', () => {
    // p = 16/21 4/21 1/21; at temperature 2: 4/7 2/7 1/7. min-p 0.2: 0.2·16/21 = 3.2/21 removes 1/21 only without it
    const drawn = (preset: string) => {
      const settings = { temperature: 2, minP: 0.2, topP: 1, topK: 0 };
      const chain = createChain(preset, samplers, 1, settings);
      const draw = (_: unknown, step: number) =>
        chain.next(logOf(16 / 21, 4 / 21, 1 / 21), { ids: [0], promptLength: 1, step });
      return new Set(Array.from({ length: 400 }, draw)).size;
    };
    expect(drawn('hf')).toBe(3);
    expect(drawn('llamacpp')).toBe(2);
  });
});

describe('generation_config.json', () => {
  const limits = { stopIds: [2], maxNewTokens: 20, vocabSize: 100 };
  const read = (config: Record<string, unknown>) => readGenerationConfig(config, limits);
  const chain = (config: Record<string, unknown>) => chainOf('hf', read(config).settings).join(';');

  test.each<[string, Record<string, unknown>, string]>([
    [
      'Qwen3',
      { do_sample: true, temperature: 0.6, top_k: 20, top_p: 0.95, eos_token_id: [1, 2], pad_token_id: 1 },
      'temperature:value=0.6;top-k:k=20;top-p:p=0.95;sample',
    ],
    [
      'every filter',
      {
        ...{ do_sample: true, top_k: 0, min_p: 0.1, typical_p: 0.9, epsilon_cutoff: 0.0003, eta_cutoff: 0.0004 },
        ...{ temperature: 1, top_p: 1, repetition_penalty: 1 },
      },
      'min-p:p=0.1;typical:mass=0.9;epsilon-cutoff:epsilon=0.0003;eta-cutoff:epsilon=0.0004;sample',
    ],
    [
      'every processor',
      {
        ...{ do_sample: false, repetition_penalty: 1.1, no_repeat_ngram_size: 3, bad_words_ids: [[5, 6], [2], [7]] },
        ...{ sequence_bias: [[[9, 8], -1.5]], suppress_tokens: [11, 12], begin_suppress_tokens: [13] },
        ...{ forced_bos_token_id: 4, forced_eos_token_id: [2, 3], min_length: 10, min_new_tokens: 5 },
      },
      [
        'logit-bias:biases=9 8:-1.5;repetition-penalty:penalty=1.1;no-repeat-ngram:size=3;bad-words:ids=5 6|7',
        'ban-tokens:ids=11|12;ban-tokens:ids=13,steps=1;ban-tokens:ids=2,length=10;ban-tokens:ids=2,steps=5',
        'force-tokens:ids=4,at=0;force-tokens:ids=2,at=19;greedy',
      ].join(';'),
    ],
    ['an older sequence_bias', { sequence_bias: { '(9, 8)': -2, '(7,)': 1 } }, 'logit-bias:biases=9 8:-2|7:1;greedy'],
    ['a nucleus of nothing', { do_sample: true, top_p: 0 }, 'top-k:k=1;sample'],
    ['null', { do_sample: true, top_k: 0, temperature: null, top_p: null, suppress_tokens: null }, 'sample'],
    ['rows that pad the table', { suppress_tokens: [99, 100], bad_words_ids: [[100]] }, 'ban-tokens:ids=99;greedy'],
  ])('%s', (_, config, links) => {
    expect(chain(config)).toBe(links);
    expect(read(config).unsupported).toEqual([]);
  });

  test('what is not done is named, what says nothing is not', () => {
    const config = {
      ...{
        num_beams: 4,
        penalty_alpha: 0.6,
        guidance_scale: 1.5,
        something_new: 'x',
        watermarking_config: { bias: 2 },
      },
      ...{ num_beam_groups: 1, diversity_penalty: 0, top_h: null, generation_kwargs: {}, use_cache: true },
      ...{ transformers_version: '4.51.0', _from_model_config: true, max_length: 2048 },
    };
    expect(read(config).unsupported).toEqual([
      'num_beams=4',
      'penalty_alpha=0.6',
      'guidance_scale=1.5',
      'something_new="x"',
      'watermarking_config={"bias":2}',
    ]);
  });

  test.each<[Record<string, unknown>, RegExp]>([
    [{ temperature: 'hot' }, /generation_config.json: temperature is "hot": .*expected number/],
    [{ temperature: -1 }, /temperature is -1/],
    [{ top_p: 1.5 }, /top_p is 1.5/],
    [{ top_k: 2.5 }, /top_k is 2.5/],
    [{ repetition_penalty: 0 }, /repetition_penalty is 0/],
    [{ suppress_tokens: [-1] }, /suppress_tokens is \[-1\]/],
    [{ bad_words_ids: [[]] }, /bad_words_ids is \[\[\]\]/],
    [{ do_sample: 'yes' }, /do_sample is "yes"/],
  ])('%j is refused', (config, message) => expect(() => read(config)).toThrow(message));
});

describe('as transformers computes it', () => {
  // RepetitionPenaltyLogitsProcessor: score < 0 ? score·p : score/p over the set of ids; p = 5/4
  // then TemperatureLogitsWarper T = 1/2, TopKLogitsWarper k = 3, TopPLogitsWarper p = 0.8, over the survivors of each.
  // Weights e^logit are powers of 2, logits multiples of ln 2:
  //   logits / ln 2        5     4    2    1   -2
  //   ids 0 and 4 said:    4     4    2    1   -5/2
  //   T = 1/2:             8     8    4    2   -5
  //   top-k 3:             8     8    4          weights 256 256 16 of 528
  //   top-p 0.8: ascending cumulative 16/528 = 0.03 <= 0.2 goes, (16+256)/528 = 0.515 stays: ids 0 and 1
  test('penalty, temperature, top-k, top-p in a row', () => {
    const chain = createChain('hf', samplers, 3, { repetitionPenalty: 1.25, temperature: 0.5, topK: 3, topP: 0.8 });
    const counts = [0, 0, 0, 0, 0];
    for (let step = 0; step < 2000; step++) {
      const logits = Float64Array.from([5, 4, 2, 1, -2], (power) => power * Math.LN2);
      counts[chain.next(logits, { ids: [0, 4, 0], promptLength: 1, step })]++;
      if (step > 0) continue;
      [8, 8].forEach((power, id) => expect(logits[id]).toBeCloseTo(power * Math.LN2, 12));
      expect([...logits.subarray(2)]).toEqual([-Infinity, -Infinity, -Infinity]);
    }
    expect(counts.slice(2)).toEqual([0, 0, 0]);
    expect(Math.abs(counts[0] - 1000)).toBeLessThan(90); // σ = 22
  });

  // EtaLogitsWarper: H of softmax over those left; eta = min(ε, √ε·e^-H).
  //   weights 8 4 2 1 1 of 16: H = (8·1 + 4·2 + 2·3 + 1·4 + 1·4)/16·ln 2 = 15/8·ln 2, e^-H = 2^(-15/8) = 0.27263
  //   ε = 1/16: √ε·e^-H = 0.06816 > 1/16, so eta = 1/16 and p = 1/16 stays
  //   ε = 9/100: √ε·e^-H = 0.3·0.27263 = 0.08179 < 0.09, so 1/16 goes and 2/16 stays
  test.each([
    [1 / 16 - 1e-9, [0, 1, 2, 3, 4]],
    [9 / 100, [0, 1, 2]],
    [1 / 4, [0, 1]], // 0.5·0.27263 = 0.1363 > 2/16
  ])('eta-cutoff with ε = %d', (epsilon, ids) => {
    const logits = logOf(8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16);
    createChain('hf', samplers, 1, { doSample: true, etaCutoff: epsilon }).next(logits, {
      ids: [0],
      promptLength: 1,
      step: 0,
    });
    expect([...logits.keys()].filter((id) => logits[id] > -Infinity)).toEqual(ids);
  });

  // TypicalLogitsWarper: sort by |-ln p - H|, H = 15/8·ln 2 as above: in units of ln 2 |1 - 15/8| = 7/8, |2 - 15/8| = 1/8,
  // |3 - 15/8| = 9/8, |4 - 15/8| = 17/8 twice: the order is 1, 0, 2, then 3 and 4; cumulative 4/16 12/16 14/16 15/16 16/16
  test.each([
    [0.24, [1]],
    [0.26, [0, 1]],
    [0.8, [0, 1, 2]],
    [0.9, [0, 1, 2, 3, 4]], // 3 would do, but 4 ties with it
  ])('typical with mass %d', (mass, ids) => {
    const logits = logOf(8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16);
    createChain('hf', samplers, 1, { doSample: true, typicalP: mass }).next(logits, {
      ids: [0],
      promptLength: 1,
      step: 0,
    });
    expect([...logits.keys()].filter((id) => logits[id] > -Infinity)).toEqual(ids);
  });
});
