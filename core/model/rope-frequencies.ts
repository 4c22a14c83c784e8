// How fast every pair of elements turns under rope: its frequency, and a factor on cosines and sines. Formulas as in Hugging Face
// transformers; d is the head size, theta the base, L the length that the model was trained on.
//
//   plain     theta^(-2i/d)
//   linear    plain / factor
//   dynamic   theta·(factor·s/L - (factor - 1))^(d/(d-2)) for theta, where s is the current length where it is beyond L, or L
//   yarn      (Peng et al. 2023) plain for fast pairs, plain / factor for slow ones, a ramp between
//   llama3    (Dubey et al. 2024) the same idea by wavelength
//   longrope  (Ding et al. 2024) plain / a list of factors, one list up to L and one beyond

import { type ModelConfig, ropeBase } from './config.ts';
import type { RopeScaling } from './rope-scaling.ts';

/** What a table of cosines and sines is made of. */
export interface RopeFrequencies {
  /** [d/2] angle of each pair per position. */
  readonly frequencies: Float64Array;
  /** On every cosine and sine. */
  readonly factor: number;
}

/**
 * Sequences of lengths that give the same number here have the same frequencies. Keys in a cache keep the rotation that
 * they were stored with when a sequence grows from one to another, as in transformers.
 */
export function ropePhase({ ropeScaling }: ModelConfig, length: number): number {
  if (ropeScaling?.kind === 'dynamic') return Math.max(length, ropeScaling.originalLength);
  if (ropeScaling?.kind === 'longrope') return length > ropeScaling.originalLength ? 1 : 0;
  return 0;
}

/** The frequencies for sequences of `length`. */
export function ropeFrequencies(config: ModelConfig, length: number): RopeFrequencies {
  const { ropeScaling: scaling, headDim } = config;
  const theta = ropeBase(config);
  const plain = plainFrequencies(theta, headDim);
  switch (scaling?.kind) {
    case undefined:
      return { frequencies: plain, factor: 1 };
    case 'linear':
      return { frequencies: plain.map((frequency) => frequency / scaling.factor), factor: 1 };
    case 'dynamic': {
      const { factor, originalLength: L } = scaling;
      const stretch = (factor * Math.max(length, L)) / L - (factor - 1);
      return { frequencies: plainFrequencies(theta * stretch ** (headDim / (headDim - 2)), headDim), factor: 1 };
    }
    case 'yarn':
      return yarn(scaling, plain, theta, headDim);
    case 'llama3':
      return { frequencies: plain.map((frequency) => llama3(scaling, frequency)), factor: 1 };
    case 'longrope':
      return longrope(scaling, plain, length, config.maxSequenceLength);
  }
}

function plainFrequencies(theta: number, headDim: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim));
}

function yarn(
  scaling: Extract<RopeScaling, { kind: 'yarn' }>,
  plain: Float64Array,
  theta: number,
  headDim: number,
): RopeFrequencies {
  const { factor, originalLength: L, betaFast = 32, betaSlow = 1, truncate = true } = scaling;
  // the pair, as a real number, that turns so often within L
  const pairOf = (turns: number) => (headDim * Math.log(L / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  let high = Math.min(truncate ? Math.ceil(slow) : slow, headDim - 1);
  if (low === high) high += 0.001; // as transformers does against a division by zero
  const frequencies = plain.map((frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
  return { frequencies, factor: scaling.attentionFactor ?? yarnFactor(scaling) };
}

/** Longer sequences flatten the softmax; this sharpens it again. */
function yarnFactor({ factor, mscale, mscaleAllDim }: Extract<RopeScaling, { kind: 'yarn' }>): number {
  const sharpen = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  return mscale && mscaleAllDim ? sharpen(mscale) / sharpen(mscaleAllDim) : sharpen(1);
}

function llama3(scaling: Extract<RopeScaling, { kind: 'llama3' }>, frequency: number): number {
  const { factor, originalLength: L, lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < L / high) return frequency;
  if (wavelength > L / low) return frequency / factor;
  const smooth = (L / wavelength - low) / (high - low);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

function longrope(
  scaling: Extract<RopeScaling, { kind: 'longrope' }>,
  plain: Float64Array,
  length: number,
  longest: number,
): RopeFrequencies {
  const { originalLength: L, factor = longest / L } = scaling;
  const isLong = length > L;
  const divisors = isLong ? scaling.longFactors : scaling.shortFactors;
  const made = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(L));
  const mscale = isLong ? scaling.longMscale : scaling.shortMscale;
  return {
    frequencies: plain.map((frequency, i) => frequency / divisors[i]),
    factor: mscale ?? scaling.attentionFactor ?? made,
  };
}
