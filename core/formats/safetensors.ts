// safetensors: an 8-byte header length, a JSON header, and the tensors' bytes in one buffer that the header covers exactly.
// https://github.com/huggingface/safetensors (format description in its README).

import { closeSync, fsyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { GemmoeError, messageOf } from '../errors.ts';
import type { Kernels } from '../kernels.ts';
import { fromBf16, fromF16, toBf16 } from '../ops/cast.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { duplicateKey } from './json-keys.ts';
import { openFile } from './open-file.ts';

/** Bytes of one element, of the types that are whole bytes, in the order by which the reference library sorts (rising). */
const ELEMENT_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;
const TYPES = Object.keys(ELEMENT_BYTES);

/** Element type as the file names it. */
export type StoredType = keyof typeof ELEMENT_BYTES;

/** The type that values are stored in as they are; bits of bfloat16 are 16-bit integers here. */
export function storedTypeOf(data: FloatArray | Uint16Array): 'F32' | 'F64' | 'BF16' {
  if (data instanceof Uint16Array) return 'BF16';
  return data instanceof Float32Array ? 'F32' : 'F64';
}

/** Where a tensor stands in its file. */
export interface StoredTensor {
  readonly dtype: StoredType;
  readonly shape: readonly number[];
  /** Bytes from the start of the data buffer. */
  readonly begin: number;
  readonly end: number;
}

/** A tensor to write. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: StoredType;
  readonly shape: readonly number[];
  /** Views that follow each other: their bytes are the tensor's. A generator may fill one buffer again and again. */
  readonly parts: Iterable<ArrayBufferView>;
}

/** Bytes that a tensor takes in a file. */
export function byteLengthOf({ dtype, shape }: Pick<TensorToWrite, 'dtype' | 'shape'>): number {
  return shape.reduce((product, length) => product * length, ELEMENT_BYTES[dtype]);
}

/** Longest header that the reference library accepts. */
const MAX_HEADER = 100_000_000;
/** Bytes cast at a time when a tensor is not stored as it is wanted. */
const CHUNK = 1 << 20;

/** An open safetensors file, its header checked. */
export class SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  private readonly descriptor: number;
  private readonly dataStart: number;

  constructor(path: string, descriptor: number, header: Header, dataStart: number) {
    this.path = path;
    this.descriptor = descriptor;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.dataStart = dataStart;
  }

  /**
   * Reads elements [start, start + into.length) of a floating-point tensor to their place, casting where types differ; a
   * Uint16Array takes them as bits of bfloat16. `casts` are a backend's, where one is at hand.
   * @throws GemmoeError for an unknown name, a type that is no float, or a range outside the tensor
   */
  read(name: string, into: FloatArray | Uint16Array, start = 0, casts: Casts = PORTABLE): void {
    const tensor = this.tensor(name);
    const size = ELEMENT_BYTES[tensor.dtype];
    if (start < 0 || (start + into.length) * size > tensor.end - tensor.begin) {
      const count = (tensor.end - tensor.begin) / size;
      throw this.wrong(name, `has ${count} elements, ${into.length} from ${start} were asked for`);
    }
    const position = tensor.begin + start * size;
    if (tensor.dtype === 'F32' && into instanceof Float32Array) return this.readBytes(bytesOf(into), position);
    if (tensor.dtype === 'F64' && into instanceof Float64Array) return this.readBytes(bytesOf(into), position);
    if (tensor.dtype === 'BF16' && into instanceof Uint16Array) return this.readBytes(bytesOf(into), position);
    this.readCast(name, tensor.dtype, into, position, casts);
  }

  /** The bytes of a tensor. */
  readRaw(name: string): Uint8Array {
    const { begin, end } = this.tensor(name);
    const bytes = new Uint8Array(end - begin);
    this.readBytes(bytes, begin);
    return bytes;
  }

  /** The bytes of a tensor in pieces, each valid until the next is taken. */
  *rawPieces(name: string): Generator<Uint8Array, void> {
    const { begin, end } = this.tensor(name);
    const buffer = new Uint8Array(Math.min(CHUNK, end - begin));
    for (let at = begin; at < end; at += buffer.length) {
      const bytes = buffer.subarray(0, Math.min(buffer.length, end - at));
      this.readBytes(bytes, at);
      yield bytes;
    }
  }

  close(): void {
    closeSync(this.descriptor);
  }

  private tensor(name: string): StoredTensor {
    const found = this.tensors.get(name);
    if (!found) throw this.wrong(name, 'is not in the file');
    return found;
  }

  private readCast(
    name: string,
    dtype: StoredType,
    into: FloatArray | Uint16Array,
    position: number,
    casts: Casts,
  ): void {
    const cast = CASTS[dtype];
    if (!cast) throw this.wrong(name, `holds ${dtype}, which is no floating-point type that can be read`);
    const size = ELEMENT_BYTES[dtype];
    const step = CHUNK / size;
    const buffer = new ArrayBuffer(Math.min(CHUNK, into.length * size));
    const floats = into instanceof Uint16Array ? new Float32Array(Math.min(step, into.length)) : null;
    for (let first = 0; first < into.length; first += step) {
      const count = Math.min(step, into.length - first);
      this.readBytes(new Uint8Array(buffer, 0, count * size), position + first * size);
      const part = into.subarray(first, first + count);
      if (!(part instanceof Uint16Array)) cast(part, buffer, count, casts);
      else if (floats) {
        cast(floats.subarray(0, count), buffer, count, casts);
        casts.toBf16(part, floats.subarray(0, count));
      }
    }
  }

  private readBytes(into: Uint8Array, position: number): void {
    readExactly(this.path, this.descriptor, into, this.dataStart + position);
  }

  private wrong(name: string, what: string): GemmoeError {
    return new GemmoeError('bad-data', `${this.path}: tensor ${name} ${what}`, 'is this the right file?');
  }
}

/** Kernels that cast. */
type Casts = Pick<Kernels, 'fromBf16' | 'fromF16' | 'toBf16'>;

const PORTABLE: Casts = { fromBf16, fromF16, toBf16 };

const CASTS: Partial<Record<StoredType, (out: FloatArray, buffer: ArrayBuffer, count: number, casts: Casts) => void>> =
  {
    F64: (out, buffer, count) => out.set(new Float64Array(buffer, 0, count)),
    F32: (out, buffer, count) => out.set(new Float32Array(buffer, 0, count)),
    BF16: (out, buffer, count, casts) => casts.fromBf16(out, new Uint16Array(buffer, 0, count)),
    F16: (out, buffer, count, casts) => casts.fromF16(out, new Uint16Array(buffer, 0, count)),
  };

/** Opens a file and checks its header against its size. @throws GemmoeError naming the file, the tensor and what is wrong */
export function openSafetensors(path: string): SafetensorsFile {
  return openFile(path, (descriptor, size) => {
    const length = readHeaderLength(path, descriptor, size);
    const bytes = new Uint8Array(length);
    readExactly(path, descriptor, bytes, 8);
    return new SafetensorsFile(path, descriptor, parseHeader(path, bytes, size - 8 - length), 8 + length);
  });
}

function readHeaderLength(path: string, descriptor: number, size: number): number {
  if (size < 8) throw corrupt(path, `is ${size} bytes long, too short for a header`);
  const prefix = new Uint8Array(8);
  readExactly(path, descriptor, prefix, 0);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER)) {
    throw corrupt(path, `says its header has ${length} bytes, more than the ${MAX_HEADER} allowed`);
  }
  if (8 + Number(length) > size) {
    throw corrupt(path, `says its header has ${length} bytes, but only ${size - 8} follow`);
  }
  return Number(length);
}

interface Header {
  readonly tensors: Map<string, StoredTensor>;
  readonly metadata: Record<string, string>;
}

function parseHeader(path: string, bytes: Uint8Array, dataLength: number): Header {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw corrupt(path, 'has a header that is not UTF-8');
  }
  if (!text.startsWith('{')) throw corrupt(path, 'has a header that does not begin with "{"');
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw corrupt(path, `has a header that is not JSON: ${messageOf(error)}`);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) throw corrupt(path, `names ${JSON.stringify(twice)} twice in its header`);
  const { __metadata__: metadata = {}, ...entries } = value;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(entries)) tensors.set(name, parseTensor(path, name, entry));
  checkCoverage(path, tensors, dataLength);
  return { tensors, metadata: parseMetadata(path, metadata) };
}

function parseMetadata(path: string, metadata: unknown): Record<string, string> {
  if (!isRecord(metadata)) throw corrupt(path, 'has a __metadata__ that is not an object');
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') throw corrupt(path, `has a __metadata__.${key} that is not a string`);
  }
  return metadata as Record<string, string>;
}

function parseTensor(path: string, name: string, entry: unknown): StoredTensor {
  const wrong = (what: string) => corrupt(path, `: tensor ${JSON.stringify(name)} ${what}`);
  if (!isRecord(entry)) throw wrong('is not an object');
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(ELEMENT_BYTES, dtype)) {
    throw wrong(`has dtype ${JSON.stringify(dtype)}; known are ${TYPES.join(', ')}`);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) throw wrong(`has shape ${JSON.stringify(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw wrong(`has data_offsets ${JSON.stringify(offsets)}; two whole numbers are wanted`);
  }
  const stored = dtype as StoredType;
  const [begin, end] = offsets as [number, number];
  const bytes = (shape as number[]).reduce((product, length) => product * length, ELEMENT_BYTES[stored]);
  if (!Number.isSafeInteger(bytes)) throw wrong(`has shape [${shape}], more elements than can be`);
  if (end - begin !== bytes) {
    throw wrong(
      `of ${stored} [${shape}] takes ${bytes} bytes, but its data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return { dtype: stored, shape: shape as number[], begin, end };
}

/** The tensors' ranges, in rising order, must follow each other without holes and fill the buffer. */
function checkCoverage(path: string, tensors: Map<string, StoredTensor>, dataLength: number): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, { begin, end }] of ordered) {
    if (begin !== at) {
      const what = begin < at ? 'overlaps the tensor before it' : 'leaves a hole before it';
      throw corrupt(path, `: tensor ${JSON.stringify(name)} at [${begin}, ${end}] ${what}, which ends at ${at}`);
    }
    at = end;
  }
  if (at === dataLength) return;
  if (at > dataLength) throw corrupt(path, `is cut short: its tensors take ${at} bytes, ${dataLength} are there`);
  throw corrupt(path, `has ${dataLength - at} bytes behind its last tensor`);
}

/**
 * Writes tensors as the reference library lays them out: by falling type, then by name, the header padded to 8 bytes.
 * The parts are written as they are, so a model is never held twice. The file is flushed to the disk; one that cannot be
 * written to its end is removed.
 */
export function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): void {
  const ordered = [...tensors].sort(
    (a, b) => TYPES.indexOf(b.dtype) - TYPES.indexOf(a.dtype) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
  // joined by hand: an object would move names that are whole numbers to the front
  const entries = new Map<string, unknown>([['__metadata__', metadata]]);
  let at = 0;
  for (const { name, dtype, shape } of ordered) {
    if (entries.has(name)) throw new GemmoeError('internal', `tensor ${name} is written twice to ${path}`);
    const end = at + byteLengthOf({ dtype, shape });
    entries.set(name, { dtype, shape, data_offsets: [at, end] });
    at = end;
  }
  const fields = [...entries].map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  const json = Buffer.from(`{${fields.join()}}`);
  const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  padded.writeBigUInt64LE(BigInt(padded.length - 8), 0);
  json.copy(padded, 8);
  const descriptor = openSync(path, 'w');
  try {
    writeFully(descriptor, padded);
    for (const tensor of ordered) writeTensor(descriptor, tensor);
    fsyncSync(descriptor);
    closeSync(descriptor);
  } catch (error) {
    closeSync(descriptor);
    rmSync(path, { force: true });
    throw error;
  }
}

function writeTensor(descriptor: number, tensor: TensorToWrite): void {
  let given = 0;
  for (const part of tensor.parts) {
    writeFully(descriptor, bytesOf(part));
    given += part.byteLength;
  }
  if (given === byteLengthOf(tensor)) return;
  throw new GemmoeError('internal', `tensor ${tensor.name} [${tensor.shape}] was given ${given} bytes`);
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Largest single read or write: some systems take no more than 2 GiB at once. */
const MAX_TRANSFER = 1 << 30;

/** Writes all bytes, however large. */
export function writeFully(descriptor: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;)
    at += writeSync(descriptor, bytes, at, Math.min(MAX_TRANSFER, bytes.length - at));
}

/** Reads as many bytes as `into` takes. @throws GemmoeError where the file ends too early */
export function readExactly(path: string, descriptor: number, into: Uint8Array, position: number): void {
  for (let at = 0; at < into.length;) {
    const count = readSync(descriptor, into, at, Math.min(MAX_TRANSFER, into.length - at), position + at);
    if (count === 0) throw corrupt(path, `ends at byte ${position + at}, ${into.length - at} bytes too early`);
    at += count;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function corrupt(path: string, what: string): GemmoeError {
  const space = what.startsWith(':') ? '' : ' ';
  return new GemmoeError(
    'bad-data',
    `${path}${space}${what}`,
    'the file is damaged or no safetensors file: fetch it again',
  );
}
