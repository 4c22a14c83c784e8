// The sampling chain: transforms of the logits in a chosen order, ended by one pick. The order is data.

import { parseOptionsText, parseSpec } from '../config.ts';
import { GemmoeError } from '../errors.ts';
import type { Sampler, SamplerContribution } from '../plugin.ts';
import { Random } from '../random.ts';
import type { Registry } from '../registry.ts';
import type { FloatArray } from '../tensor/dtype.ts';

/** Settings that the presets place in their order; a missing one leaves its link out. */
export interface ChainSettings {
  readonly temperature?: number | undefined;
  readonly topK?: number | undefined;
  readonly topP?: number | undefined;
  readonly minP?: number | undefined;
}

const LINKS = {
  temperature: ({ temperature }: ChainSettings) => temperature !== undefined && `temperature:value=${temperature}`,
  topK: ({ topK }: ChainSettings) => topK !== undefined && `top-k:k=${topK}`,
  topP: ({ topP }: ChainSettings) => topP !== undefined && `top-p:p=${topP}`,
  minP: ({ minP }: ChainSettings) => minP !== undefined && `min-p:p=${minP}`,
};

/** Orders that others use: transformers divides by the temperature first, llama.cpp last. */
export const CHAIN_PRESETS: Readonly<Record<string, (settings: ChainSettings) => string>> = {
  hf: (settings) => joined(settings, ['temperature', 'topK', 'topP', 'minP']),
  llamacpp: (settings) => joined(settings, ['topK', 'topP', 'minP', 'temperature']),
};

function joined(settings: ChainSettings, order: readonly (keyof typeof LINKS)[]): string {
  const links = order.map((link) => LINKS[link](settings)).filter((link) => link !== false);
  return [...links, 'sample'].join(';');
}

/** What a chain is told about the text so far. */
export interface ChainContext {
  readonly ids: readonly number[];
  readonly promptLength: number;
  /** 0 for the first generated token. */
  readonly step: number;
}

/** A chain for one sequence; its samplers may keep state between tokens. */
export class SamplerChain {
  /** The links as text, as they are run. */
  readonly description: string;
  private readonly transforms: readonly (Sampler & { kind: 'transform' })[];
  private readonly pick: Sampler & { kind: 'pick' };
  private readonly streams: readonly Random[];

  constructor(description: string, links: readonly Sampler[], seed: number) {
    this.description = description;
    this.transforms = links.filter((link) => link.kind === 'transform');
    this.pick = links.at(-1) as Sampler & { kind: 'pick' };
    this.streams = links.map((_, i) => new Random(seed, `sampling ${i}`));
  }

  /** The id that follows; `logits` [V] is changed. */
  next(logits: FloatArray, context: ChainContext): number {
    for (const [i, transform] of this.transforms.entries()) {
      transform.apply(logits, { ...context, random: this.streams[i] });
    }
    const random = this.streams[this.streams.length - 1];
    const id = this.pick.pick(logits, { ...context, random });
    if (Number.isInteger(id) && id >= 0 && id < logits.length) return id;
    throw new GemmoeError(
      'plugin',
      `the sampler chain ${this.description} picked ${id}`,
      `ids run from 0 to ${logits.length - 1}`,
    );
  }
}

/**
 * Makes a chain from `name:key=value,…;…` or the name of a preset, which `settings` fill. A chain that ends in no pick gets
 * `sample`.
 * @throws GemmoeError for unknown samplers and options, and a pick that is not last
 */
export function createChain(
  text: string,
  samplers: Registry<SamplerContribution>,
  seed: number,
  settings: ChainSettings = {},
): SamplerChain {
  const preset = Object.hasOwn(CHAIN_PRESETS, text) ? CHAIN_PRESETS[text] : undefined;
  const names = (preset?.(settings) ?? text).split(';').map((name) => name.trim());
  const links = names.map((name) => createLink(name, samplers));
  if (links.at(-1)?.kind !== 'pick') {
    names.push('sample');
    links.push(createLink('sample', samplers));
  }
  const early = links.findIndex((link) => link.kind === 'pick');
  if (early < links.length - 1) {
    throw new GemmoeError(
      'usage',
      `sampler chain "${text}": ${names[early]} picks a token, so nothing can follow it`,
      'put it last',
    );
  }
  return new SamplerChain(names.join(';'), links, seed);
}

function createLink(text: string, samplers: Registry<SamplerContribution>): Sampler {
  const { name, rest } = parseSpec(text);
  const contribution = samplers.get(name);
  return contribution.create(parseOptionsText(contribution, rest));
}
