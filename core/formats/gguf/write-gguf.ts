// A GGUF file, tensor by tensor: header, metadata, the tensors' places, then their data.

import { closeSync, openSync } from 'node:fs';
import { GemmoeError } from '../../errors.ts';
import { toBf16 } from '../../ops/cast.ts';
import { writeFully } from '../safetensors.ts';
import { halves } from '../stored-values.ts';
import { toQ8 } from './q8.ts';
import {
  ALIGNMENT,
  aligned,
  GGML_TYPES,
  MAGIC,
  type Metadata,
  type MetadataValue,
  tensorBytes,
  VALUE_TYPES,
  VERSION,
  type WrittenType,
} from './types.ts';

/** A tensor to write; `shape` is in the order of this project, slowest first, and is turned around in the file. */
export interface GgufTensorToWrite {
  readonly name: string;
  readonly type: WrittenType;
  readonly shape: readonly number[];
  /** Its elements in order, whole blocks in each piece. */
  readonly pieces: Iterable<Float32Array>;
}

/** Longest name that ggml keeps, with the zero behind it. */
const MAX_NAME = 64;

/** Writes a file. @throws GemmoeError for a name that is too long and data of another length */
export function writeGguf(
  path: string,
  metadata: Metadata,
  tensors: readonly GgufTensorToWrite[],
  onBytes: (count: number) => void = () => {},
): void {
  const descriptor = openSync(path, 'w');
  try {
    const header = headerOf(metadata, tensors);
    writeFully(descriptor, header);
    for (const tensor of tensors) {
      let count = 0;
      for (const bytes of encoded(tensor)) {
        writeFully(descriptor, bytes);
        count += bytes.length;
        onBytes(bytes.length);
      }
      const wanted = tensorBytes(tensor.type, tensor.shape);
      if (count !== wanted) {
        throw new GemmoeError('internal', `${tensor.name} [${tensor.shape}] was given ${count} of ${wanted} bytes`);
      }
      writeFully(descriptor, Buffer.alloc(aligned(count, ALIGNMENT) - count));
    }
  } finally {
    closeSync(descriptor);
  }
}

/** Everything before the tensors' data, padded to where it begins. */
function headerOf(metadata: Metadata, tensors: readonly GgufTensorToWrite[]): Buffer {
  const parts = [u32(MAGIC), u32(VERSION), u64(tensors.length), u64(metadata.size)];
  for (const [key, value] of metadata) parts.push(string(key), ...metadataValue(value));
  let offset = 0;
  for (const { name, type, shape } of tensors) {
    if (Buffer.byteLength(name) >= MAX_NAME)
      throw new GemmoeError('internal', `tensor name ${name} is too long for GGUF`);
    parts.push(string(name), u32(shape.length), ...shape.toReversed().map(u64), u32(GGML_TYPES[type].id), u64(offset));
    offset += aligned(tensorBytes(type, shape), ALIGNMENT);
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(aligned(header.length, ALIGNMENT) - header.length)]);
}

function metadataValue(value: MetadataValue): Buffer[] {
  const type = u32(VALUE_TYPES[value.type].id);
  if (value.type !== 'array') return [type, scalar(value.type, value.value)];
  const items = value.value.map((item) => scalar(value.of, item));
  return [type, u32(VALUE_TYPES[value.of].id), u64(items.length), Buffer.concat(items)];
}

function scalar(type: 'u32' | 'i32' | 'f32' | 'bool' | 'string', value: number | boolean | string): Buffer {
  if (type === 'string') return string(value as string);
  if (type === 'bool') return Buffer.of(value ? 1 : 0);
  const buffer = Buffer.alloc(4);
  if (type === 'f32') buffer.writeFloatLE(value as number);
  else if (type === 'i32') buffer.writeInt32LE(value as number);
  else buffer.writeUInt32LE(value as number);
  return buffer;
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function u64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}

/** The bytes of a tensor, each valid until the next is taken. */
function* encoded({ name, type, pieces }: GgufTensorToWrite): Generator<Uint8Array, void> {
  let buffer = new Uint16Array(0);
  for (const values of pieces) {
    if (type === 'F32') {
      yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      continue;
    }
    const bytes = tensorBytes(type, [values.length]);
    if (buffer.byteLength < bytes) buffer = new Uint16Array(bytes / 2);
    const out = new Uint8Array(buffer.buffer, 0, bytes);
    if (type === 'Q8_0') toQ8(out, values);
    else if (type === 'BF16') toBf16(buffer.subarray(0, values.length), values);
    else halves(name, buffer.subarray(0, values.length), values);
    yield out;
  }
}
