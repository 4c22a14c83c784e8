// The part of a run that one process does: from a checkpoint, or the beginning, to the last step or an interruption.

import { join } from 'node:path';
import type { MatmulBackend } from '../backend.ts';
import { parseSpec } from '../config.ts';
import { bigramLoss } from '../data/bigram.ts';
import { GemmoeError } from '../errors.ts';
import { recoverDirectory, writeDirectoryAtomic } from '../formats/atomic-files.ts';
import { writeModelFiles } from '../formats/hugging-face.ts';
import { Generator } from '../generation/generator.ts';
import { createChain } from '../generation/sampler-chain.ts';
import {
  pruneCheckpoints,
  readTrainingState,
  restoreOptimizer,
  saveCheckpoint,
  type TrainingState,
} from './checkpoint.ts';
import { evaluateSource, nextTurn } from './evaluate.ts';
import type { EvaluationRecord, RunObserver, RunRecord, RunSummary } from './events.ts';
import { MetricsLog } from './metrics-log.ts';
import { planOf, stateBytes } from './plan.ts';
import { batchBuffers, type RunParts, trainerOptions } from './run-parts.ts';
import { Trainer } from './trainer.ts';

/** Losses that the summary's training loss is the mean of. */
const RECENT_LOSSES = 100;
/** Longest training split that pairs are counted of: a second or two. */
const MAX_BIGRAM_TOKENS = 20_000_000;
const SAMPLE_CHAIN = 'temperature:value=0.8;top-p:p=0.95;sample';
const SHORT_SAMPLE_TOKENS = 160;
const LONG_SAMPLE_TOKENS = 1200;

/** Trains, validates, samples and saves, and tells the observer. */
export class RunSession {
  private readonly parts: RunParts;
  private readonly directory: string;
  private readonly observer: RunObserver;
  private readonly trainer: Trainer;
  private readonly log: MetricsLog;
  private readonly state: { -readonly [K in keyof TrainingState]: TrainingState[K] };
  private readonly notes: string[] = [];
  private readonly started = performance.now();
  private savedStep = -1;

  constructor(run: RunParts, directory: string, checkpoint: string | undefined, observer: RunObserver) {
    this.parts = run;
    this.directory = directory;
    this.observer = observer;
    this.state = checkpoint ? this.restore(checkpoint) : this.freshState();
    this.trainer = new Trainer(run.model, run.optimizer, run.schedule, {
      ...trainerOptions(run.settings, run.services),
      step: this.state.step,
      state: this.state.trainer,
    });
    pruneCheckpoints(directory, run.settings.keepLast, this.state.best?.step);
    recoverDirectory(this.modelDirectory);
    this.log = new MetricsLog(directory, this.state.metricsBytes);
  }

  private get modelDirectory(): string {
    return join(this.directory, 'model');
  }

  private freshState(): TrainingState {
    return {
      format: 1,
      step: 0,
      tokens: 0,
      best: null,
      recentLosses: [],
      metricsBytes: 0,
      optimizer: this.parts.settings.optimizer,
      optimizerScalars: {},
      dataFingerprint: this.parts.corpus.fingerprint,
      backend: backendIdentity(this.parts.services.backend),
    };
  }

  private restore(checkpoint: string): TrainingState {
    const { corpus, optimizer, settings, services } = this.parts;
    const state = readTrainingState(checkpoint);
    if (state.dataFingerprint !== corpus.fingerprint) {
      throw new GemmoeError(
        'bad-data',
        `the data of ${this.directory} have changed since its checkpoint: fingerprint ${corpus.fingerprint}, then ${state.dataFingerprint}`,
        `restore ${settings.data.join(', ') || 'the corpus'} and the tokenizer, or start a new run with --init-from ${checkpoint}`,
      );
    }
    const identity = backendIdentity(services.backend);
    if (state.backend !== identity) {
      this.notes.push(
        `the run was made with ${state.backend} and goes on with ${identity}: the last digits will differ`,
      );
    }
    this.checkOptimizer(checkpoint, state);
    restoreOptimizer(checkpoint, optimizer, state);
    optimizer.training?.(true); // checkpoints hold the weights to evaluate
    this.savedStep = state.step;
    return { ...state, optimizer: settings.optimizer };
  }

  /** @throws GemmoeError when the checkpoint is of another optimizer; other options are only said */
  private checkOptimizer(checkpoint: string, { optimizer: was }: TrainingState): void {
    const is = this.parts.settings.optimizer;
    if (was === undefined || was === is) return;
    if (parseSpec(was).name !== parseSpec(is).name) {
      throw new GemmoeError(
        'bad-data',
        `${checkpoint} was trained with the optimizer ${was}, the run says ${is}`,
        `resume with ${was}, or start a new run with --init-from ${checkpoint}`,
      );
    }
    this.notes.push(`the optimizer was ${was} and goes on as ${is}`);
  }

  /** Tells the observer what is going to happen. */
  announce(plannedSteps: number): void {
    const { settings } = this.parts;
    if (plannedSteps !== settings.steps) {
      this.notes.push(
        `the run was planned for ${plannedSteps} steps: with ${settings.steps} its schedule is another one`,
      );
    }
    this.observer.planned(
      planOf({
        ...this.parts,
        backend: this.parts.services.backend,
        optimizerBytes: stateBytes(this.parts.optimizer),
        runDirectory: this.directory,
        resumedAt: this.state.step,
        notes: this.notes,
      }),
    );
  }

  /** Takes the remaining steps, validates, and writes the model. */
  async run(signal: AbortSignal | undefined): Promise<RunSummary> {
    const { settings } = this.parts;
    const { ids, targets } = batchBuffers(settings);
    while (this.state.step < settings.steps) {
      if (signal?.aborted) return this.interrupted();
      this.trainStep(ids, targets);
      await this.afterStep();
      await nextTurn();
    }
    return this.finish(signal);
  }

  close(): void {
    this.log.close();
  }

  private trainStep(ids: Int32Array, targets: Int32Array): void {
    const { settings, sampler } = this.parts;
    const { batchSize, sequenceLength } = settings;
    const start = performance.now();
    const epoch = sampler.fill(this.state.step + 1, ids, targets);
    const done = this.trainer.step(ids, targets, batchSize, sequenceLength);
    this.state.step = done.step;
    this.state.tokens += done.tokens;
    if (!done.skipped) this.state.recentLosses.push(done.loss);
    if (this.state.recentLosses.length > RECENT_LOSSES) this.state.recentLosses.shift();
    this.record({
      kind: 'step',
      step: done.step,
      loss: done.loss,
      auxLoss: done.auxLoss,
      zLoss: done.zLoss,
      gradientNorm: done.gradientNorm,
      learningRate: done.learningRate,
      epoch,
      tokens: this.state.tokens,
      expertLoad: done.routing.map(({ load }) => load),
      routerEntropy: done.routing.map(({ entropy }) => entropy),
      droppedRows: done.routing.map(({ dropped }) => dropped),
      deadExperts: done.routing.map(({ dead }) => dead),
      skipped: done.skipped,
      lossScale: done.lossScale,
      biasSpread: this.parts.model.selectionBiasSpread(),
      milliseconds: performance.now() - start,
    });
  }

  private async afterStep(): Promise<void> {
    const { settings } = this.parts;
    const { step } = this.state;
    if (step === settings.steps) return; // finish() does all of it
    const isDue = (interval: number) => interval > 0 && step % interval === 0;
    const isBest = isDue(settings.evalInterval) && (await this.validate(settings.evalWindows)).best;
    if (isDue(settings.sampleInterval)) await this.sample(SHORT_SAMPLE_TOKENS);
    if (isBest || isDue(settings.saveInterval)) this.save();
  }

  private async finish(signal: AbortSignal | undefined): Promise<RunSummary> {
    this.save(); // before the long validation: nothing is lost if it is cut short
    const validation = await this.validate(0, signal).catch((error: unknown) => {
      if (signal?.aborted) return undefined;
      throw error;
    });
    const sample = await this.sample(LONG_SAMPLE_TOKENS, signal);
    if (!validation || signal?.aborted) return this.interrupted();
    this.savedStep = -1; // once more, with what the validation found
    this.save();
    const { model, optimizer, corpus, original } = this.parts;
    optimizer.training?.(false); // and so they stay: the run is over
    writeDirectoryAtomic(
      this.modelDirectory,
      (temporary) => writeModelFiles(temporary, model, { tokenizer: corpus.tokenizer, ...(original && { original }) }),
      { replace: true },
    );
    return { ...this.summary(), interrupted: false, validation, bigramLoss: this.bigramLoss(), sample };
  }

  private interrupted(): RunSummary {
    this.save();
    return { ...this.summary(), interrupted: true, validation: null, bigramLoss: null, sample: null };
  }

  /** What counting neighbours reaches: the mark to be far below. */
  private bigramLoss(): number | null {
    const { train, validation, tokenizer } = this.parts.corpus;
    return train.length > MAX_BIGRAM_TOKENS ? null : bigramLoss(train, validation, tokenizer.vocabSize);
  }

  private summary() {
    const { recentLosses, step, tokens, best } = this.state;
    const sum = recentLosses.reduce((total, loss) => total + loss, 0);
    return {
      runDirectory: this.directory,
      modelDirectory: this.modelDirectory,
      steps: step,
      tokens,
      seconds: (performance.now() - this.started) / 1000,
      trainingLoss: recentLosses.length > 0 ? sum / recentLosses.length : null,
      bestValidation: best,
      skipped: this.trainer.state.skipped,
    };
  }

  private async validate(maxWindows: number, signal?: AbortSignal): Promise<EvaluationRecord> {
    const { model, corpus, optimizer, settings } = this.parts;
    const { batchSize, sequenceLength } = settings;
    optimizer.training?.(false);
    const result = await evaluateSource(model, corpus.validation, { batchSize, sequenceLength, maxWindows, signal });
    optimizer.training?.(true);
    if (!Number.isFinite(result.loss)) {
      throw new GemmoeError(
        'diverged',
        `the validation loss is ${result.loss} at step ${this.state.step}`,
        'lower the learning rate',
      );
    }
    const { loss, perplexity, bitsPerByte, windows } = result;
    const best = this.state.best === null || loss < this.state.best.loss;
    const record: EvaluationRecord = {
      kind: 'evaluation',
      step: this.state.step,
      loss,
      perplexity,
      bitsPerByte,
      windows,
      best,
    };
    if (best) this.state.best = record;
    this.record(record);
    return record;
  }

  /** Text that the model writes now; the same for the same weights, seed and step. */
  private async sample(tokens: number, signal?: AbortSignal): Promise<string> {
    const { model, corpus, optimizer, services, settings } = this.parts;
    const { step } = this.state;
    optimizer.training?.(false);
    const sampler = createChain(SAMPLE_CHAIN, services.samplers, settings.seed + step);
    const generator = new Generator(model, corpus.tokenizer);
    const options = { sampler, maxNewTokens: tokens, overflow: 'slide', signal } as const;
    let text = '';
    for await (const piece of generator.generate(this.samplePrompt(), options)) text += piece.text;
    optimizer.training?.(true);
    this.record({ kind: 'sample', step, text });
    return text;
  }

  /** One token that text begins with: the end of the document before, or the first one of the training split. */
  private samplePrompt(): number[] {
    const { separator, train } = this.parts.corpus;
    if (separator !== undefined) return [separator];
    const first = new Int32Array(1);
    train.read(0, first, 0, 1);
    return [first[0]];
  }

  private save(): void {
    if (this.savedStep === this.state.step) return;
    const { model, optimizer, corpus, original, settings } = this.parts;
    this.log.flush();
    this.state.metricsBytes = this.log.bytes;
    this.state.optimizerScalars = optimizer.scalars?.() ?? {};
    this.state.trainer = this.trainer.state;
    optimizer.training?.(false);
    const path = saveCheckpoint(this.directory, {
      ...{ model, optimizer, tokenizer: corpus.tokenizer },
      original,
      state: this.state,
    });
    optimizer.training?.(true);
    this.savedStep = this.state.step;
    pruneCheckpoints(this.directory, settings.keepLast, this.state.best?.step);
    this.observer.record({ kind: 'checkpoint', step: this.state.step, path });
  }

  private record(record: RunRecord): void {
    this.log.append(record);
    this.observer.record(record);
  }
}

/** Whatever decides how a backend rounds. */
function backendIdentity(backend: MatmulBackend): string {
  const { vendor, version, instructionSet, threads, precision } = backend.describe();
  return [backend.name, vendor, version, instructionSet, precision, `${threads} threads`].join(', ');
}
