// A resumed run keeps its settings: a flag that says something else is refused, not passed over.

import { GemmoeError } from '../core/errors.ts';
import type { ModelConfig } from '../core/model/config.ts';
import type { RunSettings } from '../core/training/settings.ts';
import { flagOf, type OptionName } from './options.ts';

/** Where the value of an option stands in the settings. */
const SETTING: Partial<Record<OptionName, keyof RunSettings>> = {
  initFrom: 'initFrom',
  tokenizer: 'tokenizer',
  vocabSize: 'bpeVocabSize',
  validationFraction: 'validationFraction',
  dataOrder: 'dataOrder',
  textField: 'textField',
  lossOn: 'lossOn',
  documents: 'documents',
  shuffleBlock: 'shuffleBlock',
  stream: 'stream',
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
  loraRank: 'loraRank',
  loraAlpha: 'loraAlpha',
  loraTargets: 'loraTargets',
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

/** What may change under a run: its checkpoint fits all the same, and the data are read where they would have been. */
const SAFE: ReadonlySet<OptionName> = new Set([
  ...(['data', 'validationFraction', 'optimizer', 'schedule', 'learningRate', 'clip', 'skipSpikes'] as const),
  ...([
    'routerZLoss',
    'routerJitter',
    'expertCapacity',
    'checkpointEvery',
    'precision',
    'keepF32',
    'lossScale',
  ] as const),
  ...(['evalInterval', 'evalWindows', 'sampleInterval', 'samplePrompt', 'saveInterval', 'keepLast'] as const),
]);

/** Paths with their weights. */
function sourcesOf({ data, dataWeights }: RunSettings): string[] {
  return data.map((path, i) => (dataWeights.length > 0 ? `${path}:${dataWeights[i]}` : path));
}

/**
 * Settings that flags change in a run that goes on; none without `isForced`.
 * @throws GemmoeError for the first flag whose value is not the run's and that may not change
 */
export function changedSettings(
  stored: RunSettings,
  wanted: RunSettings,
  flagged: readonly OptionName[],
  { runDirectory, isForced }: { readonly runDirectory: string; readonly isForced: boolean },
): Partial<RunSettings> {
  const changes: Partial<Record<keyof RunSettings, unknown>> = {};
  for (const option of flagged) {
    const setting = SETTING[option];
    const shape = SHAPE[option];
    const [was, is] =
      option === 'data'
        ? [sourcesOf(stored), sourcesOf(wanted)]
        : setting
          ? [stored[setting], wanted[setting]]
          : shape
            ? [stored.model[shape], wanted.model[shape]]
            : [undefined, undefined];
    if (JSON.stringify(was) === JSON.stringify(is)) continue;
    if (!isForced || !SAFE.has(option)) throw refused(option, was, is, runDirectory, isForced);
    if (option === 'data') Object.assign(changes, { data: wanted.data, dataWeights: wanted.dataWeights });
    else if (setting !== undefined) changes[setting] = wanted[setting];
  }
  return changes as Partial<RunSettings>;
}

function refused(option: OptionName, was: unknown, is: unknown, runDirectory: string, isForced: boolean): GemmoeError {
  const start = 'start a new run in another folder, with --init-from for the weights';
  const hint = SAFE.has(option)
    ? `leave the option out to go on with the run, add --force to go on with it, or ${start}`
    : `${isForced ? 'its checkpoints do not fit that, --force or not: ' : ''}leave the option out to go on with the run, or ${start}`;
  return new GemmoeError(
    'usage',
    `--${flagOf(option)} is ${JSON.stringify(is)}, but the run ${runDirectory} was made with ${JSON.stringify(was)}`,
    hint,
  );
}
