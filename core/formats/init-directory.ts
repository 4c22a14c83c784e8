// A model directory of random weights, made tensor by tensor: a model that does not fit in memory can be written.

import type { Tokenizer } from '../data/tokenizer.ts';
import { fillInitial } from '../model/initialise.ts';
import type { Transformer } from '../model/transformer.ts';
import { writeDirectoryAtomic } from './atomic-files.ts';
import { exportFamily } from './families/index.ts';
import type { TensorPlace } from './families/family.ts';
import { writeDirectoryFiles } from './hugging-face.ts';
import { checkTarget } from './output-place.ts';
import { type FloatType, PIECE, storedPieces } from './stored-values.ts';
import { withProgress, type WriteOptions } from './weight-files.ts';

export interface InitOptions extends WriteOptions {
  readonly seed: number;
  readonly dtype: FloatType;
  readonly tokenizer?: Tokenizer | undefined;
}

/**
 * Writes what `model.initialise(seed)` and `saveModel` would, without allocating the model's weights.
 * @param model gives the parameters' names and shapes
 * @throws GemmoeError when the directory exists and is not to be replaced
 */
export function initDirectory(directory: string, model: Transformer, options: InitOptions): void {
  const { seed, dtype, tokenizer, maxShardBytes, replace = false, onProgress } = options;
  const [places] = exportFamily(model.config).layouts(model.config);
  checkTarget(directory, null, replace);
  const tensors = places.map((place) => ({
    name: place.name,
    shape: place.shape,
    dtype,
    parts: storedPieces(place.name, dtype, initialPieces(model, place, seed)),
  }));
  writeDirectoryAtomic(
    directory,
    (temporary) =>
      writeDirectoryFiles(temporary, model.config, withProgress(tensors, onProgress), {
        ...(tokenizer && { tokenizer }),
        ...(maxShardBytes !== undefined && { maxShardBytes }),
      }),
    { replace },
  );
}

function* initialPieces(model: Transformer, place: TensorPlace, seed: number): Generator<Float32Array, void> {
  const store = model.parameters;
  const isBuffer = store.buffers.some(({ name }) => name === place.parameter);
  const parameter = isBuffer ? undefined : store.get(place.parameter);
  const length = place.shape.reduce((product, size) => product * size, 1);
  const buffer = new Float32Array(Math.min(PIECE, length));
  for (let at = 0; at < length; at += buffer.length) {
    const values = buffer.subarray(0, Math.min(buffer.length, length - at));
    // buffers, which are no weights, begin as zeros
    if (parameter)
      fillInitial(values, store, model.kernels, parameter, place.offset + at, model.config.numLayers, seed);
    yield values;
  }
}
