// How rope is stretched to sequences longer than a model was trained on: the settings. What they do is in rope-frequencies.ts.

import { z } from 'zod';

const positive = z.number().positive();
/** L: the length that the model was trained on. */
const originalLength = z.int().min(1);

export const RopeScalingSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('linear'), factor: positive }),
  z.strictObject({ kind: z.literal('dynamic'), factor: z.number().min(1), originalLength }),
  z.strictObject({
    kind: z.literal('yarn'),
    factor: positive,
    originalLength,
    /** Turns within L from which a pair counts as fast; 32 by default. */
    betaFast: positive.optional(),
    /** Turns within L up to which a pair counts as slow; 1 by default. */
    betaSlow: positive.optional(),
    /** Whether the ends of the ramp are whole pairs; true by default. */
    truncate: z.boolean().optional(),
    /** Factor on cosines and sines; made from the others by default. */
    attentionFactor: positive.optional(),
    mscale: z.number().optional(),
    mscaleAllDim: z.number().optional(),
  }),
  z.strictObject({
    kind: z.literal('llama3'),
    factor: positive,
    originalLength,
    lowFrequencyFactor: positive,
    highFrequencyFactor: positive,
  }),
  z.strictObject({
    kind: z.literal('longrope'),
    originalLength,
    /** Only sets the factor on cosines and sines; the longest sequence over L by default. */
    factor: positive.optional(),
    /** [d/2] */
    shortFactors: z.array(positive),
    /** [d/2] */
    longFactors: z.array(positive),
    attentionFactor: positive.optional(),
    /** Factors on cosines and sines up to L and beyond, in place of the one factor (PhiMoE). */
    shortMscale: positive.optional(),
    longMscale: positive.optional(),
  }),
]);

export type RopeScaling = z.infer<typeof RopeScalingSchema>;

/** What is wrong with a config's scaling, and what to do; undefined where nothing is. */
export function ropeScalingProblem(
  ropeScaling: RopeScaling | undefined,
  headDim: number,
): readonly [string, string] | undefined {
  if (ropeScaling?.kind === 'dynamic' && headDim <= 2) {
    return [`ropeScaling is dynamic with headDim ${headDim}`, 'NTK scaling needs a headDim above 2'];
  }
  if (ropeScaling?.kind === 'llama3' && ropeScaling.lowFrequencyFactor >= ropeScaling.highFrequencyFactor) {
    const { lowFrequencyFactor: low, highFrequencyFactor: high } = ropeScaling;
    return [`ropeScaling.lowFrequencyFactor is ${low} and highFrequencyFactor ${high}`, 'the low one must be smaller'];
  }
  if (ropeScaling?.kind !== 'longrope') return undefined;
  for (const key of ['shortFactors', 'longFactors'] as const) {
    const { length } = ropeScaling[key];
    if (length !== headDim / 2) {
      return [`ropeScaling.${key} has ${length} numbers`, `give one for each of the ${headDim / 2} pairs of a head`];
    }
  }
  return undefined;
}
