// RUN/tensorboard/: the records of a run as event files, for `tensorboard --logdir`.

import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../formats/atomic-files.ts';
import type { Message } from '../formats/protobuf.ts';
import { framed } from '../formats/tfrecord.ts';
import type { EvaluationRecord, RunObserver, RunPlan, RunRecord, SampleRecord, StepRecord } from './events.ts';
import {
  barsValue,
  fileVersionEvent,
  scalarValue,
  sessionStartEvent,
  summaryEvent,
  textValue,
} from './tensorboard-events.ts';

const FOLDER = 'tensorboard';
/** Histograms of a run, about; TensorBoard keeps fifty of each. */
const HISTOGRAMS = 100;

/** The folder that a run's event files stand in. */
export function tensorBoardFolder(runDirectory: string): string {
  return join(runDirectory, FOLDER);
}

/** Writes what it is told; each process of a run writes a file of its own, made when the run begins. To be closed. */
export class TensorBoardLog implements RunObserver {
  private readonly clock: () => number;
  private descriptor: number | undefined;
  private tokensPerStep = 0;
  private histogramInterval = 1;

  /** @param clock milliseconds since 1970 */
  constructor(clock: () => number = Date.now) {
    this.clock = clock;
  }

  planned(plan: RunPlan): void {
    this.close();
    this.tokensPerStep = plan.tokensPerStep;
    this.histogramInterval = Math.max(1, Math.round(plan.steps / HISTOGRAMS));
    this.descriptor = createEventFile(plan.runDirectory, Math.floor(this.clock() / 1000));
    this.write(fileVersionEvent(this.clock() / 1000));
    // what an earlier process wrote behind the checkpoint that this one goes on from
    if (plan.resumedAt > 0) {
      this.write(sessionStartEvent({ wallTime: this.clock() / 1000, step: plan.resumedAt + 1 }));
    }
  }

  record(record: RunRecord): void {
    const values = this.valuesOf(record);
    if (values.length > 0) this.write(summaryEvent({ wallTime: this.clock() / 1000, step: record.step }, values));
  }

  /** Ends the file; nothing happens when there is none. */
  close(): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor);
    this.descriptor = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private valuesOf(record: RunRecord): Message[] {
    switch (record.kind) {
      case 'step': {
        const isDue = record.step % this.histogramInterval === 0;
        return [
          ...stepScalars(record, this.tokensPerStep),
          ...(isDue ? record.expertLoad.map((load, layer) => barsValue(`experts/layer-${layer}/load`, load)) : []),
        ];
      }
      case 'evaluation':
        return evaluationScalars(record);
      case 'sample':
        return [sampleText(record)];
      case 'checkpoint':
        return [];
    }
  }

  private write(event: Uint8Array): void {
    if (this.descriptor !== undefined) writeSync(this.descriptor, framed(event));
  }
}

/** A new file, named so that later ones sort behind it. */
function createEventFile(runDirectory: string, second: number): number {
  const folder = tensorBoardFolder(runDirectory);
  makeDirectory(folder);
  for (let time = second; ; time++) {
    try {
      return openSync(join(folder, `events.out.tfevents.${String(time).padStart(10, '0')}.gemmoe`), 'wx');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

function scalars(values: Readonly<Record<string, number | null | undefined>>): Message[] {
  return Object.entries(values).flatMap(([tag, value]) =>
    value === null || value === undefined ? [] : [scalarValue(tag, value)],
  );
}

function stepScalars(record: StepRecord, tokensPerStep: number): Message[] {
  return [
    ...scalars({
      'train/loss': record.loss,
      'train/aux_loss': record.auxLoss,
      'train/z_loss': record.zLoss,
      'train/gradient_norm': record.gradientNorm,
      'train/learning_rate': record.learningRate,
      'train/loss_scale': record.lossScale,
      'train/skipped': Number(record.skipped),
      'progress/epoch': record.epoch,
      'progress/tokens': record.tokens,
      'progress/mfu': record.mfu,
      'progress/waited_for_data_ms': record.dataMilliseconds,
      'progress/tokens_per_second': (1000 * tokensPerStep) / record.milliseconds,
    }),
    ...record.expertLoad.flatMap((load, layer) =>
      scalars({
        [`experts/layer-${layer}/imbalance`]: Math.max(...load) * load.length,
        [`experts/layer-${layer}/router_entropy`]: record.routerEntropy[layer],
        [`experts/layer-${layer}/dropped_rows`]: record.droppedRows[layer],
        [`experts/layer-${layer}/dead_experts`]: record.deadExperts[layer],
        [`experts/layer-${layer}/bias_spread`]: record.biasSpread[layer],
      }),
    ),
  ];
}

function evaluationScalars({ loss, perplexity, bitsPerByte }: EvaluationRecord): Message[] {
  return scalars({
    'validation/loss': loss,
    'validation/perplexity': perplexity,
    'validation/bits_per_byte': bitsPerByte,
  });
}

/** As an indented block, which Markdown leaves as it is. */
function sampleText({ prompt, text }: SampleRecord): Message {
  const block = `${prompt ?? ''}${text}`.replace(/^/gm, '    ');
  return textValue(prompt === null ? 'sample' : `sample/${prompt.trim()}`, block);
}
