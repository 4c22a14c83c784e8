// Samplers on cases worked by hand, chains, and generation.

import { describe, expect, test } from 'vitest';
import { parseOptionsText } from '../core/config.ts';
import { createChain } from '../core/generation/sampler-chain.ts';
import type { Tokenizer } from '../core/data/tokenizer.ts';
import { Generator } from '../core/generation/generator.ts';
import { Transformer } from '../core/model/transformer.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Random } from '../core/random.ts';
import { Registry } from '../core/registry.ts';
import { builtinPlugins } from '../plugins/index.ts';
import { referenceKernels } from './support/kernels.ts';

const samplers = new Registry('sampler', builtinPlugins.samplers ?? []);
const context = { ids: [0], promptLength: 1, step: 0 };
const logOf = (...probabilities: number[]) => Float64Array.from(probabilities, Math.log);

/** Ids that a transform leaves. */
function kept(spec: string, logits: Float64Array): number[] {
  const [name, options = ''] = spec.split(':');
  const contribution = samplers.get(name);
  const sampler = contribution.create(parseOptionsText(contribution, options), {});
  if (sampler.kind !== 'transform') throw new Error(`${name} is a pick`);
  sampler.apply(logits, { ...context, random: new Random(1, 'test') });
  return [...logits.keys()].filter((id) => logits[id] > -Infinity);
}

describe('transforms', () => {
  test.each<[string, number[], number[]]>([
    ['top-k:k=2', [0.1, 0.4, 0.2, 0.3], [1, 3]],
    ['top-k:k=2', [0.1, 0.3, 0.3, 0.3], [1, 2, 3]], // ties with the k-th stay
    ['top-k:k=0', [0.1, 0.9], [0, 1]],
    ['top-k:k=9', [0.1, 0.9], [0, 1]],
    ['top-p:p=0.6', [0.1, 0.4, 0.2, 0.3], [1, 3]], // 0.4 is short of 0.6, 0.3 crosses it
    ['top-p:p=0.39', [0.1, 0.4, 0.2, 0.3], [1]],
    ['top-p:p=1', [0.1, 0.4, 0.2, 0.3], [0, 1, 2, 3]],
    ['top-p:p=0.5', [0.25, 0.25, 0.25, 0.25], [0, 1]], // of equals, the lowest ids
    ['top-p:p=0.5', [0, 0.7, 0, 0.3], [1]], // what was removed stays removed
    ['min-p:p=0.5', [0.1, 0.4, 0.21, 0.29], [1, 2, 3]],
    ['min-p:p=1', [0.1, 0.4, 0.2, 0.3], [1]],
    ['min-p:p=0', [0.1, 0.9], [0, 1]],
    ['temperature:value=0', [0.1, 0.4, 0.4, 0.1], [1]], // greedy, the lowest of equals
  ])('%s of %j keeps %j', (spec, probabilities, ids) => {
    expect(kept(spec, logOf(...probabilities))).toEqual(ids);
  });

  test('temperature divides', () => {
    const logits = Float64Array.of(2, -4);
    kept('temperature:value=0.5', logits);
    expect([...logits]).toEqual([4, -8]);
  });

  test('a filter sees the probabilities of those left', () => {
    // without the 0.5, 0.3 is 60 % of what is left
    const logits = Float64Array.of(-Infinity, Math.log(0.3), Math.log(0.15), Math.log(0.05));
    expect(kept('top-p:p=0.55', logits)).toEqual([1]);
  });
});

describe('picks', () => {
  test('greedy takes the largest, of equals the lowest', () => {
    expect(createChain('greedy', samplers, 1).next(Float32Array.of(1, 3, 3), context)).toBe(1);
  });

  test('sample draws with the probabilities', () => {
    const chain = createChain('sample', samplers, 1);
    const counts = [0, 0, 0];
    for (let step = 0; step < 6000; step++) counts[chain.next(logOf(0.5, 0.3, 0.2), { ...context, step })]++;
    [3000, 1800, 1200].forEach((expected, id) => expect(Math.abs(counts[id] - expected)).toBeLessThan(150));
  });

  test.each([
    'greedy',
    'sample',
    'top-k:k=1',
    'top-p:p=0.5',
    'min-p:p=0.5',
    'temperature:value=0',
    'temperature:value=2',
  ])('%s refuses logits of which one is NaN, or none is left', (spec) => {
    const next = (...logits: number[]) => createChain(spec, samplers, 1).next(Float32Array.from(logits), context);
    expect(() => next(1, Number.NaN, 3, 2)).toThrow(/no token can be chosen: the logit of id 1 is NaN/);
    expect(() => next(-Infinity, -Infinity)).toThrow(/no token can be chosen: every logit is -Infinity/);
  });

  test('the smallest temperature is greedy, not a draw among infinities', () => {
    const chain = createChain('temperature:value=1e-40;sample', samplers, 1);
    expect(chain.next(Float32Array.of(1, 2, 3, -4), context)).toBe(2);
    expect(chain.next(Float32Array.of(-3, -2, -1), { ...context, step: 1 })).toBe(2);
  });
});

describe('chains', () => {
  test.each([
    ['hf', 'temperature:value=0.7;top-k:k=5;top-p:p=0.9;sample'],
    ['llamacpp', 'top-k:k=5;top-p:p=0.9;min-p:p=0.05;temperature:value=0.7;sample'],
    ['top-k:k=3', 'top-k:k=3;sample'],
    ['greedy', 'greedy'],
  ])('%s is %s', (text, links) => {
    const settings = { temperature: 0.7, topK: 5, topP: 0.9 };
    expect(createChain(text, samplers, 1, settings).description).toBe(links);
  });

  test.each(['top-k:k=1', 'top-p:p=0.1', 'min-p:p=1', 'temperature:value=0'])(
    '%s looks at each token anew, whatever the size',
    (text) => {
      const chain = createChain(text, samplers, 1);
      expect(chain.next(Float32Array.of(5, 4, 3), context)).toBe(0);
      expect(chain.next(Float32Array.of(-9, -7, -8), { ...context, step: 1 })).toBe(1);
      expect(chain.next(Float32Array.of(1, 2, 3, 4), { ...context, step: 2 })).toBe(3);
    },
  );

  test('order matters: temperature before top-p keeps more than after it', () => {
    const draw = (text: string) => {
      const chain = createChain(text, samplers, 1);
      return new Set(Array.from({ length: 500 }, (_, step) => chain.next(logOf(0.7, 0.2, 0.1), { ...context, step })));
    };
    expect(draw('temperature:value=4;top-p:p=0.69;sample').size).toBe(2);
    expect(draw('top-p:p=0.69;temperature:value=4;sample').size).toBe(1);
  });

  test.each([
    ['greedy;top-k:k=2', /greedy picks a token, so nothing can follow it/],
    ['top-z;sample', /there is no sampler named "top-z"/],
    ['top-k:q=1', /top-k has no option "q"/],
    ['top-p:p=1.5', /top-p: p/],
    ['', /names nothing/],
  ])('"%s" is refused', (text, message) => expect(() => createChain(text, samplers, 1)).toThrow(message));
});

describe('generation', () => {
  const model = new Transformer(
    { ...PRESETS['tiny'].config, vocabSize: 20, maxSequenceLength: 12 },
    referenceKernels(),
  );
  model.initialise(1);
  const generator = new Generator(model);

  async function idsOf(
    prompt: number[],
    options: Partial<Parameters<Generator['generate']>[1]> & { seed?: number } = {},
  ) {
    return (await outcomeOf(prompt, options)).ids;
  }

  async function outcomeOf(prompt: number[], options: Parameters<typeof idsOf>[1] = {}) {
    const ids: (number | null)[] = [];
    const sampler = createChain('temperature:value=2;sample', samplers, options.seed ?? 1);
    const generation = generator.generate(prompt, { sampler, maxNewTokens: 6, ...options });
    expect(generation.finishReason).toBeUndefined();
    for await (const { id } of generation) ids.push(id);
    return { ids, finishReason: generation.finishReason };
  }

  test('is a function of the seed', async () => {
    const first = await idsOf([1, 2]);
    expect(first.length).toBe(6);
    expect(await idsOf([1, 2])).toEqual(first);
    expect(await idsOf([1, 2], { seed: 2 })).not.toEqual(first);
  });

  test('stops at a stop id and leaves it out', async () => {
    const [first, second] = await idsOf([1, 2]);
    expect(first).not.toBe(second);
    expect(await outcomeOf([1, 2], { stopIds: [second as number] })).toEqual({ ids: [first], finishReason: 'stop' });
  });

  test('stops when the context is full, or slides on', async () => {
    const full = await outcomeOf([1, 2, 3, 4, 5, 6, 7, 8], { maxNewTokens: 30 });
    expect([full.ids.length, full.finishReason]).toEqual([5, 'context']);
    const slid = await outcomeOf([1, 2, 3, 4, 5, 6, 7, 8], { maxNewTokens: 30, overflow: 'slide' });
    expect([slid.ids.length, slid.finishReason]).toEqual([30, 'length']);
  });

  test('stops when told to', async () => {
    const controller = new AbortController();
    controller.abort();
    expect(await outcomeOf([1], { signal: controller.signal })).toEqual({ ids: [], finishReason: 'aborted' });
  });

  test.each<[number[], RegExp]>([
    [[], /prompt is empty/],
    [Array.from({ length: 12 }, () => 1), /prompt has 12 tokens, the model's context only 12/],
    [[1, 20], /token id 20 \(number 2 of the prompt\) is outside the vocabulary of 20/],
    [[1, 2.5], /token id 2\.5/],
    [[Number.NaN], /token id NaN/],
    [[-1], /token id -1/],
  ])('the prompt %j is refused', async (prompt, message) => {
    await expect(idsOf(prompt)).rejects.toThrow(message);
  });

  test.each([-1, 1.5, Number.NaN])('%d new tokens are refused', async (maxNewTokens) => {
    await expect(idsOf([1], { maxNewTokens })).rejects.toThrow(/maxNewTokens is/);
  });

  test('the cache changes nothing: greedy ids are those of the full pass', async () => {
    const ids = await idsOf([1, 2, 3], { sampler: createChain('greedy', samplers, 1) });
    const sequence = [1, 2, 3];
    for (const id of ids) {
      const logits = model.forward(Int32Array.from(sequence), 1, sequence.length, { logits: 'last' });
      expect(id).toBe(logits.indexOf(Math.max(...logits)));
      sequence.push(id as number);
    }
    expect(ids.length).toBe(6);
  });

  test('rows beyond the tokenizer are never picked', async () => {
    // ten of the twenty rows stand for nothing
    const tokenizer: Tokenizer = {
      ...{ kind: 'character', vocabSize: 10, endOfText: undefined },
      encode: () => [],
      decode: (ids) => ids.map((id) => 'abcdefghij'[id]).join(''),
      toJSON: () => ({}),
    };
    const sampler = () => createChain('temperature:value=50;sample', samplers, 3);
    const options = { maxNewTokens: 60, overflow: 'slide' } as const;
    const unlimited = await idsOf([1], { ...options, sampler: sampler() });
    expect(Math.max(...(unlimited as number[]))).toBeGreaterThanOrEqual(10);
    let text = '';
    for await (const piece of new Generator(model, tokenizer).generate([1], { ...options, sampler: sampler() })) {
      expect(piece.id).toBeLessThan(10);
      text += piece.text;
    }
    expect(text).toMatch(/^[a-j]{60}$/);
  });
});
