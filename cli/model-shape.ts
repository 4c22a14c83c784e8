// The shape of a new model: a preset, and the options that change it.

import { GemmoeError } from '../core/errors.ts';
import { type ModelConfig, parseModelConfig } from '../core/model/config.ts';
import type { OptionValues } from './options.ts';

/** `base` with what the options say instead; its longest sequence stays. @throws GemmoeError (usage) for sizes that do not fit */
export function shapeFrom(options: OptionValues, base: ModelConfig): ModelConfig {
  const hiddenSize = options.hiddenSize ?? base.hiddenSize;
  const numHeads = options.heads ?? base.numHeads;
  return parseShape({
    ...base,
    hiddenSize,
    numHeads,
    numLayers: options.layers ?? base.numLayers,
    numKvHeads:
      options.kvHeads ?? (options.heads === undefined ? base.numKvHeads : Math.min(numHeads, base.numKvHeads)),
    headDim: options.headDim ?? headDimFor(options, hiddenSize, numHeads, base.headDim),
    numExperts: options.experts ?? base.numExperts,
    topK: options.expertsPerToken ?? Math.min(base.topK, options.experts ?? base.numExperts),
    expertWidth: options.expertWidth ?? base.expertWidth,
    ropeTheta: options.ropeTheta ?? base.ropeTheta,
    ropeAlpha: options.ropeAlpha ?? base.ropeAlpha,
    auxLossCoefficient: options.auxLoss ?? base.auxLossCoefficient,
    auxLossReduction: options.auxLossReduction ?? base.auxLossReduction,
  });
}

/** A shape that the options cannot mean is a usage error. */
function parseShape(shape: ModelConfig): ModelConfig {
  try {
    return parseModelConfig(shape, 'model options');
  } catch (error) {
    if (!(error instanceof GemmoeError)) throw error;
    throw new GemmoeError('usage', error.message, error.hint, { cause: error });
  }
}

/** Heads share the hidden size when either was changed. @throws GemmoeError when they do not divide it */
function headDimFor(options: OptionValues, hiddenSize: number, numHeads: number, standard: number): number {
  if (options.hiddenSize === undefined && options.heads === undefined) return standard;
  if (hiddenSize % numHeads === 0) return hiddenSize / numHeads;
  throw new GemmoeError(
    'usage',
    `${numHeads} heads do not divide the hidden size ${hiddenSize}`,
    'choose numbers that divide, or say the size of a head with --head-dim',
  );
}
