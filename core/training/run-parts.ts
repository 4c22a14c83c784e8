// From settings to the parts of a run: corpus, model, optimizer, schedule, batches.

import type { MatmulBackend } from '../backend.ts';
import { parseOptionsText, parseSpec } from '../config.ts';
import { BatchSampler } from '../data/batches.ts';
import { type Corpus, openCorpus } from '../data/corpus.ts';
import { GemmoeError } from '../errors.ts';
import { loadModel, readModelConfig } from '../formats/hugging-face.ts';
import type { Kernels } from '../kernels.ts';
import { KEPT_IN_F32, MixedPrecision } from '../model/mixed-precision.ts';
import { ParameterStore } from '../model/parameters.ts';
import { Transformer } from '../model/transformer.ts';
import type {
  Optimizer,
  OptimizerContribution,
  SamplerContribution,
  Schedule,
  SchedulerContribution,
} from '../plugin.ts';
import type { Registry } from '../registry.ts';
import { withEma } from './ema.ts';
import { stateBytes } from './plan.ts';
import { parseRunSettings } from './run-folder.ts';
import { samplePrompts } from './run-samples.ts';
import { type RunSettings, sequencesPerStep, withIntervals } from './settings.ts';
import { Trainer, type TrainerOptions } from './trainer.ts';

/** What a run is computed with; a container or `createGemmoe` gives them. */
export interface RunServices {
  readonly backend: MatmulBackend;
  readonly kernels: Kernels;
  readonly optimizers: Registry<OptimizerContribution>;
  readonly schedulers: Registry<SchedulerContribution>;
  readonly samplers: Registry<SamplerContribution>;
}

/** The parts of a run, ready for its first step. */
export interface RunParts {
  readonly settings: ReturnType<typeof withIntervals>;
  readonly services: RunServices;
  readonly corpus: Corpus;
  readonly model: Transformer;
  /** config.json of the model that training started from. */
  readonly original: Record<string, unknown> | undefined;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly sampler: BatchSampler;
}

/**
 * Opens the data and makes everything that training needs; nothing is written.
 * @param seconds chooses `steps` so that the run takes about this long
 * @param checkpoint directory that the weights come from; the optimizer's state is left to the caller
 */
export async function assembleRun(
  wanted: RunSettings,
  services: RunServices,
  seconds: number | undefined,
  checkpoint?: string,
): Promise<RunParts> {
  const draft = parseRunSettings(wanted);
  const corpus = await openCorpus(draft);
  try {
    const from = checkpoint ?? draft.initFrom;
    const load = (path: string) => loadModel(path, services.kernels, { selectionBias: draft.routerBias > 0 });
    const { model, original } = from
      ? load(from)
      : { model: new Transformer(withVocabulary(draft, corpus).model, services.kernels), original: undefined };
    if (!from) model.initialise(draft.seed);
    checkVocabulary(model, corpus, from);
    let settings = { ...draft, model: model.config };
    checkLength(settings);
    checkStep(settings, model);
    samplePrompts(settings, corpus);
    const sampler = createSampler(settings, corpus);
    if (seconds !== undefined) {
      settings = { ...settings, steps: calibrateSteps(settings, services, model, sampler, corpus, seconds) };
      // the throw-away steps have moved the weights
      if (from) model.parameters.copyFrom(load(from).model.parameters);
      else model.initialise(settings.seed);
    }
    const optimizer = createOptimizer(settings, services, model.parameters);
    const schedule = createSchedule(settings, services);
    return { settings: withIntervals(settings), services, corpus, model, original, optimizer, schedule, sampler };
  } catch (error) {
    corpus.close();
    throw error;
  }
}

/** Weights of a model that a plan may make to time its steps: 256 MiB in float32. */
const TIMED_PARAMETERS = 2 ** 26;

/** What a plan shows of a run. */
export interface RunOutline {
  readonly settings: RunSettings;
  readonly corpus: Corpus;
  readonly model: Transformer;
  readonly optimizerBytes: number;
  readonly notes: readonly string[];
}

/** The sizes of a run, without its weights; the steps that fit `seconds` are found for models of a size that can be tried. */
export async function outlineRun(
  wanted: RunSettings,
  services: RunServices,
  seconds: number | undefined,
): Promise<RunOutline> {
  const draft = parseRunSettings(wanted);
  const corpus = await openCorpus(draft);
  try {
    const { initFrom } = draft;
    const config = initFrom ? readModelConfig(initFrom).config : withVocabulary(draft, corpus).model;
    const model = new Transformer(config, services.kernels);
    checkVocabulary(model, corpus, initFrom);
    const settings = { ...draft, model: model.config };
    checkLength(settings);
    checkStep(settings, model);
    samplePrompts(settings, corpus);
    createSampler(settings, corpus);
    createSchedule(settings, services);
    const optimizerBytes = estimateStateBytes(settings, services, model);
    if (seconds === undefined) return { settings, corpus, model, optimizerBytes, notes: [] };
    if (model.parameters.total <= TIMED_PARAMETERS) {
      const run = await assembleRun(draft, services, seconds);
      run.corpus.close();
      return { settings: run.settings, corpus, model, optimizerBytes, notes: [] };
    }
    const notes = [`a model of this size is not timed for a plan: shown for ${settings.steps} step; give --steps`];
    return { settings, corpus, model, optimizerBytes, notes };
  } catch (error) {
    corpus.close();
    throw error;
  }
}

/** Longest side of the tensors that an optimizer's state is measured on. */
const SAMPLE_SIDE = 16;

/** Bytes of an optimizer's state for a model that is not allocated: its share of the weights, measured on small tensors. */
function estimateStateBytes(settings: RunSettings, services: RunServices, model: Transformer): number {
  const store = new ParameterStore(model.dtype);
  for (const { name, role, shape } of model.parameters.parameters) {
    store.declare(
      name,
      role,
      shape.map((side) => Math.min(side, SAMPLE_SIDE)),
    );
  }
  const optimizer = createOptimizer(settings, services, store);
  return Math.round((stateBytes(optimizer) / store.data.byteLength) * model.parameters.total * BYTES[model.dtype]);
}

const BYTES = { f32: 4, f64: 8 } as const;

function createSampler(settings: RunSettings, corpus: Corpus): BatchSampler {
  const { sequenceLength, dataOrder: order, seed } = settings;
  return new BatchSampler(corpus.train, { batchSize: sequencesPerStep(settings), sequenceLength, order, seed });
}

function withVocabulary(settings: RunSettings, corpus: Corpus): RunSettings {
  const bias = settings.routerBias > 0 && settings.model.numExperts > 1 ? { selectionBias: true } : {};
  return { ...settings, model: { ...settings.model, ...bias, vocabSize: corpus.tokenizer.vocabSize } };
}

/** @throws GemmoeError for settings of a precision that is not the run's, and for names that no parameter has */
function checkPrecision({ precision, keepF32, lossScale }: RunSettings, model: Transformer): void {
  const refuse = (setting: string, fitting: string): never => {
    throw new GemmoeError('bad-config', `${setting}, but precision is ${precision}`, `leave it out, or use ${fitting}`);
  };
  if (precision !== 'fp16' && lossScale !== 'dynamic') refuse(`lossScale is ${lossScale}`, 'precision fp16');
  if (precision !== 'f32') new MixedPrecision(model.parameters, model.kernels, { format: precision, keep: keepF32 });
  else if (keepF32.join() !== KEPT_IN_F32.join()) refuse(`keepF32 is ${keepF32.join(', ')}`, 'precision bf16 or fp16');
}

/** Settings of the routers, which a dense model has none of. */
const ROUTER_SETTINGS = ['routerZLoss', 'routerBias', 'routerJitter', 'expertCapacity'] as const;

/** @throws GemmoeError for settings of the step that do not fit the model */
function checkStep(settings: RunSettings, model: Transformer): void {
  model.trainingBytes(1, 1, settings.checkpointEvery); // refuses a number that fits no segment
  checkPrecision(settings, model);
  const useless = ROUTER_SETTINGS.find((name) => settings[name] > 0);
  if (useless === undefined || model.routing) return;
  throw new GemmoeError(
    'bad-config',
    `${useless} is ${settings[useless]}, but the model is dense and has no router`,
    'leave it at 0, or train a model with more than one expert',
  );
}

function checkVocabulary(model: Transformer, corpus: Corpus, from: string | null): void {
  if (model.config.vocabSize >= corpus.tokenizer.vocabSize) return;
  throw new GemmoeError(
    'bad-config',
    `the tokenizer has ${corpus.tokenizer.vocabSize} ids, the model in ${from} only ${model.config.vocabSize}`,
    'use the tokenizer.json that belongs to the model: --tokenizer FILE',
  );
}

function checkLength(settings: RunSettings): void {
  const longest = settings.model.maxSequenceLength;
  if (settings.sequenceLength <= longest) return;
  throw new GemmoeError(
    'bad-config',
    `sequenceLength is ${settings.sequenceLength}, longer than the model's maxSequenceLength of ${longest}`,
    'shorten the sequences, or raise the longest sequence of the model',
  );
}

function createOptimizer(settings: RunSettings, services: RunServices, store: ParameterStore): Optimizer {
  const spec = parseSpec(settings.optimizer);
  const contribution = services.optimizers.get(spec.name);
  const optimizer = contribution.create(parseOptionsText(contribution, spec.rest), {
    store,
    kernels: services.kernels,
    totalSteps: settings.steps,
  });
  return settings.ema > 0 ? withEma(optimizer, store, settings.ema) : optimizer;
}

function createSchedule(settings: RunSettings, services: RunServices): Schedule {
  const spec = parseSpec(settings.schedule);
  const contribution = services.schedulers.get(spec.name);
  const schedule = contribution.create(parseOptionsText(contribution, spec.rest), {
    learningRate: settings.learningRate,
    totalSteps: settings.steps,
  });
  return checkedSchedule(spec.name, schedule);
}

/** A schedule that throws where a plugin's would destroy the weights with a rate that is none. */
function checkedSchedule(name: string, schedule: Schedule): Schedule {
  const rateOf = (step: number) => {
    const rate = schedule(step);
    if (rate >= 0 && rate < Infinity) return rate;
    throw new GemmoeError(
      'plugin',
      `the schedule ${name} gives a learning rate of ${rate} at step ${step}`,
      'a rate is a number of 0 or more: correct the schedule or its options',
    );
  };
  const { momentum } = schedule;
  return momentum ? Object.assign(rateOf, { momentum }) : rateOf;
}

/** Steps that are timed at most; fewer when they take more than a share of the run. */
const CALIBRATION_STEPS = 20;
const CALIBRATION_SHARE = 0.05;
/** Share of the time that is kept for training, however long validation takes. */
const LEAST_TRAINING = 0.3;
/** A forward pass takes about this share of a training step. */
const FORWARD = 1 / 3;
/** What validations at intervals, samples and checkpoints take, as a share of training. */
const OVERHEAD = 0.1;

/** Steps that fit `seconds` with the last validation behind them, by the median of a few that are thrown away. */
function calibrateSteps(
  settings: RunSettings,
  services: RunServices,
  model: Transformer,
  sampler: BatchSampler,
  corpus: Corpus,
  seconds: number,
): number {
  const { batchSize, sequenceLength } = settings;
  const optimizer = createOptimizer(settings, services, model.parameters);
  const trainer = new Trainer(model, optimizer, () => 1e-6, trainerOptions(settings, services));
  const { ids, targets } = batchBuffers(settings);
  const times: number[] = [];
  const begin = performance.now();
  for (let step = 1; step <= CALIBRATION_STEPS; step++) {
    const start = performance.now();
    sampler.fill(step, ids, targets);
    trainer.step(ids, targets, batchSize, sequenceLength);
    times.push(performance.now() - start);
    if (performance.now() - begin > CALIBRATION_SHARE * seconds * 1000) break;
  }
  // the first ones also compile the kernels
  const warm = times.slice(Math.floor(times.length / 2)).sort((a, b) => a - b);
  const median = warm[Math.floor(warm.length / 2)];
  const validation = (corpus.validation.length / ids.length) * median * FORWARD;
  const budget = Math.max(LEAST_TRAINING * seconds * 1000, seconds * 1000 - validation) * (1 - OVERHEAD);
  return Math.max(10, Math.floor(budget / median / 10) * 10);
}

/** What the settings say about how a step is computed. */
export function trainerOptions(settings: RunSettings, { backend }: RunServices): TrainerOptions {
  const { clipNorm, accumulate, checkpointEvery, seed } = settings;
  const { routerZLoss: zLoss, routerJitter: jitter, expertCapacity: capacityFactor, routerBias: biasRate } = settings;
  const { precision: format, keepF32: keep, lossScale, skipSpikes } = settings;
  const precision = format === 'f32' ? undefined : { format, keep, native: backend.bf16 };
  const routing = { zLoss, jitter, capacityFactor };
  return { clipNorm, accumulate, checkpointEvery, seed, biasRate, routing, precision, lossScale, skipSpikes };
}

/** Buffers of one step: all its micro-batches. */
export function batchBuffers(settings: RunSettings): { ids: Int32Array; targets: Int32Array } {
  const rows = sequencesPerStep(settings) * settings.sequenceLength;
  return { ids: new Int32Array(rows), targets: new Int32Array(rows) };
}
