// The sampling chain: transforms of the logits in a chosen order, ended by one pick. The order is data.

import { inspect } from 'node:util';
import { parseOptionsText, parseSpec } from '../config.ts';
import { GemmoeError, messageOf } from '../errors.ts';
import type { GenerationContext, Sampler, SamplerContribution, SamplingContext } from '../plugin.ts';
import { Random } from '../random.ts';
import type { Registry } from '../registry.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { CHAIN_PRESETS, type ChainSettings, presetChain } from './chain-presets.ts';

/** What a chain is told about the text so far. */
export interface ChainContext {
  readonly ids: readonly number[];
  readonly promptLength: number;
  /** 0 for the first generated token. */
  readonly step: number;
}

/** One sampler of a chain and what it is told: the randomness is its own, the rest is set for each token. */
interface Link {
  readonly name: string;
  readonly sampler: Sampler;
  readonly told: { -readonly [Key in keyof SamplingContext]: SamplingContext[Key] };
}

/** A chain for one sequence; its samplers may keep state between tokens. */
export class SamplerChain {
  /** The links as text, as they are run. */
  readonly description: string;
  private readonly links: readonly Link[];

  /** @param links transforms, then one pick */
  constructor(description: string, links: readonly Link[]) {
    this.description = description;
    this.links = links;
  }

  /**
   * The id that follows; `logits` [V] is changed.
   * @throws GemmoeError when nothing is left to pick, or naming the sampler that throws or picks no id
   */
  next(logits: FloatArray, context: ChainContext): number {
    for (const { name, sampler, told } of this.links) {
      told.ids = context.ids;
      told.promptLength = context.promptLength;
      told.step = context.step;
      try {
        if (sampler.kind === 'pick') return checkPick(name, sampler.pick(logits, told), logits.length);
        sampler.apply(logits, told);
      } catch (error) {
        throw pluginError(name, 'throws', error);
      }
    }
    throw new GemmoeError('internal', `the sampler chain ${this.description} has no pick`);
  }
}

function checkPick(name: string, id: number, vocabSize: number): number {
  if (Number.isInteger(id) && id >= 0 && id < vocabSize) return id;
  throw new GemmoeError('plugin', `sampler ${name} picked ${id}`, `ids run from 0 to ${vocabSize - 1}: fix the plugin`);
}

/** Our own errors as they are, others under the name of the plugin they come from. */
function pluginError(name: string, what: string, error: unknown): GemmoeError {
  if (error instanceof GemmoeError) return error;
  return new GemmoeError('plugin', `sampler ${name} ${what}: ${messageOf(error)}`, 'fix the plugin', { cause: error });
}

/**
 * Makes a chain from `name:key=value,…;…` or the name of a preset, `hf` or `llamacpp`, which `settings` fill. A chain that
 * ends in no pick gets `sample`.
 * @param context the tokenizer, where samplers are told of text
 * @throws GemmoeError for unknown samplers and options, and a pick that is not last
 */
export function createChain(
  text: string,
  samplers: Registry<SamplerContribution>,
  seed: number,
  settings: ChainSettings = {},
  context: GenerationContext = {},
): SamplerChain {
  const preset = Object.hasOwn(CHAIN_PRESETS, text) ? CHAIN_PRESETS[text] : undefined;
  const names = (preset ? presetChain(preset, settings) : text).split(';').map((name) => name.trim());
  const made = names.map((name) => createSampler(name, samplers, context));
  if (made.at(-1)?.kind !== 'pick') {
    names.push('sample');
    made.push(createSampler('sample', samplers, context));
  }
  const early = made.findIndex(({ kind }) => kind === 'pick');
  if (early < made.length - 1) {
    throw new GemmoeError(
      'usage',
      `sampler chain "${text}": ${names[early]} picks a token, so nothing can follow it`,
      'put it last',
    );
  }
  const links = made.map((sampler, i) => ({
    name: parseSpec(names[i]).name,
    sampler,
    told: { ids: [], promptLength: 0, step: 0, random: new Random(seed, `sampling ${i}`) },
  }));
  return new SamplerChain(names.join(';'), links);
}

function createSampler(text: string, samplers: Registry<SamplerContribution>, context: GenerationContext): Sampler {
  const { name, rest } = parseSpec(text);
  const contribution = samplers.get(name);
  const options = parseOptionsText(contribution, rest);
  let sampler: Sampler;
  try {
    sampler = contribution.create(options, context);
  } catch (error) {
    throw pluginError(name, 'throws when it is made', error);
  }
  if (isSampler(sampler)) return sampler;
  throw new GemmoeError(
    'plugin',
    `sampler ${name}: create returned ${inspect(sampler, { depth: 0 })}, which is no sampler`,
    "return { kind: 'transform', apply(logits, context) {…} } or { kind: 'pick', pick(logits, context) {…} }",
  );
}

/** What a plugin returns, before it is believed. */
function isSampler(value: unknown): value is Sampler {
  const { kind, apply, pick } = (value ?? {}) as { kind?: unknown; apply?: unknown; pick?: unknown };
  return kind === 'transform' ? typeof apply === 'function' : kind === 'pick' && typeof pick === 'function';
}
