// gemmoe train: a new run, or one taken up again.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { GemmoeError, messageOf } from '../../core/errors.ts';
import { readModelConfig } from '../../core/formats/hugging-face.ts';
import type { ModelConfig } from '../../core/model/config.ts';
import { PRESETS, type Recipe } from '../../core/model/presets.ts';
import { modelDirectoryOf } from '../../core/training/checkpoint.ts';
import type { RunSummary } from '../../core/training/events.ts';
import { planRun, resume, type ResumeOptions, train as trainRun } from '../../core/training/run.ts';
import { readRunSettings } from '../../core/training/run-folder.ts';
import { measurePeakRate } from '../../core/training/peak-rate.ts';
import { allOf } from '../../core/training/observers.ts';
import { TensorBoardLog, tensorBoardFolder } from '../../core/training/tensorboard.ts';
import type { RunServices } from '../../core/training/run-parts.ts';
import { LORA_TARGETS, type RunSettings } from '../../core/training/settings.ts';
import type { Command, CommandContext, ExitCode } from '../command.ts';
import { shapeFrom } from '../model-shape.ts';
import { changedSettings } from '../resume-check.ts';
import { learningRateFor, scheduleFor, trainingOnly } from '../optimizer-defaults.ts';
import { dataFrom } from '../data-sources.ts';
import { chosenTokenizer } from '../tokenizer-choice.ts';
import type { OptionValues } from '../options.ts';
import { writeReport } from '../report/write-report.ts';
import { memoryOfProcess } from '../memory.ts';
import { startServices } from '../services.ts';
import { printCommand, type Terminal } from '../terminal.ts';
import { planLines, summaryLines, TrainView } from '../train-view.ts';

/** Vocabulary of a bpe tokenizer. */
const DEFAULT_VOCABULARY = 4096;
/** Seconds of a run whose steps are not said. */
const DEFAULT_DURATION = 120;
/** How a model that exists is trained further: gently, or it forgets what it knows. */
const TUNING: Recipe = { batchSize: 8, sequenceLength: 128, learningRate: 0.0003 };
/** Vocabulary that stands in until the tokenizer is known. */
const UNKNOWN_VOCABULARY = 1;

/** The preset that is trained when none is named: without a BLAS, one that plain TypeScript can train in minutes. */
function defaultPreset(backend: string): string {
  return backend === 'reference' ? 'char-mini' : 'char';
}

/** Shape and recipe out of preset or model directory, and the options that change them. */
function chooseModel(context: CommandContext, backend: string): { model: ModelConfig; recipe: Recipe; name: string } {
  const { options, cwd } = context;
  if (options.initFrom !== undefined) {
    const { config } = readModelConfig(modelDirectoryOf(resolve(cwd, options.initFrom)));
    refuseShapeOptions(options);
    const sequenceLength = Math.min(TUNING.sequenceLength, config.maxSequenceLength);
    return { model: config, recipe: { ...TUNING, sequenceLength }, name: 'tuned' };
  }
  const name = options.preset ?? defaultPreset(backend);
  const { config, recipe } = PRESETS[name];
  // a model is good at the lengths it was trained on
  const maxSequenceLength = options.maxSequenceLength ?? options.sequenceLength ?? recipe.sequenceLength;
  const model = shapeFrom(options, { ...config, vocabSize: UNKNOWN_VOCABULARY, maxSequenceLength });
  return { model, recipe, name };
}

function refuseShapeOptions(options: OptionValues): void {
  const shape = [
    ...(['preset', 'hiddenSize', 'layers', 'heads', 'kvHeads', 'headDim', 'experts', 'expertsPerToken'] as const),
    ...(['expertWidth', 'maxSequenceLength', 'ropeTheta', 'ropeAlpha', 'auxLoss', 'auxLossReduction'] as const),
  ];
  const given = shape.find((name) => options[name] !== undefined);
  if (given === undefined) return;
  throw new GemmoeError(
    'usage',
    `${given} cannot be changed with --init-from`,
    'the shape is that of the loaded model',
  );
}

/** The settings of a run out of all options, and the name of what is trained. @throws GemmoeError for what cannot be */
export function settingsFrom(context: CommandContext, services: RunServices): { settings: RunSettings; name: string } {
  const { options, cwd } = context;
  const { backend, optimizers } = services;
  const { model, recipe, name } = chooseModel(context, backend.name);
  const initFrom = options.initFrom === undefined ? null : modelDirectoryOf(resolve(cwd, options.initFrom));
  const tokenizer = chosenTokenizer(options, cwd);
  const settings: RunSettings = {
    model,
    initFrom,
    ...dataFrom(options.data, cwd),
    textField: options.textField,
    lossOn: options.lossOn,
    tokenizer: initFrom !== null && options.tokenizer === undefined ? join(initFrom, 'tokenizer.json') : tokenizer,
    bpeVocabSize: options.vocabSize ?? DEFAULT_VOCABULARY,
    validationFraction: options.validationFraction,
    dataOrder: options.dataOrder,
    documents: options.documents,
    shuffleBlock: options.shuffleBlock,
    stream: options.stream,
    batchSize: options.batchSize ?? recipe.batchSize,
    accumulate: options.accumulate,
    checkpointEvery: options.checkpointEvery,
    precision: options.precision,
    keepF32: options.keepF32,
    lossScale: options.lossScale,
    ema: options.ema,
    routerZLoss: options.routerZLoss,
    routerBias: options.routerBias,
    routerJitter: options.routerJitter,
    expertCapacity: options.expertCapacity,
    ...loraFrom(options),
    sequenceLength: options.sequenceLength ?? recipe.sequenceLength,
    steps: options.steps ?? 1,
    optimizer: trainingOnly(options.optimizer, options.trainOnly),
    schedule: options.schedule ?? scheduleFor(options.optimizer, optimizers),
    learningRate: options.learningRate ?? learningRateFor(options.optimizer, optimizers, recipe.learningRate),
    clipNorm: options.clip,
    seed: options.seed,
    evalInterval: options.evalInterval ?? null,
    evalWindows: options.evalWindows,
    patience: options.patience,
    minDelta: options.minDelta,
    skipSpikes: options.skipSpikes,
    samplePrompts: options.samplePrompt,
    sampleInterval: options.sampleInterval ?? null,
    saveInterval: options.saveInterval ?? null,
    keepLast: options.keepLast,
    plugins: options.plugin.map((specifier) =>
      existsSync(resolve(cwd, specifier)) ? resolve(cwd, specifier) : specifier,
    ),
    backend: options.backend === 'auto' ? backend.name : options.backend,
  };
  return { settings, name };
}

/** What is said of an adapter. @throws GemmoeError where there is to be none */
function loraFrom({ loraRank, loraAlpha, loraTargets }: OptionValues) {
  const isTargeted = loraTargets.length > 0;
  if (loraRank === 0 && (loraAlpha !== undefined || isTargeted)) {
    const what = isTargeted ? `--lora-targets ${loraTargets.join(' ')}` : `--lora-alpha ${loraAlpha}`;
    throw new GemmoeError('usage', `${what} says something of an adapter, but none is trained`, 'add --lora-rank 8');
  }
  return { loraRank, loraAlpha: loraAlpha ?? null, loraTargets: isTargeted ? [...loraTargets] : [...LORA_TARGETS] };
}

/** The run that --resume means: a folder, or the newest under runs/. */
function resumedRun({ options, cwd }: CommandContext): string | undefined {
  if (options.resume === undefined) return undefined;
  if (options.resume !== 'auto') return resolve(cwd, options.resume);
  const parent = options.out === undefined ? resolve(cwd, 'runs') : resolve(cwd, options.out, '..');
  if (options.out !== undefined) {
    return existsSync(join(resolve(cwd, options.out), 'run.json')) ? resolve(cwd, options.out) : undefined;
  }
  if (!existsSync(parent)) return undefined;
  const runs = readdirSync(parent)
    .map((name) => join(parent, name))
    .filter((path) => existsSync(join(path, 'run.json')))
    .sort((a, b) => statSync(join(a, 'run.json')).mtimeMs - statSync(join(b, 'run.json')).mtimeMs);
  return runs.at(-1);
}

/** A resumed run uses the backend and plugins it was made with, unless others are named. */
function withStored(options: OptionValues, stored: RunSettings): OptionValues {
  const backend = options.backend === 'auto' ? stored.backend : options.backend;
  return { ...options, backend, plugin: [...new Set([...stored.plugins, ...options.plugin])] };
}

/** What holds a run in bounds: time, memory, and how fast this machine multiplies. */
function boundsOf({ options }: CommandContext, { backend, kernels }: RunServices, { precision }: RunSettings) {
  const products = precision === 'bf16' ? (backend.bf16 ?? kernels) : kernels;
  return {
    maxSeconds: options.maxTime,
    memoryLimit: options.force ? undefined : memoryOfProcess(),
    peakRate: measurePeakRate(products),
  };
}

/** What a resumed run may do otherwise than it was made to. */
function changesOf({ options, flagged }: CommandContext): ResumeOptions {
  return {
    ...(options.steps !== undefined && { steps: options.steps }),
    ...(flagged.includes('patience') && { patience: options.patience }),
    ...(flagged.includes('minDelta') && { minDelta: options.minDelta }),
  };
}

/** Options of which one would be passed over in silence. */
function refuseContradictions(options: OptionValues): void {
  const { steps, duration, dryRun, resume: resumed, vocabSize } = options;
  const tokenizer = chosenTokenizer(options, '.');
  const both = (a: string, b: string) => new GemmoeError('usage', `${a} and ${b} are both given`, 'give one of them');
  if (steps !== undefined && duration !== undefined) throw both('--steps', '--duration');
  if (dryRun && resumed !== undefined) throw both('--dry-run', '--resume');
  if (vocabSize === undefined || tokenizer === 'bpe') return;
  throw new GemmoeError(
    'usage',
    `--vocab-size is for a bpe tokenizer, but the tokenizer is ${tokenizer}`,
    'add --tokenizer bpe, or leave --vocab-size out',
  );
}

/** Writes the report; one that cannot be written is said, and stops no run. */
function reporterOf(directory: string, terminal: Terminal): () => void {
  return () => {
    try {
      writeReport(directory);
    } catch (error) {
      terminal.note(`the report could not be written: ${messageOf(error)}`);
    }
  };
}

function timestamp(): string {
  const now = new Date();
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `${day}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}

/** Why a run has ended before its last step. */
const REASONS = {
  patience: 'stopped early: validation gained no more',
  time: 'stopped because the time was up',
} as const;

function finish(summary: RunSummary, { terminal, cwd }: CommandContext, view: TrainView): ExitCode {
  const folder = relative(cwd, summary.runDirectory) || '.';
  const shown = folder.startsWith('..') ? summary.runDirectory : folder;
  terminal.result(summary);
  if (summary.interrupted) {
    printCommand(terminal, `stopped after step ${summary.steps}, saved. Go on with`, `train --resume ${shown}`);
    return 130;
  }
  for (const line of summaryLines(summary, terminal.columns, view.curve())) terminal.print(line);
  if (summary.stoppedBy !== null) {
    terminal.print();
    printCommand(
      terminal,
      `${REASONS[summary.stoppedBy]}. Go on with`,
      `train --resume ${shown}${summary.stoppedBy === 'patience' ? ' --patience 0' : ''}`,
    );
  }
  terminal.print();
  terminal.print(`${shown}/`);
  terminal.print(
    `  model/         the model as a Hugging Face directory${summary.adapterDirectory ? ', adapter merged' : ''}`,
  );
  if (summary.adapterDirectory) terminal.print('  adapter/       the adapter by itself, in PEFT’s format');
  terminal.print('  report.html    curves, expert load, samples');
  terminal.print('  metrics.jsonl  every step; checkpoints/ to go on from');
  printCommand(terminal, 'write more with', `generate --model ${shown} --prompt "..."`);
  return 0;
}

async function startNew(context: CommandContext, services: RunServices): Promise<ExitCode> {
  const { options, terminal, cwd, signal } = context;
  const { settings, name } = settingsFrom(context, services);
  const directory = resolve(cwd, options.out ?? join('runs', `${name}-${timestamp()}`));
  const seconds = options.duration ?? Math.min(DEFAULT_DURATION, options.maxTime ?? Infinity);
  const horizon = { ...(options.steps === undefined && { seconds }), ...boundsOf(context, services, settings) };
  if (options.dryRun) {
    const plan = await planRun(settings, directory, services, horizon);
    for (const line of planLines(plan)) terminal.print(line);
    for (const note of plan.notes) terminal.print(`note: ${note}`);
    terminal.result(plan);
    return 0;
  }
  const report = reporterOf(directory, terminal);
  const view = new TrainView(terminal, report, options.maxTime);
  using events = options.tensorboard ? new TensorBoardLog() : undefined;
  view.preparing();
  const observer = allOf(events ? [view, events] : [view]);
  const summary = await trainRun(settings, directory, services, observer, { signal, ...horizon });
  terminal.clearLive();
  report();
  return finish(summary, context, view);
}

export const train: Command = {
  name: 'train',
  summary: 'train a model on text, or continue a run',
  options: [
    ...(['data', 'out', 'resume', 'dryRun', 'duration', 'steps'] as const),
    ...([
      'preset',
      'initFrom',
      'batchSize',
      'sequenceLength',
      'learningRate',
      'optimizer',
      'trainOnly',
      'loraRank',
      'loraAlpha',
      'loraTargets',
      'schedule',
      'clip',
    ] as const),
    ...(['accumulate', 'checkpointEvery', 'ema', 'precision', 'keepF32', 'lossScale'] as const),
    ...(['routerZLoss', 'routerBias', 'routerJitter', 'expertCapacity'] as const),
    ...([
      'tokenizer',
      'vocabSize',
      'validationFraction',
      'dataOrder',
      'textField',
      'lossOn',
      'documents',
      'shuffleBlock',
      'stream',
    ] as const),
    ...(['hiddenSize', 'layers', 'heads', 'kvHeads', 'headDim', 'experts', 'expertsPerToken', 'expertWidth'] as const),
    ...(['maxSequenceLength', 'ropeTheta', 'ropeAlpha', 'auxLoss', 'auxLossReduction'] as const),
    ...(['evalInterval', 'evalWindows', 'sampleInterval', 'samplePrompt', 'saveInterval', 'keepLast'] as const),
    ...(['patience', 'minDelta', 'maxTime', 'skipSpikes', 'tensorboard', 'force'] as const),
    ...(['seed', 'backend', 'plugin'] as const),
  ],
  examples: [
    'gemmoe train',
    'gemmoe train --data book.txt --duration 10m',
    'gemmoe train --data texts/ --tokenizer bpe --preset bpe --steps 5000 --out runs/mine',
    'gemmoe train --data book.txt:3 --data notes.jsonl:1 --text-field body',
    'gemmoe train --init-from DIR --lora-rank 8 --data notes.txt',
    'gemmoe train --resume runs/mine',
  ],
  stopsGently: true,
  async run(context) {
    const { options, terminal, signal } = context;
    refuseContradictions(options);
    const directory = resumedRun(context);
    if (directory === undefined) {
      using services = await startServices(context);
      return await startNew(context, services);
    }
    const stored = readRunSettings(directory);
    using services = await startServices({ ...context, options: withStored(options, stored) });
    const { force: isForced } = options;
    const { settings: wanted } = settingsFrom(context, services);
    const changes = changedSettings(stored, wanted, context.flagged, { runDirectory: directory, isForced });
    const report = reporterOf(directory, terminal);
    const view = new TrainView(terminal, report, options.maxTime);
    const hasEvents = options.tensorboard || existsSync(tensorBoardFolder(directory));
    using events = hasEvents ? new TensorBoardLog() : undefined;
    view.preparing();
    const observer = allOf(events ? [view, events] : [view]);
    const summary = await resume(directory, services, observer, {
      signal,
      ...changesOf(context),
      ...boundsOf(context, services, stored),
      changes,
      otherData: isForced,
    });
    terminal.clearLive();
    report();
    return finish(summary, context, view);
  },
};
