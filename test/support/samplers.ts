// One sampler, or a chain, on logits of a test.

import { parseOptionsText, parseSpec } from '../../core/config.ts';
import type { Tokenizer } from '../../core/data/tokenizer.ts';
import type { Sampler } from '../../core/plugin.ts';
import { Random } from '../../core/random.ts';
import { Registry } from '../../core/registry.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { builtinPlugins } from '../../plugins/index.ts';

export const samplers = new Registry('sampler', builtinPlugins.samplers ?? []);

/** Logits whose softmax is `probabilities`, which add up to 1. */
export const logOf = (...probabilities: number[]) => Float64Array.from(probabilities, Math.log);

export function makeSampler(spec: string, tokenizer?: Tokenizer): Sampler {
  const { name, rest } = parseSpec(spec);
  const contribution = samplers.get(name);
  return contribution.create(parseOptionsText(contribution, rest), { tokenizer });
}

interface Told {
  readonly ids?: readonly number[];
  readonly step?: number;
  readonly tokenizer?: Tokenizer;
}

/** Runs a transform on logits, and returns them. */
export function transformed<T extends FloatArray>(spec: string, logits: T, told: Told = {}): T {
  const sampler = makeSampler(spec, told.tokenizer);
  if (sampler.kind !== 'transform') throw new Error(`${spec} is a pick`);
  const { ids = [0], step = 0 } = told;
  sampler.apply(logits, { ids, step, promptLength: 1, random: new Random(1, 'test') });
  return logits;
}

/** Ids that a transform leaves. */
export function kept(spec: string, logits: FloatArray, told: Told = {}): number[] {
  const after = transformed(spec, logits, told);
  return [...after.keys()].filter((id) => after[id] > -Infinity);
}

/** A tokenizer whose ids are the characters of `alphabet`. */
export function alphabetTokenizer(alphabet: string): Tokenizer {
  return {
    ...{ kind: 'character', vocabSize: alphabet.length, endOfText: undefined },
    encode: (text) =>
      [...text].map((character) => {
        const id = alphabet.indexOf(character);
        if (id < 0) throw new Error(`${character} has no id`);
        return id;
      }),
    decode: (ids) => ids.map((id) => alphabet[id]).join(''),
    toJSON: () => ({}),
  };
}
