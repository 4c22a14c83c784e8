// Floats on their way to a file: cast in pieces, so that a tensor of any size needs little memory.

import { GemmoeError } from '../errors.ts';
import { toBf16, toF16 } from '../ops/cast.ts';
import type { SafetensorsFile } from './safetensors.ts';

/** Types that weights are written in, by the names of the command line. */
export const FLOAT_TYPES = { f32: 'F32', bf16: 'BF16', f16: 'F16' } as const;

export type FloatType = (typeof FLOAT_TYPES)[keyof typeof FLOAT_TYPES];

/** Elements of a piece: 4 MiB in float32. */
export const PIECE = 1 << 20;

/**
 * The bytes of `pieces` in `type`, piece by piece; each is valid until the next is taken.
 * @throws GemmoeError naming the tensor where a number is too large for float16
 */
export function* storedPieces(
  name: string,
  type: FloatType,
  pieces: Iterable<Float32Array>,
): Generator<ArrayBufferView, void> {
  if (type === 'F32') return yield* pieces;
  let buffer = new Uint16Array(0);
  for (const values of pieces) {
    if (buffer.length < values.length) buffer = new Uint16Array(values.length);
    const out = buffer.subarray(0, values.length);
    if (type === 'BF16') toBf16(out, values);
    else halves(name, out, values);
    yield out;
  }
}

/** float16, refusing what would become infinite. */
export function halves(name: string, out: Uint16Array, values: Float32Array): void {
  toF16(out, values);
  for (let i = 0; i < values.length; i++) {
    if ((out[i] & 0x7fff) !== 0x7c00 || Math.abs(values[i]) === Infinity) continue;
    throw new GemmoeError(
      'bad-data',
      `tensor ${name} holds ${values[i]}, which float16 cannot: its largest number is 65504`,
      'store the model in bf16 or f32',
    );
  }
}

/** Elements [start, start + length) of a tensor in pieces that are read one after the other into one buffer. */
export function* readPieces(
  file: SafetensorsFile,
  name: string,
  start: number,
  length: number,
  pieceLength = PIECE,
): Generator<Float32Array, void> {
  const buffer = new Float32Array(Math.min(pieceLength, length));
  for (let at = 0; at < length; at += buffer.length) {
    const values = buffer.subarray(0, Math.min(buffer.length, length - at));
    file.read(name, values, start + at);
    yield values;
  }
}
