// From settings to the parts of a run: corpus, model, optimizer, schedule, batches.

import type { MatmulBackend } from '../backend.ts';
import { parseOptionsText, parseSpec } from '../config.ts';
import { BatchSampler, validationWindows } from '../data/batches.ts';
import { type Corpus, type CorpusOptions, openCorpus } from '../data/corpus.ts';
import { GemmoeError } from '../errors.ts';
import { restoreAdapter } from '../formats/adapter.ts';
import { loadModel, readModelConfig } from '../formats/hugging-face.ts';
import type { Kernels } from '../kernels.ts';
import type { LoraAdapter } from '../model/lora.ts';
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
import { ELEMENT_BYTES } from '../tensor/dtype.ts';
import { expectedSeconds, FORWARD_SHARE, stepsThatFit, timeSteps } from './calibration.ts';
import { withEma } from './ema.ts';
import { adapterOf, withAdapter } from './lora.ts';
import { fits, refuseTooLarge } from './memory-limit.ts';
import { memoryOf, stateBytes } from './plan.ts';
import { parseRunSettings } from './run-folder.ts';
import { samplePrompts } from './run-samples.ts';
import { documentRows, type RunSettings, sequencesPerStep, withIntervals } from './settings.ts';
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
  /** What is trained in place of the model's weights, where anything is. */
  readonly adapter: LoraAdapter | undefined;
  /** config.json of the model that training started from. */
  readonly original: Record<string, unknown> | undefined;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly sampler: BatchSampler;
  /** Of the whole run, where steps were timed. */
  readonly expectedSeconds: number | null;
}

/** What steps are timed with. */
type Timed = Pick<RunParts, 'services' | 'model' | 'adapter' | 'sampler'> & { readonly settings: RunSettings };

export interface AssembleOptions {
  /** Chooses `steps` so that the run takes about this long. */
  readonly seconds?: number | undefined;
  /** Directory that the weights, or those of the adapter, come from; the optimizer's state is left to the caller. */
  readonly checkpoint?: string | undefined;
  /** Bytes that the process may have; a run that needs more is refused before it takes them. */
  readonly memoryLimit?: number | undefined;
  /** Times steps even where their number is given. */
  readonly isTimed?: boolean;
}

/** Opens the data and makes everything that training needs; nothing is written. */
export async function assembleRun(
  wanted: RunSettings,
  services: RunServices,
  options: AssembleOptions = {},
): Promise<RunParts> {
  const { seconds, checkpoint, memoryLimit, isTimed = false } = options;
  const draft = parseRunSettings(wanted);
  const corpus = await openCorpus(corpusOptions(draft));
  try {
    const from = draft.loraRank > 0 ? draft.initFrom : (checkpoint ?? draft.initFrom);
    if (memoryLimit !== undefined) {
      const sizes = sizesOf(draft, services, corpus, from);
      refuseTooLarge(memoryOf({ ...sizes, backend: services.backend }), memoryLimit);
    }
    const load = (path: string) => loadModel(path, services.kernels, { selectionBias: draft.routerBias > 0 });
    const { model, original } = from
      ? load(from)
      : { model: new Transformer(withVocabulary(draft, corpus).model, services.kernels), original: undefined };
    if (!from) model.initialise(draft.seed);
    checkVocabulary(model, corpus, from);
    let settings = { ...draft, model: model.config };
    checkLength(settings);
    checkStep(settings, model);
    const adapter = adapterOf(settings, model);
    adapter?.initialise(settings.seed);
    samplePrompts(settings, corpus);
    const sampler = createSampler(settings, corpus);
    let expected: number | null = null;
    if (seconds !== undefined || isTimed) {
      const time = timeStepsOf({ settings, services, model, adapter, sampler }, seconds ?? DEFAULT_HORIZON);
      const validation = validationTime(settings, corpus, time);
      const steps = seconds === undefined ? settings.steps : stepsThatFit(seconds, time, validation);
      settings = { ...settings, steps };
      expected = expectedSeconds(steps, time, validation);
      // the throw-away steps have moved what is trained
      adapter?.unmerge();
      if (adapter) adapter.initialise(settings.seed);
      else if (from) model.parameters.copyFrom(load(from).model.parameters);
      else model.initialise(settings.seed);
    }
    if (adapter && checkpoint !== undefined) restoreAdapter(checkpoint, adapter);
    const optimizer = createOptimizer(settings, services, model, adapter);
    const schedule = createSchedule(settings, services);
    return {
      ...{
        settings: withIntervals(settings),
        services,
        corpus,
        model,
        adapter,
        original,
        optimizer,
        schedule,
        sampler,
      },
      expectedSeconds: expected,
    };
  } catch (error) {
    corpus.close();
    throw error;
  }
}

/** Weights of a model that a plan may make to time its steps: 256 MiB in float32. */
const TIMED_PARAMETERS = 2 ** 26;
/** Seconds of a run whose length nobody said: timing its steps takes a share of them. */
const DEFAULT_HORIZON = 40;

/** What a plan shows of a run. */
export interface RunOutline {
  readonly settings: RunSettings;
  readonly corpus: Corpus;
  readonly model: Transformer;
  readonly adapter: LoraAdapter | undefined;
  readonly optimizerBytes: number;
  readonly expectedSeconds: number | null;
  readonly notes: readonly string[];
}

/** The sizes of a run, without its weights; the steps that fit `seconds` are found for models of a size that can be tried. */
export async function outlineRun(
  wanted: RunSettings,
  services: RunServices,
  { seconds, memoryLimit = Infinity }: Pick<AssembleOptions, 'seconds' | 'memoryLimit'> = {},
): Promise<RunOutline> {
  const draft = parseRunSettings(wanted);
  const corpus = await openCorpus(corpusOptions(draft));
  try {
    const sizes = sizesOf(draft, services, corpus, draft.initFrom);
    const { settings, model } = sizes;
    samplePrompts(settings, corpus);
    createSampler(settings, corpus);
    createSchedule(settings, services);
    if (!fits(memoryOf({ ...sizes, backend: services.backend }), memoryLimit)) {
      return {
        ...sizes,
        corpus,
        expectedSeconds: null,
        notes: ['this needs more memory than there is: it is refused'],
      };
    }
    if (model.parameters.total <= TIMED_PARAMETERS) {
      const run = await assembleRun(draft, services, { seconds, isTimed: true });
      run.corpus.close();
      return { ...sizes, settings: run.settings, corpus, expectedSeconds: run.expectedSeconds, notes: [] };
    }
    const shown = seconds === undefined ? '' : `: shown for ${settings.steps} step; give --steps`;
    return { ...sizes, corpus, expectedSeconds: null, notes: [`a model of this size is not timed for a plan${shown}`] };
  } catch (error) {
    corpus.close();
    throw error;
  }
}

/** A model without its weights, and what its optimizer would hold. @throws GemmoeError for settings that do not fit it */
function sizesOf(draft: RunSettings, services: RunServices, corpus: Corpus, from: string | null) {
  const config = from ? readModelConfig(from).config : withVocabulary(draft, corpus).model;
  const model = new Transformer(config, services.kernels);
  checkVocabulary(model, corpus, from);
  const settings = { ...draft, model: model.config };
  checkLength(settings);
  checkStep(settings, model);
  const adapter = adapterOf(settings, model);
  const trained = adapter?.store ?? model.parameters;
  return { settings, model, adapter, optimizerBytes: estimateStateBytes(settings, services, trained) };
}

/** Longest side of the tensors that an optimizer's state is measured on. */
const SAMPLE_SIDE = 16;

/** Bytes of an optimizer's state for a model that is not allocated: its share of the weights, measured on small tensors. */
function estimateStateBytes(settings: RunSettings, services: RunServices, trained: ParameterStore): number {
  const store = new ParameterStore(trained.dtype);
  for (const { name, role, shape } of trained.parameters) {
    store.declare(
      name,
      role,
      shape.map((side) => Math.min(side, SAMPLE_SIDE)),
    );
  }
  const optimizer = optimizerFor(settings, services, store);
  return Math.round((stateBytes(optimizer) / store.data.byteLength) * trained.total * ELEMENT_BYTES[trained.dtype]);
}

/** What the settings say about the data. */
function corpusOptions(settings: RunSettings): CorpusOptions {
  return { ...settings, weights: settings.dataWeights };
}

function createSampler(settings: RunSettings, corpus: Corpus): BatchSampler {
  const { sequenceLength, dataOrder: order, seed, shuffleBlock } = settings;
  const documents = documentRows(settings, corpus);
  const batchSize = sequencesPerStep(settings);
  return new BatchSampler(corpus.mixture, { batchSize, sequenceLength, order, seed, documents, shuffleBlock });
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

/** The optimizer of what is trained: the adapter, or else the model. */
function createOptimizer(
  settings: RunSettings,
  services: RunServices,
  model: Transformer,
  adapter: LoraAdapter | undefined,
): Optimizer {
  if (!adapter) return optimizerFor(settings, services, model.parameters);
  return withAdapter(optimizerFor(settings, services, adapter.store), adapter);
}

function optimizerFor(settings: RunSettings, services: RunServices, store: ParameterStore): Optimizer {
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

/** Milliseconds of a step, by a few that move the weights a little. */
function timeStepsOf(run: Timed, seconds: number): number {
  const { settings, services, model, adapter, sampler } = run;
  const optimizer = createOptimizer(settings, services, model, adapter);
  const trainer = new Trainer(model, optimizer, () => 1e-6, trainerOptions(run));
  const { ids, targets, documentStarts } = batchBuffers(settings);
  return timeSteps((step) => {
    sampler.fill(step, ids, targets, documentStarts);
    trainer.step(ids, targets, settings.batchSize, settings.sequenceLength, documentStarts);
  }, seconds);
}

/** Milliseconds of the last validation, about. */
function validationTime(settings: RunSettings, corpus: Corpus, stepMilliseconds: number): number {
  const windows = validationWindows(corpus.validation, settings.sequenceLength, documentRows(settings, corpus)).count;
  return (windows / sequencesPerStep(settings)) * stepMilliseconds * FORWARD_SHARE;
}

/** What the settings say about how a step is computed. */
export function trainerOptions(run: Pick<Timed, 'settings' | 'services' | 'adapter'>): TrainerOptions {
  const { settings, adapter } = run;
  const { backend } = run.services;
  const { clipNorm, accumulate, checkpointEvery, seed } = settings;
  const { routerZLoss: zLoss, routerJitter: jitter, expertCapacity: capacityFactor, routerBias: biasRate } = settings;
  const { precision: format, keepF32: keep, lossScale, skipSpikes } = settings;
  const precision = format === 'f32' ? undefined : { format, keep, native: backend.bf16 };
  const routing = { zLoss, jitter, capacityFactor };
  return { clipNorm, accumulate, checkpointEvery, seed, biasRate, routing, precision, lossScale, skipSpikes, adapter };
}

/** Buffers of one step: all its micro-batches. */
export function batchBuffers(settings: RunSettings): {
  ids: Int32Array;
  targets: Int32Array;
  /** Where the documents of the rows begin; undefined where attention does not ask. */
  documentStarts: Int32Array | undefined;
} {
  const rows = sequencesPerStep(settings) * settings.sequenceLength;
  const documentStarts = settings.documents === 'masked' ? new Int32Array(rows) : undefined;
  return { ids: new Int32Array(rows), targets: new Int32Array(rows), documentStarts };
}
