// Samplers on cases worked by hand, chains, and generation.

import { describe, expect, test } from 'vitest';
import { parseOptionsText } from '../core/config.ts';
import { createChain } from '../core/generation/sampler-chain.ts';
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
  const sampler = contribution.create(parseOptionsText(contribution, options));
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
    ['top-p:p=0', [0.1, 0.4, 0.2, 0.3], [1]], // at least one
    ['top-p:p=1', [0.1, 0.4, 0.2, 0.3], [0, 1, 2, 3]],
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

  test('nothing left to pick is an error', () => {
    for (const spec of ['greedy', 'sample', 'top-p:p=0.5']) {
      const chain = createChain(spec, samplers, 1);
      expect(() => chain.next(Float32Array.of(Number.NaN, -Infinity), context)).toThrow(/no token can be chosen/);
    }
  });
});

describe('chains', () => {
  test.each([
    ['hf', 'temperature:value=0.7;top-k:k=5;top-p:p=0.9;sample'],
    ['llamacpp', 'top-k:k=5;top-p:p=0.9;temperature:value=0.7;sample'],
    ['top-k:k=3', 'top-k:k=3;sample'],
    ['greedy', 'greedy'],
  ])('%s is %s', (text, links) => {
    const settings = { temperature: 0.7, topK: 5, topP: 0.9 };
    expect(createChain(text, samplers, 1, settings).description).toBe(links);
  });

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
    const ids: (number | null)[] = [];
    const sampler = createChain('temperature:value=2;sample', samplers, options.seed ?? 1);
    for await (const { id } of generator.generate(prompt, { sampler, maxNewTokens: 6, ...options })) ids.push(id);
    return ids;
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
    expect(await idsOf([1, 2], { stopIds: [second as number] })).toEqual([first]);
    expect(generator.finishReason).toBe('stop');
  });

  test('stops when the context is full, or slides on', async () => {
    expect((await idsOf([1, 2, 3, 4, 5, 6, 7, 8], { maxNewTokens: 30 })).length).toBe(5);
    expect(generator.finishReason).toBe('context');
    expect((await idsOf([1, 2, 3, 4, 5, 6, 7, 8], { maxNewTokens: 30, overflow: 'slide' })).length).toBe(30);
    expect(generator.finishReason).toBe('length');
  });

  test('stops when told to', async () => {
    const controller = new AbortController();
    controller.abort();
    expect(await idsOf([1], { signal: controller.signal })).toEqual([]);
    expect(generator.finishReason).toBe('aborted');
  });

  test.each<[number[], RegExp]>([
    [[], /prompt is empty/],
    [Array.from({ length: 12 }, () => 1), /prompt has 12 tokens, the model's context only 12/],
    [[1, 20], /token id 20/],
  ])('the prompt %j is refused', async (prompt, message) => {
    await expect(idsOf(prompt)).rejects.toThrow(message);
  });
});
