// NumPy's .npy files. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

import { readFileSync } from 'node:fs';
import { GemmoeError, messageOf } from '../errors.ts';
import { fromF16 } from '../ops/cast.ts';

/** An array of a .npy file, row-major. */
export interface NpyArray {
  /** NumPy's name: f2, f4, f8, i4 or i8. */
  readonly type: string;
  readonly shape: readonly number[];
  /** Floats in float32 (float64 as it is), whole numbers as numbers. */
  readonly values: Float32Array | Float64Array | Int32Array;
}

const MAGIC = '\x93NUMPY';

/** Reads little-endian arrays of floats and whole numbers. @throws GemmoeError naming the file and what is wrong */
export function readNpy(path: string): NpyArray {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new GemmoeError('not-found', `cannot read ${path}: ${messageOf(error)}`, 'check the path');
  }
  if (bytes.length < 12 || bytes.toString('latin1', 0, 6) !== MAGIC) throw corrupt(path, 'does not begin as .npy does');
  const isLong = bytes[6] > 1;
  const start = isLong ? 12 : 10;
  const length = isLong ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8);
  const header = bytes.toString('latin1', start, start + length);
  const type = /'descr': *'([^']*)'/.exec(header)?.[1] ?? '';
  const shapeText = /'shape': *\(([^)]*)\)/.exec(header)?.[1];
  if (shapeText === undefined) throw corrupt(path, 'has a header without a shape');
  if (/'fortran_order': *True/.test(header)) {
    throw corrupt(path, 'is column-major', 'save numpy.ascontiguousarray(array)');
  }
  const shape = shapeText
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(Number);
  const kind = type.replace(/^[<|]/, '');
  const read = READERS[kind];
  if (!read || type.startsWith('>')) {
    throw corrupt(path, `holds ${type || 'no type'}`, `save one of ${Object.keys(READERS).join(', ')}, little-endian`);
  }
  const count = shape.reduce((product, size) => product * size, 1);
  const data = bytes.subarray(start + length);
  const size = Number(kind[1]);
  if (data.length !== count * size) {
    throw corrupt(path, `holds ${data.length} bytes where its shape [${shape}] of ${kind} takes ${count * size}`);
  }
  // typed arrays want their data aligned
  return { type: kind, shape, values: read(new Uint8Array(data).buffer) };
}

const READERS: Readonly<Record<string, (buffer: ArrayBuffer) => NpyArray['values']>> = {
  f4: (buffer) => new Float32Array(buffer),
  f8: (buffer) => new Float64Array(buffer),
  f2: (buffer) => {
    const bits = new Uint16Array(buffer);
    const values = new Float32Array(bits.length);
    fromF16(values, bits);
    return values;
  },
  i4: (buffer) => new Int32Array(buffer),
  i8: (buffer) => Int32Array.from(new BigInt64Array(buffer), Number),
};

function corrupt(path: string, what: string, hint = 'save it again with numpy.save'): GemmoeError {
  return new GemmoeError('bad-data', `${path} ${what}`, hint);
}
