// Validation: the mean cross-entropy of a model over non-overlapping windows of a token source.

import { validationWindows } from '../data/batches.ts';
import { type DocumentRows, markDocuments } from '../data/document-rows.ts';
import type { TokenSource } from '../data/source.ts';
import { GemmoeError } from '../errors.ts';
import { IGNORE_INDEX } from '../kernels.ts';
import type { Transformer } from '../model/transformer.ts';

/** What a validation measured. */
export interface Evaluation {
  /** Mean nats per token. */
  readonly loss: number;
  readonly perplexity: number;
  /** Nats / ln 2 per byte of text; null where the text's bytes are not known. */
  readonly bitsPerByte: number | null;
  readonly windows: number;
  readonly tokens: number;
}

export interface EvaluateOptions {
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** Windows at most, spread evenly; 0 (default) takes all. */
  readonly maxWindows?: number;
  /** Default `packed`. */
  readonly documents?: DocumentRows | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Runs the model over the source. Gives way to other work between batches, so that a signal is heard. */
export async function evaluateSource(
  model: Transformer,
  source: TokenSource,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { batchSize: B, sequenceLength: T } = options;
  const windows = validationWindows(source, T, options.documents);
  const count = options.maxWindows ? Math.min(options.maxWindows, windows.count) : windows.count;
  if (count === 0) {
    throw new GemmoeError(
      'bad-data',
      `the text to evaluate on has ${source.length} tokens, too few for one window of ${T}`,
      'give more text or a shorter sequence length',
    );
  }
  const ids = new Int32Array(B * T);
  const targets = new Int32Array(B * T);
  const { mode, separator } = options.documents ?? {};
  const starts = mode === 'masked' ? new Int32Array(B * T) : undefined;
  let lossSum = 0;
  let tokens = 0;
  for (let first = 0; first < count; first += B) {
    if (options.signal?.aborted) throw new GemmoeError('usage', 'evaluation was interrupted');
    const batch = Math.min(B, count - first);
    // a short last batch keeps its shape: its missing rows have no target
    targets.fill(IGNORE_INDEX, batch * T);
    ids.fill(0, batch * T);
    for (let b = 0; b < batch; b++) {
      windows.fill(Math.floor(((first + b) * windows.count) / count), ids, targets, b * T);
    }
    for (let b = 0; starts && b < B; b++) markDocuments(starts, ids, targets, b * T, T, separator);
    const result = model.evaluate(ids, targets, B, T, starts);
    lossSum += result.lossSum;
    tokens += result.tokens;
    await nextTurn();
  }
  if (tokens === 0) {
    throw new GemmoeError(
      'bad-data',
      'none of the tokens to evaluate on is to be learned',
      'give answers, or more of them',
    );
  }
  const loss = lossSum / tokens;
  const bitsPerByte =
    source.textBytes === undefined ? null : (loss * source.length) / (Math.LN2 * Math.max(1, source.textBytes));
  return { loss, perplexity: Math.exp(loss), bitsPerByte, windows: count, tokens };
}

/** Lets timers and signal handlers run. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
