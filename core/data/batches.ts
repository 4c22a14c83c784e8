// Batches cut from token sources. Which windows a step sees is a pure function of seed and step, so nothing of it needs saving
// and a resumed run goes on with the batch it would have had.

import { GemmoeError } from '../errors.ts';
import { IGNORE_INDEX } from '../kernels.ts';
import { BlockSequence } from './block-sequence.ts';
import { type DocumentRows, markDocuments } from './document-rows.ts';
import { Mixer } from './mixer.ts';
import { PieceSequence } from './pieces.ts';
import { readTargets, type TokenSource } from './source.ts';
import { type Place, type RowSequence, type WindowOptions, WindowSequence } from './windows.ts';

export interface BatchOptions extends WindowOptions {
  /** B */
  readonly batchSize: number;
  /** Default `packed`. */
  readonly documents?: DocumentRows | undefined;
}

/** A step whose windows hold nothing to learn, as long prompts do, takes those of a step that no run reaches: this often. */
const RETRIES = 4096;
const FAR = 2 ** 24 + 1;

/** A source of a mixture. */
export interface WeightedSource {
  readonly source: TokenSource;
  /** Its share of the rows, relative to the other sources'. */
  readonly weight: number;
}

/** Fills ids [B·T] and targets [B·T], each target the id that follows. */
export class BatchSampler {
  private readonly sources: readonly TokenSource[];
  private readonly sequences: readonly RowSequence[];
  /** Undefined where there is one source. */
  private readonly mixer: Mixer | undefined;
  private readonly options: BatchOptions;
  private readonly tokens: number;
  private readonly isMasked: boolean;

  /** @throws GemmoeError when a source is shorter than a window, a single one than a batch of them, or a weight is impossible */
  constructor(sources: TokenSource | readonly WeightedSource[], options: BatchOptions) {
    const mixture = 'read' in sources ? [{ source: sources, weight: 1 }] : sources;
    this.sources = mixture.map(({ source }) => source);
    this.options = options;
    const weights = mixture.map(({ weight }) => weight);
    this.mixer = mixture.length > 1 ? new Mixer(weights, options.seed) : undefined;
    this.tokens = this.sources.reduce((sum, { length }) => sum + length, 0);
    this.isMasked = this.sources.some(({ isMasked }) => isMasked === true);
    this.sources.forEach((source, i) => this.refuseShort(source, i));
    this.sequences = this.sources.map((source) => rowsOf(source, options));
  }

  /** Windows of one epoch, all sources together. */
  get windowsPerEpoch(): number {
    return this.sequences.reduce((sum, { perEpoch }) => sum + perEpoch, 0);
  }

  /** The batch of step 1, 2, …; returns the epoch of its first window, counted from 0: how often all tokens have been read. */
  fill(step: number, ids: Int32Array, targets: Int32Array, documentStarts?: Int32Array): number {
    const { batchSize: B, sequenceLength: T, order } = this.options;
    const first = (step - 1) * B;
    this.fillRows(step, ids, targets);
    for (let i = 1; i <= RETRIES && this.isMasked && !targets.some((target) => target !== IGNORE_INDEX); i++) {
      this.fillRows(step + i * FAR, ids, targets);
    }
    for (let b = 0; documentStarts && b < B; b++) {
      markDocuments(documentStarts, ids, targets, b * T, T, this.options.documents?.separator);
    }
    if (order === 'random') return Math.floor((first * T) / this.tokens);
    return this.mixer ? Math.floor(first / this.windowsPerEpoch) : this.sequences[0].epoch(first);
  }

  private fillRows(step: number, ids: Int32Array, targets: Int32Array): void {
    const { batchSize: B, sequenceLength: T } = this.options;
    const first = (step - 1) * B;
    for (let b = 0; b < B; b++) {
      const { source, window } = this.mixer?.at(first + b) ?? { source: 0, window: first + b };
      const place = this.sequences[source].place(window, step, b);
      fillRow(this.sources[source], place, ids, targets, b * T, T, this.options.documents?.separator);
    }
  }

  private refuseShort(source: TokenSource, index: number): void {
    const { length } = source;
    const { batchSize: B, sequenceLength: T, order } = this.options;
    const isPadded = this.options.documents?.mode === 'padded';
    const needsBatch = order !== 'random' && !this.mixer;
    const needed = isPadded ? 2 : (needsBatch ? B : 1) * T + 1;
    if (source.ensure ? source.ensure(needed) : length >= needed) return;
    throw new GemmoeError(
      'bad-data',
      `${this.mixer ? `data source ${index + 1}` : 'the training text'} has ${length} tokens, ${
        needsBatch ? `a batch of ${B} x ${T}` : `a sequence of ${T}`
      } needs ${needed}`,
      'give more text, or a smaller batch or sequence length',
    );
  }
}

/** @throws GemmoeError for rows of documents where there is one document, or none with anything to learn */
function rowsOf(source: TokenSource, options: BatchOptions): RowSequence {
  const { mode = 'packed', separator } = options.documents ?? {};
  if (mode !== 'packed') refuseOneDocument(mode, separator);
  if (source.isStreamed) refuseForStream(options);
  if (source.isStreamed || (options.shuffleBlock ?? 0) > 0) return blocksOf(source, options);
  if (mode !== 'padded') return new WindowSequence(source, options);
  const pieces = new PieceSequence(source, separator as number, options);
  if (pieces.perEpoch > 0) return pieces;
  throw new GemmoeError('bad-data', 'the data hold no document with anything to learn', 'give more data');
}

function refuseOneDocument(mode: string, separator: number | undefined): void {
  if (separator !== undefined) return;
  throw new GemmoeError(
    'bad-config',
    `documents are ${mode}, but nothing stands between them in the data: there is one, or the tokenizer has no end-of-text token`,
    'leave it at packed, or give several (files, or rows of JSONL) with a byte or bpe tokenizer',
  );
}

/** What needs all of the data before the first step. */
function refuseForStream({ order, documents }: BatchOptions): void {
  const [what, use] =
    order === 'random'
      ? ['order random', 'shuffle']
      : documents?.mode === 'padded'
        ? ['padded documents', 'masked']
        : [];
  if (what === undefined) return;
  throw new GemmoeError('bad-config', `${what} cannot be had from a stream, whose end is not known`, `use ${use}`);
}

function blocksOf(source: TokenSource, options: BatchOptions): BlockSequence {
  if (options.order !== 'random' && options.documents?.mode !== 'padded') {
    return new BlockSequence(source, options, options.shuffleBlock ?? 0);
  }
  throw new GemmoeError(
    'bad-config',
    `blocks of ${options.shuffleBlock} windows are for windows in order: not for order random, nor padded documents`,
    'leave shuffleBlock at 0',
  );
}

/** Fills a row of T tokens; behind the place's tokens there is padding without targets. */
function fillRow(
  source: TokenSource,
  { start, count }: Place,
  ids: Int32Array,
  targets: Int32Array,
  row: number,
  length: number,
  padding = 0,
): void {
  source.read(start, ids, row, count);
  readTargets(source, start + 1, targets, row, count);
  ids.fill(padding, row + count, row + length);
  targets.fill(IGNORE_INDEX, row + count, row + length);
}

/** The non-overlapping windows of a validation split. */
export interface Windows {
  readonly count: number;
  /** Writes T ids and their T targets at `offset`. */
  fill(index: number, ids: Int32Array, targets: Int32Array, offset: number): void;
}

/**
 * floor((length - 1) / T) windows, each beginning where the one before ended; with `padded` documents, these in order.
 *
 * @throws GemmoeError for rows of documents where there is one document
 */
export function validationWindows(source: TokenSource, sequenceLength: number, documents?: DocumentRows): Windows {
  if (documents?.mode === 'masked') refuseOneDocument(documents.mode, documents.separator);
  if (documents?.mode === 'padded') {
    const pieces = rowsOf(source, { documents, sequenceLength, batchSize: 1, order: 'sequential', seed: 0 });
    return {
      count: pieces.perEpoch,
      fill(index, ids, targets, offset) {
        const place = pieces.place(index, 1, 0);
        fillRow(source, place, ids, targets, offset, sequenceLength, documents.separator);
      },
    };
  }
  return {
    count: Math.max(0, Math.floor((source.length - 1) / sequenceLength)),
    fill(index, ids, targets, offset) {
      source.read(index * sequenceLength, ids, offset, sequenceLength);
      readTargets(source, index * sequenceLength + 1, targets, offset, sequenceLength);
    },
  };
}
