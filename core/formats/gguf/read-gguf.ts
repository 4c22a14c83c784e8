// GGUF files: metadata, the places of tensors, and the values of the types that are written here.

import { closeSync } from 'node:fs';
import { GemmoeError } from '../../errors.ts';
import { fromBf16, fromF16 } from '../../ops/cast.ts';
import { openFile } from '../open-file.ts';
import { readExactly } from '../safetensors.ts';
import { fromQ8 } from './q8.ts';
import {
  ALIGNMENT,
  aligned,
  GGML_TYPES,
  type GgmlType,
  MAGIC,
  tensorBytes,
  VALUE_TYPES,
  type ValueType,
} from './types.ts';

/** A metadata value as JavaScript has it; whole numbers of 64 bits are numbers while they are exact. */
export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

export interface GgufTensor {
  readonly type: GgmlType;
  /** Slowest first, as everywhere here. */
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly begin: number;
  readonly end: number;
}

/** An open file, its header checked. */
export class GgufFile {
  readonly path: string;
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  private readonly descriptor: number;

  constructor(path: string, descriptor: number, header: Header) {
    this.path = path;
    this.descriptor = descriptor;
    this.version = header.version;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /** Values of a tensor of type F32, F16, BF16 or Q8_0. @throws GemmoeError for others, and for a name that is not there */
  read(name: string): Float32Array {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new GemmoeError('not-found', `${this.path} holds no tensor ${name}`);
    const bytes = new Uint8Array(tensor.end - tensor.begin);
    readExactly(this.path, this.descriptor, bytes, tensor.begin);
    const values = new Float32Array(tensor.shape.reduce((product, size) => product * size, 1));
    if (tensor.type === 'F32') values.set(new Float32Array(bytes.buffer));
    else if (tensor.type === 'F16') fromF16(values, new Uint16Array(bytes.buffer));
    else if (tensor.type === 'BF16') fromBf16(values, new Uint16Array(bytes.buffer));
    else if (tensor.type === 'Q8_0') fromQ8(values, bytes);
    else
      throw new GemmoeError('unavailable', `${this.path}: tensor ${name} is of type ${tensor.type}, which is not read`);
    return values;
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

/** Opens a file and checks its header against its size. @throws GemmoeError naming the file and what is wrong */
export function openGguf(path: string): GgufFile {
  return openFile(path, (descriptor, size) => new GgufFile(path, descriptor, readHeader(path, descriptor, size)));
}

interface Header {
  readonly version: number;
  readonly metadata: Map<string, GgufValue>;
  readonly tensors: Map<string, GgufTensor>;
}

function readHeader(path: string, descriptor: number, size: number): Header {
  const cursor = new Cursor(path, descriptor, size);
  if (cursor.size < 24 || cursor.number('u32') !== MAGIC) throw corrupt(path, 'does not begin as a GGUF file does');
  const version = cursor.number('u32');
  if (version !== 2 && version !== 3) throw corrupt(path, `is of version ${version}; 2 and 3 are read`);
  const tensorCount = cursor.count('tensors');
  const keyCount = cursor.count('keys');
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.string();
    if (metadata.has(key)) throw corrupt(path, `has the key ${key} twice`);
    metadata.set(key, cursor.value(cursor.valueType()));
  }
  const alignment = metadata.get('general.alignment') ?? ALIGNMENT;
  if (typeof alignment !== 'number' || alignment < 1) throw corrupt(path, `has an alignment of ${String(alignment)}`);
  const places = Array.from({ length: tensorCount }, () => cursor.tensorPlace());
  const start = aligned(cursor.position, alignment);
  const tensors = new Map<string, GgufTensor>();
  for (const { name, type, shape, offset } of places) {
    const begin = start + offset;
    const end = begin + tensorBytes(type, shape);
    if (tensors.has(name)) throw corrupt(path, `holds the tensor ${name} twice`);
    if (offset % alignment !== 0)
      throw corrupt(path, `: tensor ${name} begins at ${offset}, no multiple of ${alignment}`);
    if (!(end <= cursor.size))
      throw corrupt(path, `is cut short: tensor ${name} ends at byte ${end} of ${cursor.size}`);
    tensors.set(name, { type, shape, begin, end });
  }
  return { version, metadata, tensors };
}

/** Bytes that are read from the file at once. */
const WINDOW = 1 << 20;
/** Arrays within arrays deeper than this are a fault. */
const MAX_DEPTH = 4;

/** Reads a header from its start, and never beyond the file. */
class Cursor {
  readonly size: number;
  position = 0;
  private readonly path: string;
  private readonly descriptor: number;
  private window = Buffer.alloc(0);
  private windowStart = 0;

  constructor(path: string, descriptor: number, size: number) {
    this.path = path;
    this.descriptor = descriptor;
    this.size = size;
  }

  valueType(): ValueType {
    const id = this.number('u32');
    const found = (Object.keys(VALUE_TYPES) as ValueType[]).find((type) => VALUE_TYPES[type].id === id);
    if (!found) throw corrupt(this.path, `has a value of type ${id}, which does not exist`);
    return found;
  }

  /** A count of things that take a byte each at least. */
  count(what: string): number {
    const value = this.integer();
    if (typeof value === 'number' && value >= 0 && value <= this.size - this.position) return value;
    throw corrupt(this.path, `says it has ${value} ${what}, more than its ${this.size} bytes can hold`);
  }

  string(): string {
    return this.take(this.count('bytes in a string')).toString('utf8');
  }

  number(type: 'u32'): number {
    return this.take(VALUE_TYPES[type].bytes).readUInt32LE();
  }

  value(type: ValueType, depth = 0): GgufValue {
    if (type === 'string') return this.string();
    if (type === 'array') {
      if (depth > MAX_DEPTH) throw corrupt(this.path, 'has arrays within arrays without end');
      const of = this.valueType();
      return Array.from({ length: this.count('items in an array') }, () => this.value(of, depth + 1));
    }
    const bytes = this.take(VALUE_TYPES[type].bytes);
    if (type === 'bool') return bytes[0] !== 0;
    if (type === 'f32') return bytes.readFloatLE();
    if (type === 'f64') return bytes.readDoubleLE();
    if (type === 'u64') return exact(bytes.readBigUInt64LE());
    if (type === 'i64') return exact(bytes.readBigInt64LE());
    return type.startsWith('u') ? bytes.readUIntLE(0, bytes.length) : bytes.readIntLE(0, bytes.length);
  }

  tensorPlace(): { name: string; type: GgmlType; shape: number[]; offset: number } {
    const name = this.string();
    const rank = this.number('u32');
    if (rank > 4) throw corrupt(this.path, `: tensor ${name} has ${rank} dimensions, 4 are the most`);
    const shape = Array.from({ length: rank }, () => Number(this.integer())).reverse();
    const id = this.number('u32');
    const offset = Number(this.integer());
    const type = (Object.keys(GGML_TYPES) as GgmlType[]).find((candidate) => GGML_TYPES[candidate].id === id);
    if (!type) throw corrupt(this.path, `: tensor ${name} is of type ${id}, which is not known`);
    if ((shape.at(-1) ?? 1) % GGML_TYPES[type].block !== 0) {
      throw corrupt(this.path, `: tensor ${name} [${shape}] of ${type} has rows that are no whole blocks`);
    }
    return { name, type, shape, offset };
  }

  private integer(): number | bigint {
    return exact(this.take(8).readBigUInt64LE());
  }

  private take(length: number): Buffer {
    if (length > this.size - this.position) {
      throw corrupt(this.path, `ends at byte ${this.size}, in the middle of its header`);
    }
    const from = this.position - this.windowStart;
    if (from + length > this.window.length) {
      this.window = Buffer.alloc(Math.min(Math.max(length, WINDOW), this.size - this.position));
      readExactly(this.path, this.descriptor, this.window, this.position);
      this.windowStart = this.position;
    }
    const start = this.position - this.windowStart;
    this.position += length;
    return this.window.subarray(start, start + length);
  }
}

function exact(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

function corrupt(path: string, what: string): GemmoeError {
  const space = what.startsWith(':') ? '' : ' ';
  return new GemmoeError('bad-data', `${path}${space}${what}`, 'the file is damaged or no GGUF file: fetch it again');
}
