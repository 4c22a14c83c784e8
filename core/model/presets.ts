// Named model shapes.

import type { ModelConfig } from './config.ts';

/** How a preset is trained unless something else is asked for. */
export interface Recipe {
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly learningRate: number;
}

/** A ready-made shape, what it is for, and a recipe that suits it. */
export interface Preset {
  readonly description: string;
  readonly config: ModelConfig;
  readonly recipe: Recipe;
}

const common = {
  ropeTheta: 10000,
  ropeAlpha: 1,
  normEps: 1e-5,
  tieEmbeddings: false,
  auxLossCoefficient: 0.01,
  auxLossReduction: 'perLayer',
} as const;

export const PRESETS: Readonly<Record<string, Preset>> = {
  tiny: {
    description: 'benchmarks and tests: 0.54 M parameters',
    config: {
      ...common,
      vocabSize: 1000,
      hiddenSize: 64,
      numLayers: 2,
      numHeads: 4,
      numKvHeads: 1,
      headDim: 16,
      numExperts: 4,
      topK: 2,
      expertWidth: 256,
      maxSequenceLength: 512,
    },
    recipe: { batchSize: 8, sequenceLength: 64, learningRate: 0.003 },
  },
  small: {
    description: 'benchmarks: 7.1 M parameters',
    config: {
      ...common,
      vocabSize: 1000,
      hiddenSize: 256,
      numLayers: 2,
      numHeads: 4,
      numKvHeads: 1,
      headDim: 64,
      numExperts: 4,
      topK: 2,
      expertWidth: 1024,
      maxSequenceLength: 512,
    },
    recipe: { batchSize: 8, sequenceLength: 64, learningRate: 0.001 },
  },
  default6_9b: {
    description: 'the full-size shape: 6.9 B parameters, 1.8 B active',
    config: {
      ...common,
      vocabSize: 32000,
      hiddenSize: 768,
      numLayers: 30,
      numHeads: 12,
      numKvHeads: 1,
      headDim: 64,
      numExperts: 16,
      topK: 4,
      expertWidth: 6144,
      maxSequenceLength: 32768,
      ropeAlpha: 8,
    },
    recipe: { batchSize: 1, sequenceLength: 512, learningRate: 0.0003 },
  },
  char: {
    description: 'a character model for a laptop: minutes on two cores',
    config: {
      ...common,
      vocabSize: 128,
      hiddenSize: 128,
      numLayers: 4,
      numHeads: 4,
      numKvHeads: 2,
      headDim: 32,
      numExperts: 8,
      topK: 2,
      expertWidth: 192,
      maxSequenceLength: 256,
    },
    recipe: { batchSize: 8, sequenceLength: 64, learningRate: 0.004 },
  },
  'char-mini': {
    description: 'a character model for machines without a BLAS: minutes in plain TypeScript',
    config: {
      ...common,
      vocabSize: 128,
      hiddenSize: 64,
      numLayers: 2,
      numHeads: 4,
      numKvHeads: 2,
      headDim: 16,
      numExperts: 4,
      topK: 2,
      expertWidth: 96,
      maxSequenceLength: 256,
    },
    recipe: { batchSize: 8, sequenceLength: 64, learningRate: 0.006 },
  },
  bpe: {
    description: 'a BPE model of some 10 M parameters: an hour or a night on a laptop',
    config: {
      ...common,
      vocabSize: 4096,
      hiddenSize: 256,
      numLayers: 6,
      numHeads: 8,
      numKvHeads: 2,
      headDim: 32,
      numExperts: 8,
      topK: 2,
      expertWidth: 192,
      maxSequenceLength: 512,
    },
    recipe: { batchSize: 8, sequenceLength: 128, learningRate: 0.001 },
  },
};
