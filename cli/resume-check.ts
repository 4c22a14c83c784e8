// A resumed run keeps its settings: a flag that says something else is refused, not passed over.

import { GemmoeError } from '../core/errors.ts';
import type { ModelConfig } from '../core/model/config.ts';
import type { RunSettings } from '../core/training/settings.ts';
import { flagOf, type OptionName } from './options.ts';

/** Where the value of an option stands in the settings. */
const SETTING: Partial<Record<OptionName, keyof RunSettings>> = {
  data: 'data',
  initFrom: 'initFrom',
  tokenizer: 'tokenizer',
  vocabSize: 'bpeVocabSize',
  validationFraction: 'validationFraction',
  dataOrder: 'dataOrder',
  batchSize: 'batchSize',
  accumulate: 'accumulate',
  checkpointEvery: 'checkpointEvery',
  precision: 'precision',
  keepF32: 'keepF32',
  lossScale: 'lossScale',
  ema: 'ema',
  routerZLoss: 'routerZLoss',
  routerBias: 'routerBias',
  routerJitter: 'routerJitter',
  expertCapacity: 'expertCapacity',
  sequenceLength: 'sequenceLength',
  learningRate: 'learningRate',
  optimizer: 'optimizer',
  trainOnly: 'optimizer',
  schedule: 'schedule',
  clip: 'clipNorm',
  seed: 'seed',
  evalInterval: 'evalInterval',
  evalWindows: 'evalWindows',
  skipSpikes: 'skipSpikes',
  samplePrompt: 'samplePrompts',
  sampleInterval: 'sampleInterval',
  saveInterval: 'saveInterval',
  keepLast: 'keepLast',
};

/** Where it stands in the model's shape. */
const SHAPE: Partial<Record<OptionName, keyof ModelConfig>> = {
  hiddenSize: 'hiddenSize',
  layers: 'numLayers',
  heads: 'numHeads',
  kvHeads: 'numKvHeads',
  headDim: 'headDim',
  experts: 'numExperts',
  expertsPerToken: 'topK',
  expertWidth: 'expertWidth',
  maxSequenceLength: 'maxSequenceLength',
  ropeTheta: 'ropeTheta',
  ropeAlpha: 'ropeAlpha',
  auxLoss: 'auxLossCoefficient',
  auxLossReduction: 'auxLossReduction',
};

/** @throws GemmoeError for the first flag whose value is not the run's */
export function refuseOtherSettings(
  stored: RunSettings,
  wanted: RunSettings,
  flagged: readonly OptionName[],
  runDirectory: string,
): void {
  for (const option of flagged) {
    const setting = SETTING[option];
    const shape = SHAPE[option];
    const [was, is] = setting
      ? [stored[setting], wanted[setting]]
      : shape
        ? [stored.model[shape], wanted.model[shape]]
        : [undefined, undefined];
    if (JSON.stringify(was) === JSON.stringify(is)) continue;
    throw new GemmoeError(
      'usage',
      `--${flagOf(option)} is ${JSON.stringify(is)}, but the run ${runDirectory} was made with ${JSON.stringify(was)}`,
      'leave the option out to go on with the run, or start a new one in another folder',
    );
  }
}
