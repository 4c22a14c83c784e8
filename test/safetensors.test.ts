// The safetensors reader against files that lie, and the writer against files that the reference library wrote.

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GemmoeError } from '../core/errors.ts';
import { openSafetensors, type StoredType, type TensorToWrite, writeSafetensors } from '../core/formats/safetensors.ts';
import { toBf16, toF16 } from '../core/ops/cast.ts';
import { FIXTURES } from './support/golden.ts';

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gemmoe-safetensors-'));
  path = join(folder, 'a.safetensors');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file of this header and data, with whatever length it claims for its header. */
function fileOf(header: string | Uint8Array, data: Uint8Array = new Uint8Array(0), claimed?: bigint): Buffer {
  const bytes = Buffer.from(header as string);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(claimed ?? BigInt(bytes.length));
  return Buffer.concat([prefix, bytes, data]);
}

/** What opening these bytes throws. */
function refusal(bytes: Uint8Array): GemmoeError {
  writeFileSync(path, bytes);
  try {
    openSafetensors(path).close();
  } catch (error) {
    expect(error).toBeInstanceOf(GemmoeError);
    return error as GemmoeError;
  }
  throw new Error('the file was accepted');
}

function readAll(file: string): { metadata: Readonly<Record<string, string>>; tensors: TensorToWrite[] } {
  const opened = openSafetensors(file);
  try {
    const tensors = [...opened.tensors].map(([name, { dtype, shape }]) => ({
      name,
      dtype,
      shape,
      parts: [opened.readRaw(name)],
    }));
    return { metadata: opened.metadata, tensors };
  } finally {
    opened.close();
  }
}

describe('writing', () => {
  test.each(['llama', 'mixtral', 'mixtral_mqa', 'train_mixtral'])('repeats the reference library on %s', (family) => {
    const original = join(FIXTURES, 'hf', family, 'model.safetensors');
    const { metadata, tensors } = readAll(original);
    expect(tensors.length).toBeGreaterThan(10);
    writeSafetensors(path, tensors.toReversed(), metadata);
    expect(readFileSync(path).equals(readFileSync(original))).toBe(true);
  });

  test('sorts by falling type, then by name, and pads the header to 8 bytes with spaces', () => {
    const types: StoredType[] = ['U8', 'F16', 'BF16', 'I32', 'F32', 'F64', 'I64'];
    const sizes = [1, 2, 2, 4, 4, 8, 8];
    const tensors = types.flatMap((dtype, i) =>
      ['b', '10', 'a'].map((name) => ({
        name: `${name}${dtype}`,
        dtype,
        shape: [1],
        parts: [new Uint8Array(sizes[i])],
      })),
    );
    writeSafetensors(path, tensors);
    const bytes = readFileSync(path);
    const length = Number(bytes.readBigUInt64LE());
    const header = bytes.subarray(8, 8 + length).toString();
    expect(length % 8).toBe(0);
    expect(header.trimEnd().length).toBeGreaterThan(length - 8);
    expect(header).toMatch(
      /^\{"__metadata__":\{"format":"pt"\},"10I64":\{"dtype":"I64","shape":\[1\],"data_offsets":\[0,8\]\},/,
    );
    const order = [...header.matchAll(/"(\w+)":\{"dtype"/g)].map((match) => match[1]);
    expect(order).toEqual(types.toReversed().flatMap((dtype) => ['10', 'a', 'b'].map((name) => name + dtype)));
  });

  test('joins the parts of a tensor, views into larger buffers included', () => {
    const buffer = Float32Array.of(9, 1, 2, 9, 3);
    writeSafetensors(path, [
      { name: 'x', dtype: 'F32', shape: [3], parts: [buffer.subarray(1, 3), buffer.subarray(4)] },
    ]);
    const file = openSafetensors(path);
    const x = new Float32Array(3);
    file.read('x', x);
    file.close();
    expect([...x]).toEqual([1, 2, 3]);
  });

  test('refuses a name given twice, and data that is not of the shape, and leaves no file', () => {
    const absent = join(folder, 'absent.safetensors');
    const one = { name: 'x', dtype: 'F32', shape: [1], parts: [new Float32Array(1)] } as const;
    expect(() => writeSafetensors(absent, [one, one])).toThrow(/tensor x is written twice/);
    expect(() => writeSafetensors(absent, [{ ...one, shape: [2] }])).toThrow(/tensor x \[2\] was given 4 bytes/);
    expect(() => openSafetensors(absent)).toThrow(GemmoeError);
  });
});

describe('reading', () => {
  const values = Float64Array.from({ length: 600_000 }, (_, i) => ((i % 257) - 128) / 8);

  test.each<[StoredType, () => ArrayBufferView]>([
    ['F64', () => values],
    ['F32', () => Float32Array.from(values)],
    ['BF16', () => converted(toBf16)],
    ['F16', () => converted(toF16)],
  ])('casts %s to both float types, in chunks and from any element', (dtype, data) => {
    writeSafetensors(path, [
      { name: 'odd', dtype: 'U8', shape: [3], parts: [new Uint8Array(3)] },
      { name: 'x', dtype, shape: [2, 300_000], parts: [data()] },
    ]);
    const file = openSafetensors(path);
    for (const into of [new Float32Array(values.length), new Float64Array(values.length)]) {
      file.read('x', into);
      expect(into.every((value, i) => value === values[i])).toBe(true);
      const part = into.subarray(0, 5);
      file.read('x', part, 299_999);
      expect([...part]).toEqual([...values.subarray(299_999, 300_004)]);
    }
    file.close();
  });

  function converted(cast: typeof toBf16): Uint16Array {
    const bits = new Uint16Array(values.length);
    cast(bits, values);
    return bits;
  }

  test('reads tensors that are not aligned', () => {
    const data = Buffer.alloc(9);
    data.writeFloatLE(1.5, 1);
    data.writeFloatLE(-2, 5);
    const header = { a: tensor('U8', [1], 0, 1), b: tensor('F32', [2], 1, 9) };
    writeFileSync(path, fileOf(JSON.stringify(header), data));
    const file = openSafetensors(path);
    const b = new Float32Array(2);
    file.read('b', b);
    file.close();
    expect([...b]).toEqual([1.5, -2]);
  });

  test('refuses an unknown name, a range outside the tensor, and integers as floats', () => {
    writeSafetensors(path, [
      { name: 'x', dtype: 'F32', shape: [2], parts: [new Float32Array(2)] },
      { name: 'n', dtype: 'I32', shape: [1], parts: [new Int32Array(1)] },
    ]);
    const file = openSafetensors(path);
    expect(() => file.read('y', new Float32Array(1))).toThrow(/a\.safetensors: tensor y is not in the file/);
    expect(() => file.readRaw('y')).toThrow(/tensor y is not in the file/);
    expect(() => file.read('x', new Float32Array(2), 1)).toThrow(/tensor x has 2 elements, 2 from 1 were asked for/);
    expect(() => file.read('x', new Float32Array(1), -1)).toThrow(/tensor x has 2 elements/);
    expect(() => file.read('n', new Float32Array(1))).toThrow(/tensor n holds I32/);
    file.close();
  });

  test('refuses a path that is not there, or a folder', () => {
    expect(() => openSafetensors(join(folder, 'none'))).toThrow(/cannot open .*none/);
    expect(() => openSafetensors(folder)).toThrow(GemmoeError);
  });
});

function tensor(dtype: string, shape: unknown, begin: unknown, end: unknown) {
  return { dtype, shape, data_offsets: [begin, end] };
}

describe('a file that lies is refused by what is wrong', () => {
  const four = new Uint8Array(4);
  const x = tensor('F32', [1], 0, 4);
  const lie = (header: unknown, data = four) => fileOf(JSON.stringify(header), data);
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /is 0 bytes long, too short for a header/],
    ['shorter than its length field', new Uint8Array(7), /is 7 bytes long/],
    ['header longer than the file', fileOf('{}', four, 7n), /header has 7 bytes, but only 6 follow/],
    [
      'header of 2^64 - 1 bytes',
      fileOf('{}', four, 2n ** 64n - 1n),
      /header has 18446744073709551615 bytes, more than/,
    ],
    ['header over the limit', fileOf('{}', four, 100_000_001n), /more than the 100000000 allowed/],
    ['header of no bytes', fileOf(''), /does not begin with "\{"/],
    ['header not UTF-8', fileOf(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d])), /not UTF-8/],
    ['header behind a byte order mark', fileOf('\ufeff{}'), /does not begin with "\{"/],
    ['header behind a space', fileOf(' {}'), /does not begin with "\{"/],
    ['header an array', fileOf('[]'), /does not begin with "\{"/],
    ['header not JSON', fileOf('{"x":'), /not JSON/],
    ['header cut by its length', fileOf('{}', four, 1n), /not JSON/],
    ['a name twice', fileOf(`{"x":${JSON.stringify(x)},"x":${JSON.stringify(x)}}`, four), /names "x" twice/],
    [
      'a name twice, once escaped',
      fileOf(`{"x":${JSON.stringify(x)},"\\u0078":${JSON.stringify(x)}}`, four),
      /"x" twice/,
    ],
    [
      'a field twice',
      fileOf('{"x":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,4]}}', four),
      /"shape" twice/,
    ],
    ['an entry no object', lie({ x: 3 }), /: tensor "x" is not an object/],
    ['an entry null', lie({ x: null }), /: tensor "x" is not an object/],
    ['an unknown type', lie({ x: tensor('F33', [1], 0, 4) }), /tensor "x" has dtype "F33"; known are .*BF16/],
    ['a type from the prototype', lie({ x: tensor('toString', [1], 0, 4) }), /dtype "toString"/],
    ['a negative size', lie({ x: tensor('F32', [-1, -1], 0, 4) }), /tensor "x" has shape \[-1,-1\]/],
    ['a fractional size', lie({ x: tensor('F32', [0.5, 2], 0, 4) }), /tensor "x" has shape \[0.5,2\]/],
    ['a size beyond exact numbers', lie({ x: tensor('F32', [2 ** 60], 0, 4) }), /tensor "x" has shape/],
    ['a shape that is no list', lie({ x: tensor('F32', 1, 0, 4) }), /tensor "x" has shape 1/],
    ['a product that overflows', lie({ x: tensor('F32', [2 ** 32, 2 ** 32], 0, 4) }), /more elements than can be/],
    [
      'a product that overflows to 0',
      lie({
        x: tensor(
          'F32',
          Array(40)
            .fill(2 ** 40)
            .concat(0),
          0,
          0,
        ),
      }),
      /more elements/,
    ],
    ['offsets missing', lie({ x: { dtype: 'F32', shape: [1] } }), /tensor "x" has data_offsets undefined/],
    ['three offsets', lie({ x: { ...x, data_offsets: [0, 4, 4] } }), /has data_offsets \[0,4,4\]/],
    ['a negative offset', lie({ x: tensor('F32', [1], -4, 0) }), /has data_offsets \[-4,0\]/],
    ['a fractional offset', lie({ x: tensor('F32', [1], 0.5, 4.5) }), /has data_offsets/],
    [
      'offsets the wrong way round',
      lie({ x: tensor('F32', [1], 4, 0) }),
      /takes 4 bytes, but its data_offsets \[4, 0\] hold -4/,
    ],
    ['a size other than its range', lie({ x: tensor('F32', [2], 0, 4) }), /F32 \[2\] takes 8 bytes, but .* hold 4/],
    ['a hole at the start', lie({ x: tensor('F32', [1], 4, 8) }, new Uint8Array(8)), /"x" at \[4, 8\] leaves a hole/],
    ['a hole between', lie({ a: x, b: tensor('U8', [1], 5, 6) }, new Uint8Array(6)), /"b" at \[5, 6\] leaves a hole/],
    ['overlapping', lie({ a: x, b: tensor('F32', [1], 2, 6) }, new Uint8Array(6)), /"b" at \[2, 6\] overlaps/],
    ['two at one place', lie({ a: x, b: x }), /overlaps/],
    ['out of range', lie({ a: tensor('F32', [3], 0, 12) }), /is cut short: its tensors take 12 bytes, 4 are there/],
    ['trailing bytes', lie({ x }, new Uint8Array(6)), /has 2 bytes behind its last tensor/],
    ['bytes and no tensor', lie({}), /has 4 bytes behind its last tensor/],
    ['metadata no object', lie({ __metadata__: [], x }), /__metadata__ that is not an object/],
    ['metadata not of strings', lie({ __metadata__: { step: 3 }, x }), /__metadata__.step that is not a string/],
  ];

  test.each(cases)('%s', (_, bytes, message) => {
    const error = refusal(bytes);
    expect(error.code).toBe('bad-data');
    expect(error.message).toMatch(message);
    expect(error.message).toContain(path);
    expect(error.hint).toBeTruthy();
  });

  test('and the honest file beside them is read', () => {
    writeFileSync(
      path,
      lie({ x, empty: tensor('F64', [0, 3], 4, 4), scalar: tensor('U8', [], 4, 5) }, new Uint8Array(5)),
    );
    const file = openSafetensors(path);
    expect([...file.tensors.keys()].toSorted()).toEqual(['empty', 'scalar', 'x']);
    file.close();
  });

  test('a refused file is closed', () => {
    refusal(lie({ x: 3 }));
    const descriptor = openSync(path, 'r');
    closeSync(descriptor);
    for (let i = 0; i < 5; i++) refusal(lie({ x: 3 }));
    const again = openSync(path, 'r');
    closeSync(again);
    expect(again).toBe(descriptor);
  });
});

const SIZES: Partial<Record<StoredType, number>> = { F64: 8, I64: 8, F32: 4, I32: 4, BF16: 2, F16: 2, U8: 1, BOOL: 1 };

/** Tensors of any types and shapes, empty and scalar ones among them, under names that need care. */
const anyTensors = fc
  .uniqueArray(
    fc.record({
      name: fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('__proto__', 'constructor', '7', '"\\', '{}:')),
      dtype: fc.constantFrom(...(Object.keys(SIZES) as StoredType[])),
      shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
    }),
    { selector: ({ name }) => name, maxLength: 6 },
  )
  .map((list) => list.filter(({ name }) => name !== '__metadata__'))
  .chain((list) =>
    fc.tuple(...list.map((entry) => dataOf(entry.dtype, entry.shape).map((data) => ({ ...entry, parts: [data] })))),
  );

function dataOf(dtype: StoredType, shape: readonly number[]): fc.Arbitrary<Uint8Array> {
  const length = shape.reduce((product, size) => product * size, SIZES[dtype] as number);
  return fc.uint8Array({ minLength: length, maxLength: length });
}

describe('any valid file', () => {
  test('comes back as it was written', () => {
    fc.assert(
      fc.property(anyTensors, fc.dictionary(fc.string(), fc.string()), (tensors, metadata) => {
        writeSafetensors(path, tensors, metadata);
        const back = readAll(path);
        expect(back.metadata).toEqual(metadata);
        expect(new Map(back.tensors.map((entry) => [entry.name, entry]))).toEqual(
          new Map(tensors.map((entry) => [entry.name, entry])),
        );
        expect(readFileSync(path).readBigUInt64LE() % 8n).toBe(0n);
      }),
      { numRuns: 100, seed: 5 },
    );
  });

  test('is refused when it is cut anywhere, or longer', () => {
    fc.assert(
      fc.property(anyTensors, fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 9 }), (tensors, cut, more) => {
        writeSafetensors(path, tensors);
        const bytes = readFileSync(path);
        expect(refusal(bytes.subarray(0, cut % bytes.length)).code).toBe('bad-data');
        expect(refusal(Buffer.concat([bytes, more])).code).toBe('bad-data');
      }),
      { numRuns: 100, seed: 5 },
    );
  });

  test('with bytes changed is refused, or read without a fault; changed data leaves the header as it was', () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 });
    let refused = 0;
    let accepted = 0;
    fc.assert(
      fc.property(anyTensors, changes, (tensors, edits) => {
        writeSafetensors(path, tensors);
        const bytes = readFileSync(path);
        const before = readAll(path);
        const dataStart = 8 + Number(bytes.readBigUInt64LE());
        for (const [at, byte] of edits) bytes[at % bytes.length] = byte;
        writeFileSync(path, bytes);
        try {
          const after = readAll(path);
          accepted++;
          const size = after.tensors.reduce((sum, { parts }) => sum + [...parts][0].byteLength, 0);
          expect(size).toBe(bytes.length - 8 - Number(bytes.readBigUInt64LE()));
          if (edits.every(([at]) => at % bytes.length >= dataStart)) expect(shapes(after)).toEqual(shapes(before));
        } catch (error) {
          refused++;
          expect(error).toBeInstanceOf(GemmoeError);
          expect((error as GemmoeError).message).toContain(path);
          expect(edits.some(([at]) => at % bytes.length < dataStart)).toBe(true);
        }
      }),
      { numRuns: 300, seed: 5 },
    );
    expect(refused).toBeGreaterThan(50);
    expect(accepted).toBeGreaterThan(10);
  });
});

function shapes({ metadata, tensors }: ReturnType<typeof readAll>) {
  return { metadata, tensors: tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })) };
}
