// The part of a run that one process does: from a checkpoint, or the beginning, to the last step or an interruption.

import { join } from 'node:path';
import { validationWindows } from '../data/batches.ts';
import { bigramLoss } from '../data/bigram.ts';
import { GemmoeError } from '../errors.ts';
import { saveAdapter } from '../formats/adapter.ts';
import { recoverDirectory, writeDirectoryAtomic } from '../formats/atomic-files.ts';
import { writeModelFiles } from '../formats/hugging-face.ts';
import { pruneCheckpoints, saveCheckpoint, type TrainingState } from './checkpoint.ts';
import type { Deadline } from './deadline.ts';
import { afterValidation, isPatienceOver, NO_VALIDATION } from './early-stopping.ts';
import { evaluateSource, nextTurn } from './evaluate.ts';
import type { EvaluationRecord, RunObserver, RunPlan, RunRecord, RunSummary } from './events.ts';
import { beforeTheEnd, MetricsLog } from './metrics-log.ts';
import { planOf, stateBytes } from './plan.ts';
import { batchBuffers, type RunParts, trainerOptions } from './run-parts.ts';
import { freshState, restoreRun } from './run-restore.ts';
import { type SampleOptions, writeSamples } from './run-samples.ts';
import { documentRows, sequencesPerStep } from './settings.ts';
import { Trainer } from './trainer.ts';

/** Losses that the summary's training loss is the mean of. */
const RECENT_LOSSES = 100;
/** Longest training split that pairs are counted of: a second or two. */
const MAX_BIGRAM_TOKENS = 20_000_000;
const SHORT_SAMPLE_TOKENS = 160;
const LONG_SAMPLE_TOKENS = 1200;

/** Where a run takes place, and what watches and ends it. */
export interface Surroundings {
  readonly runDirectory: string;
  readonly observer: RunObserver;
  readonly deadline: Deadline;
  readonly signal: AbortSignal | undefined;
  readonly peakRate: number | undefined;
  readonly memoryLimit: number | undefined;
  readonly checkpoint?: string | undefined;
  /** True to go on although the data are others than those of the checkpoint. */
  readonly otherData?: boolean;
  /** What a resumed run was planned for. */
  readonly plannedSteps?: number;
}

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
  private readonly deadline: Deadline;
  private readonly peakRate: number | null;
  private readonly memoryLimit: number | null;
  private plan: RunPlan | undefined;
  private savedStep: number;
  private dataSeconds = 0;
  private windowCount: number | undefined;

  constructor(run: RunParts, surroundings: Surroundings) {
    const { runDirectory, observer, deadline, peakRate, memoryLimit, checkpoint } = surroundings;
    this.parts = run;
    this.directory = runDirectory;
    this.observer = observer;
    this.deadline = deadline;
    this.peakRate = peakRate ?? null;
    this.memoryLimit = memoryLimit ?? null;
    const restored =
      checkpoint === undefined ? undefined : restoreRun(run, checkpoint, surroundings.otherData ?? false);
    this.state = { ...(restored?.state ?? freshState(run)) };
    this.savedStep = restored?.state.step ?? -1;
    this.notes.push(...(restored?.notes ?? []));
    this.trainer = new Trainer(run.model, run.optimizer, run.schedule, {
      ...trainerOptions(run),
      step: this.state.step,
      state: this.state.trainer,
    });
    pruneCheckpoints(runDirectory, run.settings.keepLast, this.state.best?.step);
    recoverDirectory(this.modelDirectory);
    recoverDirectory(this.adapterDirectory);
    const { step, metricsBytes } = this.state;
    if (restored && step === run.settings.steps) {
      Object.assign(this.state, beforeTheEnd(runDirectory, metricsBytes, step));
      this.savedStep = -1; // its checkpoint counts records that are gone now
    }
    this.log = new MetricsLog(runDirectory, this.state.metricsBytes);
  }

  private get modelDirectory(): string {
    return join(this.directory, 'model');
  }

  private get adapterDirectory(): string {
    return join(this.directory, 'adapter');
  }

  /** Tells the observer what is going to happen. */
  announce(plannedSteps: number): void {
    const { settings } = this.parts;
    if (plannedSteps !== settings.steps) {
      this.notes.push(
        `the run was planned for ${plannedSteps} steps: with ${settings.steps} its schedule is another one`,
      );
    }
    this.plan = planOf({
      ...this.parts,
      backend: this.parts.services.backend,
      optimizerBytes: stateBytes(this.parts.optimizer),
      runDirectory: this.directory,
      resumedAt: this.state.step,
      notes: this.notes,
      peakRate: this.peakRate,
      memoryLimit: this.memoryLimit,
    });
    this.observer.planned(this.plan);
  }

  /** Takes the remaining steps, validates, and writes the model. */
  async run(signal: AbortSignal | undefined): Promise<RunSummary> {
    const { settings } = this.parts;
    const batch = batchBuffers(settings);
    while (this.state.step < settings.steps) {
      if (signal?.aborted) return this.interrupted();
      const stoppedBy = this.reasonToStop();
      if (stoppedBy) return this.finish(signal, stoppedBy);
      this.trainStep(batch);
      await this.afterStep();
      await nextTurn();
    }
    return this.finish(signal, null);
  }

  /** Why no further step is to be taken although some are left. */
  private reasonToStop(): RunSummary['stoppedBy'] {
    const { settings, model, optimizer } = this.parts;
    if (isPatienceOver(this.state.patience ?? NO_VALIDATION, settings.patience)) return 'patience';
    const bytes = model.parameters.data.byteLength + stateBytes(optimizer);
    return this.deadline.isNear(this.windows, sequencesPerStep(settings), bytes) ? 'time' : null;
  }

  /** Tokens of a sample at the end: a page, or what a page has for each prompt. */
  private get longSample(): number {
    const share = LONG_SAMPLE_TOKENS / Math.max(1, this.parts.settings.samplePrompts.length);
    return Math.max(SHORT_SAMPLE_TOKENS, Math.round(share));
  }

  /** Windows of the whole validation split. */
  private get windows(): number {
    const { corpus, settings } = this.parts;
    this.windowCount ??= validationWindows(
      corpus.validation,
      settings.sequenceLength,
      documentRows(settings, corpus),
    ).count;
    return this.windowCount;
  }

  close(): void {
    this.log.close();
  }

  private trainStep({ ids, targets, documentStarts }: ReturnType<typeof batchBuffers>): void {
    const { settings, sampler } = this.parts;
    const { batchSize, sequenceLength } = settings;
    const start = performance.now();
    const epoch = sampler.fill(this.state.step + 1, ids, targets, documentStarts);
    const dataMilliseconds = performance.now() - start;
    this.dataSeconds += dataMilliseconds / 1000;
    const done = this.trainer.step(ids, targets, batchSize, sequenceLength, documentStarts);
    this.state.step = done.step;
    this.state.tokens += done.tokens;
    if (!done.skipped) this.state.recentLosses.push(done.loss);
    if (this.state.recentLosses.length > RECENT_LOSSES) this.state.recentLosses.shift();
    const milliseconds = performance.now() - start;
    this.deadline.stepTook(milliseconds);
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
      spike: done.spike,
      lossScale: done.lossScale,
      biasSpread: this.parts.model.selectionBiasSpread(),
      milliseconds,
      mfu: this.utilisation(milliseconds),
      dataMilliseconds,
    });
  }

  /** Share of what the backend can do that a step of so many milliseconds did; null where that is not known. */
  private utilisation(milliseconds: number): number | null {
    if (this.peakRate === null || !this.plan) return null;
    return (1000 * this.plan.flopsPerStep) / milliseconds / this.peakRate;
  }

  private async afterStep(): Promise<void> {
    const { settings } = this.parts;
    const { step } = this.state;
    if (step === settings.steps) return; // finish() does all of it
    const isDue = (interval: number) => interval > 0 && step % interval === 0;
    const isBest = isDue(settings.evalInterval) && (await this.validateAtInterval()).best;
    if (isDue(settings.sampleInterval)) await this.sample(SHORT_SAMPLE_TOKENS);
    if (isBest || isDue(settings.saveInterval)) this.save();
  }

  /** @param stoppedBy what ended the run before its last step; its checkpoint then knows nothing of what comes behind it */
  private async finish(signal: AbortSignal | undefined, stoppedBy: RunSummary['stoppedBy']): Promise<RunSummary> {
    this.save(); // before the long validation: nothing is lost if it is cut short
    const windows = this.deadline.windowsThatFit(this.windows, sequencesPerStep(this.parts.settings));
    const validation = await this.validate(windows, signal).catch((error: unknown) => {
      if (signal?.aborted) return undefined;
      throw error;
    });
    const sample = await this.sample(this.longSample, signal, (count) => this.deadline.sampleLimit(count));
    if (!validation || signal?.aborted) return this.interrupted();
    if (stoppedBy === null) {
      this.savedStep = -1; // once more, with what the validation found
      this.save();
    }
    const { model, adapter, optimizer, corpus, original, settings } = this.parts;
    optimizer.training?.(false); // and so they stay: the run is over
    if (adapter) saveAdapter(this.adapterDirectory, adapter, settings.initFrom, { replace: true });
    writeDirectoryAtomic(
      this.modelDirectory,
      (temporary) => writeModelFiles(temporary, model, { tokenizer: corpus.tokenizer, ...(original && { original }) }),
      { replace: true },
    );
    const bigramLoss = stoppedBy === 'time' ? null : this.bigramLoss();
    return { ...this.summary(), interrupted: false, stoppedBy, validation, bigramLoss, sample };
  }

  private interrupted(): RunSummary {
    this.save();
    const nothing = { stoppedBy: null, validation: null, bigramLoss: null, sample: null };
    return { ...this.summary(), interrupted: true, ...nothing };
  }

  /** What counting neighbours reaches: the mark to be far below. */
  private bigramLoss(): number | null {
    const { train, validation, tokenizer } = this.parts.corpus;
    // counts of neighbours say nothing of answers alone
    return train.length > MAX_BIGRAM_TOKENS || train.isMasked || train.isStreamed
      ? null
      : bigramLoss(train, validation, tokenizer.vocabSize);
  }

  private summary() {
    const { recentLosses, step, tokens, best } = this.state;
    const sum = recentLosses.reduce((total, loss) => total + loss, 0);
    const { skipped, spikes } = this.trainer.state;
    const spikeCount = spikes?.count ?? 0;
    return {
      runDirectory: this.directory,
      modelDirectory: this.modelDirectory,
      adapterDirectory: this.parts.adapter ? this.adapterDirectory : null,
      steps: step,
      tokens,
      seconds: (performance.now() - this.started) / 1000,
      dataSeconds: this.dataSeconds,
      trainingLoss: recentLosses.length > 0 ? sum / recentLosses.length : null,
      bestValidation: best,
      skipped: skipped - spikeCount,
      spikes: spikeCount,
    };
  }

  private async validateAtInterval(): Promise<EvaluationRecord> {
    const { evalWindows, minDelta } = this.parts.settings;
    const record = await this.validate(evalWindows);
    this.state.patience = afterValidation(this.state.patience ?? NO_VALIDATION, record.loss, minDelta);
    return record;
  }

  private async validate(maxWindows: number, signal?: AbortSignal): Promise<EvaluationRecord> {
    const { model, corpus, optimizer, settings } = this.parts;
    const { batchSize, sequenceLength } = settings;
    const documents = documentRows(settings, corpus);
    optimizer.training?.(false);
    const result = await this.deadline.validating(() =>
      evaluateSource(model, corpus.validation, { batchSize, sequenceLength, maxWindows, documents, signal }),
    );
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

  /** Writes a sample after each prompt; the first one, prompt included. */
  private async sample(maxNewTokens: number, signal?: AbortSignal, limit?: SampleOptions['limit']): Promise<string> {
    const { model, corpus, optimizer, services, settings } = this.parts;
    const { step } = this.state;
    optimizer.training?.(false);
    const options = { settings, corpus, model, samplers: services.samplers, step, maxNewTokens, signal, limit };
    let first: string | undefined;
    for await (const record of writeSamples(options)) {
      this.record(record);
      first ??= `${record.prompt ?? ''}${record.text}`;
    }
    optimizer.training?.(true);
    return first ?? '';
  }

  private save(): void {
    if (this.savedStep === this.state.step) return;
    const start = performance.now();
    const { model, adapter, optimizer, corpus, original, settings } = this.parts;
    this.log.flush();
    this.state.metricsBytes = this.log.bytes;
    this.state.optimizerScalars = optimizer.scalars?.() ?? {};
    this.state.trainer = this.trainer.state;
    optimizer.training?.(false);
    const path = saveCheckpoint(this.directory, {
      ...{ model, optimizer, tokenizer: corpus.tokenizer },
      adapter: adapter && { adapter, base: settings.initFrom },
      original,
      state: this.state,
    });
    optimizer.training?.(true);
    this.savedStep = this.state.step;
    this.deadline.saved(performance.now() - start);
    pruneCheckpoints(this.directory, settings.keepLast, this.state.best?.step);
    this.observer.record({ kind: 'checkpoint', step: this.state.step, path });
  }

  private record(record: RunRecord): void {
    this.log.append(record);
    this.observer.record(record);
  }
}
