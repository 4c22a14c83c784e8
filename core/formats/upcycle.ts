// Sparse upcycling (Komatsuzaki et al. 2023): a dense model becomes one of experts that all begin as copies of its feed-forward
// layer. Their weights sum to 1, so the logits stay what they were.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import { type ModelConfig, parseModelConfig } from '../model/config.ts';
import { Random } from '../random.ts';
import { writeDirectoryAtomic } from './atomic-files.ts';
import { copyCompanions } from './convert.ts';
import { exportFamily } from './families/index.ts';
import type { TensorPlace } from './families/family.ts';
import { findPlaces, readModelConfig, writeDirectoryFiles } from './hugging-face.ts';
import { readJsonObject } from './json-files.ts';
import { checkTarget } from './output-place.ts';
import type { TensorToWrite } from './safetensors.ts';
import { type FloatType, PIECE, readPieces, storedPieces } from './stored-values.ts';
import { TensorFiles, withProgress, type WriteOptions } from './weight-files.ts';

export interface UpcycleOptions extends WriteOptions {
  /** E: copies of the feed-forward layer. */
  readonly numExperts: number;
  /** K: experts chosen for each token. */
  readonly topK: number;
  /**
   * Standard deviation of the normal noise on each copy, as a share of the root mean square of the tensor; 0 (default) leaves
   * all copies equal, and only the router tells them apart in training.
   */
  readonly noise?: number | undefined;
  readonly seed: number;
  /** Type that weights are stored in; that of the source when left out. */
  readonly dtype?: FloatType | undefined;
}

export interface UpcycleSummary {
  readonly config: ModelConfig;
  readonly dtype: FloatType;
  readonly bytes: number;
}

/** Deviation of the router's weights: small, so that at first every expert is chosen about as often. */
const ROUTER_DEVIATION = 0.02;
/** Weight of the load-balancing loss when the new model is trained: the dense one had none. */
const AUX_LOSS = 0.01;

/**
 * Writes the dense model of `source` as one of experts, tensor by tensor.
 * @throws GemmoeError for a model that has experts already, and counts that cannot be
 */
export function upcycleDirectory(source: string, target: string, options: UpcycleOptions): UpcycleSummary {
  const { config: dense, family, original } = readModelConfig(source);
  const config = sparseConfig(dense, options, source);
  checkTarget(target, source, options.replace ?? false);
  const files = new TensorFiles(source);
  try {
    const sources = new DenseParameters(files, findPlaces(family, dense, files, source));
    const dtype = options.dtype ?? sources.dtype;
    const [places] = exportFamily(config).layouts(config);
    const tensors = places.map((place, index): TensorToWrite => {
      const values = place.parameter.endsWith('.router')
        ? routerPieces(place, index, options.seed)
        : noisy(sources.pieces(place), sources, place, index, options);
      return { name: place.name, shape: place.shape, dtype, parts: storedPieces(place.name, dtype, values) };
    });
    let bytes = 0;
    const counted = withProgress(tensors, (done, total) => {
      bytes = done;
      options.onProgress?.(done, total);
    });
    const generationPath = join(source, 'generation_config.json');
    const generation = existsSync(generationPath) ? { generation: readJsonObject(generationPath) } : {};
    const { maxShardBytes } = options;
    const build = (temporary: string) => {
      const shards = maxShardBytes === undefined ? {} : { maxShardBytes };
      writeDirectoryFiles(temporary, config, counted, { original, ...generation, ...shards });
      copyCompanions(source, temporary);
    };
    writeDirectoryAtomic(target, build, { replace: options.replace ?? false });
    return { config, dtype, bytes };
  } finally {
    files.close();
  }
}

function sparseConfig(
  dense: ModelConfig,
  { numExperts, topK, noise = 0 }: UpcycleOptions,
  source: string,
): ModelConfig {
  if (dense.numExperts > 1) {
    throw new GemmoeError(
      'usage',
      `${source} has ${dense.numExperts} experts already`,
      'name a dense model, such as a llama',
    );
  }
  if (!(numExperts >= 2)) {
    throw new GemmoeError('usage', `${numExperts} experts are no mixture`, 'ask for 2 at least');
  }
  if (!(noise >= 0 && Number.isFinite(noise))) {
    throw new GemmoeError('usage', `noise is ${noise}`, 'give a share of the weights, such as 0.01, or 0');
  }
  const sparse = { numExperts, topK, auxLossCoefficient: AUX_LOSS, auxLossReduction: 'perLayer' } as const;
  // families of experts have biases in all four projections of attention or in none: one of zeros completes them
  const biases = dense.qkvBias ? { outputBias: true } : {};
  const { family: _, ...shape } = dense;
  return parseModelConfig({ ...shape, ...sparse, ...biases }, 'upcycled model');
}

/** The parameters of the dense model, piece by piece out of its files. */
class DenseParameters {
  private readonly files: TensorFiles;
  private readonly places = new Map<string, TensorPlace[]>();
  private readonly sizes = new Map<string, number>();

  constructor(files: TensorFiles, places: readonly TensorPlace[]) {
    this.files = files;
    for (const place of places.toSorted((a, b) => a.offset - b.offset)) {
      this.places.set(place.parameter, [...(this.places.get(place.parameter) ?? []), place]);
      this.sizes.set(place.parameter, (this.sizes.get(place.parameter) ?? 0) + elements(place));
    }
  }

  /** The type of the first tensor; float64 is written as float32. */
  get dtype(): FloatType {
    const [[{ name }]] = [...this.places.values()];
    const stored = this.files.fileOf(name).tensors.get(name)?.dtype;
    return stored === 'BF16' || stored === 'F16' ? stored : 'F32';
  }

  /** The elements of a place of the new model: every expert is the one feed-forward layer again, a bias that is new is 0. */
  *pieces({ parameter, offset, shape }: TensorPlace): Generator<Float32Array, void> {
    const size = this.sizes.get(parameter);
    if (size === undefined) {
      if (!parameter.endsWith('.output_bias')) {
        throw new GemmoeError('internal', `the dense model has no ${parameter}`);
      }
      yield new Float32Array(elements({ shape }));
      return;
    }
    const end = offset + elements({ shape });
    for (let at = offset; at < end;) {
      const within = at % size;
      const length = Math.min(end - at, size - within);
      yield* this.range(parameter, within, length);
      at += length;
    }
  }

  private *range(parameter: string, start: number, length: number): Generator<Float32Array, void> {
    for (const place of this.places.get(parameter) ?? []) {
      const first = Math.max(start, place.offset);
      const last = Math.min(start + length, place.offset + elements(place));
      if (first >= last) continue;
      yield* readPieces(this.files.fileOf(place.name), place.name, first - place.offset, last - first);
    }
  }
}

function* routerPieces(place: TensorPlace, index: number, seed: number): Generator<Float32Array, void> {
  const values = new Float32Array(elements(place));
  new Random(seed, 'upcycle router').fillNormal(values, 0, ROUTER_DEVIATION, index);
  yield values;
}

/** The pieces, with noise where an expert's copy is to have some. */
function* noisy(
  pieces: Iterable<Float32Array>,
  sources: DenseParameters,
  place: TensorPlace,
  index: number,
  { noise = 0, seed }: UpcycleOptions,
): Generator<Float32Array, void> {
  if (noise === 0 || !place.parameter.includes('.experts.')) return yield* pieces;
  const deviation = noise * rootMeanSquare(sources.pieces(place));
  const random = new Random(seed, 'upcycle noise');
  const draw = new Float32Array(PIECE);
  let at = 0;
  for (const values of pieces) {
    const added = draw.subarray(0, values.length);
    random.fillNormal(added, 0, deviation, index, at);
    for (let i = 0; i < values.length; i++) values[i] += added[i];
    at += values.length;
    yield values;
  }
}

function rootMeanSquare(pieces: Iterable<Float32Array>): number {
  let sum = 0;
  let count = 0;
  for (const values of pieces) {
    for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
    count += values.length;
  }
  return Math.sqrt(sum / count);
}

function elements({ shape }: Pick<TensorPlace, 'shape'>): number {
  return shape.reduce((product, size) => product * size, 1);
}
