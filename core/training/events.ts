// What a training run tells whoever watches it. The same records are the lines of metrics.jsonl.

import type { BackendDescription } from '../backend.ts';
import type { ParameterCounts } from '../model/parameter-counts.ts';

/** What a run will cost, known before its first step. */
export interface RunPlan {
  readonly parameters: { readonly total: number; readonly active: number; readonly byPart: ParameterCounts };
  /** Bytes. */
  readonly memory: {
    /** With their rounded copies where precision is mixed. */
    readonly weights: number;
    readonly gradients: number;
    readonly optimizer: number;
    readonly activations: number;
    readonly total: number;
  };
  /** Multiply-adds counted as two, forward and backward, of one step. */
  readonly flopsPerStep: number;
  readonly steps: number;
  readonly tokensPerStep: number;
  /** How the steps are made: `name:key=value,…` of optimizer and schedule, peak learning rate. */
  readonly recipe: { readonly optimizer: string; readonly schedule: string; readonly learningRate: number };
  readonly tokens: number;
  readonly trainingTokens: number;
  readonly validationTokens: number;
  /** Windows of a validation over all of them. */
  readonly validationWindows: number;
  readonly epochs: number;
  readonly backend: { readonly name: string } & BackendDescription;
  readonly runDirectory: string;
  /** Step that a resumed run continues after; 0 for a new one. */
  readonly resumedAt: number;
  /** Wall time of the whole run, from steps that were timed and thrown away; null where none were. */
  readonly expectedSeconds: number | null;
  /** Floating-point operations a second of the backend's best product, measured before the run; null where it was not. */
  readonly peakRate: number | null;
  /** Bytes that the process may have; null where nobody said. */
  readonly memoryLimit: number | null;
  /** Things the user should know before it starts, a sentence each. */
  readonly notes: readonly string[];
}

/** One optimizer step. */
export interface StepRecord {
  readonly kind: 'step';
  readonly step: number;
  /** Cross-entropy, nats per token, without the auxiliary loss. */
  readonly loss: number;
  /** Σ f_e·P_e·E, K when balanced; null for a dense model. */
  readonly auxLoss: number | null;
  /** Mean over layers and rows of the routers' logsumexp²; null where it has no weight. */
  readonly zLoss: number | null;
  /** Global gradient norm before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly epoch: number;
  /** Training tokens seen so far. */
  readonly tokens: number;
  /** True where the weights stayed: float16 overflowed, and loss and norm may be no numbers, null in the file; or a spike. */
  readonly skipped: boolean;
  /** True where loss or gradient norm stood out too far and the step was not taken. */
  readonly spike: boolean;
  /** Factor on the loss; null where it is not scaled. */
  readonly lossScale: number | null;
  /** [layer][expert] share of the routed rows, each layer summing to 1; empty for a dense model. */
  readonly expertLoad: readonly (readonly number[])[];
  /** [layer] mean entropy of the routers' probabilities, nats; ln E is undecided. */
  readonly routerEntropy: readonly number[];
  /** [layer] share of the routed rows that were dropped, beyond an expert's capacity. */
  readonly droppedRows: readonly number[];
  /** [layer] experts that no row chose in this step. */
  readonly deadExperts: readonly number[];
  /** [layer] largest less smallest selection bias; empty where there is none. */
  readonly biasSpread: readonly number[];
  /** Wall time of the step. */
  readonly milliseconds: number;
  /** Model FLOPs utilisation: the step's operations as `RunPlan` counts them, a second, over `peakRate`; null where that is. */
  readonly mfu: number | null;
  /** Of it, the time until the batch was there: reading, and waiting for the tokenizing worker; absent in runs of earlier versions. */
  readonly dataMilliseconds?: number;
}

/** One pass over the validation split, or the part of it that `evalWindows` names. */
export interface EvaluationRecord {
  readonly kind: 'evaluation';
  readonly step: number;
  /** Mean nats per token over non-overlapping windows. */
  readonly loss: number;
  readonly perplexity: number;
  /** Nats / ln 2 per byte of text; null where the text's bytes are not known. */
  readonly bitsPerByte: number | null;
  readonly windows: number;
  /** Lowest so far. */
  readonly best: boolean;
}

export interface SampleRecord {
  readonly kind: 'sample';
  readonly step: number;
  /** What the text goes on from; null where it begins as the training text does. */
  readonly prompt: string | null;
  readonly text: string;
}

export interface CheckpointRecord {
  readonly kind: 'checkpoint';
  readonly step: number;
  readonly path: string;
}

export type RunRecord = StepRecord | EvaluationRecord | SampleRecord | CheckpointRecord;

/** Called as things happen; a method that throws stops the run. */
export interface RunObserver {
  planned(plan: RunPlan): void;
  record(record: RunRecord): void;
}

/** How a run ended. */
export interface RunSummary {
  readonly runDirectory: string;
  /** Hugging Face directory of the last weights. */
  readonly modelDirectory: string;
  /** The adapter by itself; null where the weights were trained. */
  readonly adapterDirectory: string | null;
  readonly steps: number;
  readonly tokens: number;
  /** Wall seconds of this process, waiting for the user included. */
  readonly seconds: number;
  /** Of them, those in which steps waited for their batch. */
  readonly dataSeconds: number;
  /** True when a signal stopped it before its last step; the checkpoint is written all the same. */
  readonly interrupted: boolean;
  /** What ended it before its last step, validated and written all the same: validation gained no more, or time was up. */
  readonly stoppedBy: 'patience' | 'time' | null;
  /** Steps that overflowed in float16 and were skipped. */
  readonly skipped: number;
  /** Steps that were skipped because loss or gradient norm stood out. */
  readonly spikes: number;
  /** Mean training loss of the last steps (at most 100); null when none was taken. */
  readonly trainingLoss: number | null;
  /** Of the last weights, over the whole validation split, or what of it there was time for; null when interrupted. */
  readonly validation: EvaluationRecord | null;
  readonly bestValidation: EvaluationRecord | null;
  /** Validation loss of a bigram model of the training split; null when interrupted, or when counting would take long. */
  readonly bigramLoss: number | null;
  /** A page of text from the last weights, with the first prompt where there are some; null when interrupted. */
  readonly sample: string | null;
}
