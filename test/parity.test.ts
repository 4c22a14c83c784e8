// Logits of other programs against ours.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readNpy } from '../core/formats/npy.ts';
import { compareWithDump, defaultTolerance, readDump } from '../core/formats/parity.ts';
import { type TensorToWrite, writeSafetensors } from '../core/formats/safetensors.ts';
import { toBf16, toF16 } from '../core/ops/cast.ts';
import { commandLine } from './support/cli.ts';
import { type Expected, FIXTURES, readJson } from './support/golden.ts';
import { refusal } from './support/refusal.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-parity-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const MIXTRAL = join(FIXTURES, 'hf', 'mixtral');
const expected = readJson<Expected>(MIXTRAL, 'expected.json');
const [B, T, V] = expected.shape;
const logits = Float32Array.from(expected.logits);
const ids = BigInt64Array.from(expected.ids.flat(), BigInt);

function dump(name: string, tensors: readonly Partial<TensorToWrite>[]): string {
  const path = join(scratch, name);
  writeSafetensors(path, tensors as TensorToWrite[]);
  return path;
}
const IDS = { name: 'input_ids', dtype: 'I64', shape: [B, T], parts: [ids] } as const;
const good = dump('good.safetensors', [IDS, { name: 'logits', dtype: 'F32', shape: [B, T, V], parts: [logits] }]);

/** A .npy file as numpy.save writes it. */
function npy(name: string, descr: string, shape: readonly number[], data: ArrayBufferView, extra = ''): string {
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(', ')}${shape.length === 1 ? ',' : ''}), ${extra}}`;
  const length = Math.ceil((10 + dict.length + 1) / 64) * 64 - 10;
  const header = Buffer.alloc(10 + length, ' ');
  header.write('\x93NUMPY\x01\x00', 'latin1');
  header.writeUInt16LE(length, 8);
  header.write(dict, 10);
  header[header.length - 1] = 10;
  const path = join(scratch, name);
  writeFileSync(path, Buffer.concat([header, Buffer.from(data.buffer, data.byteOffset, data.byteLength)]));
  return path;
}

describe('.npy files', () => {
  test('of floats and whole numbers', () => {
    const half = new Uint16Array(3);
    toF16(half, Float32Array.of(1, -2, 0.5));
    for (const [descr, data] of [
      ['<f4', Float32Array.of(1, -2, 0.5)],
      ['<f8', Float64Array.of(1, -2, 0.5)],
      ['<f2', half],
    ] as const) {
      const array = readNpy(npy('a.npy', descr, [3], data));
      expect(array.shape).toEqual([3]);
      expect([...array.values]).toEqual([1, -2, 0.5]);
    }
    expect([...readNpy(npy('a.npy', '<i8', [2, 1], BigInt64Array.of(5n, -6n))).values]).toEqual([5, -6]);
    expect(readNpy(npy('a.npy', '<i4', [], Int32Array.of(7))).shape).toEqual([]);
  });

  test.each([
    ['big-endian', () => npy('b.npy', '>f4', [1], Float32Array.of(1)), /holds >f4/],
    ['of text', () => npy('b.npy', '<U4', [1], Float32Array.of(1)), /holds <U4/],
    [
      'cut short',
      () => npy('b.npy', '<f4', [2], Float32Array.of(1)),
      /holds 4 bytes where its shape \[2\] of f4 takes 8/,
    ],
    ['column-major', () => npy('b.npy', '<f4', [1], Float32Array.of(1), "'fortran_order': True"), /is column-major/],
    ['of another format', () => good, /does not begin as .npy does/],
    ['missing', () => join(scratch, 'no.npy'), /cannot read/],
  ])('%s are refused', (_, path, message) => expect(refusal(() => readNpy(path())).message).toMatch(message));
});

describe('a comparison', () => {
  const read = readDump(good);
  const shifted = (change: (values: Float32Array) => void) => {
    const ours = logits.slice();
    change(ours);
    return (_: Int32Array, row: number) => ours.subarray(row * T * V, (row + 1) * T * V);
  };

  test('of equals passes', () => {
    const same = compareWithDump(
      read,
      shifted(() => {}),
    );
    expect(same).toEqual({
      maxAbs: 0,
      meanAbs: 0,
      topOneAgreement: 1,
      firstDiffering: null,
      tolerance: 2e-5,
      passed: true,
    });
  });

  test('names the first position beyond the tolerance', () => {
    const at = (1 * T + 3) * V + 7;
    const result = compareWithDump(
      read,
      shifted((values) => {
        values[at] += 0.5;
        values[at + V] += 1;
      }),
    );
    expect(result.passed).toBe(false);
    expect(result.maxAbs).toBeCloseTo(1, 5);
    expect(result.meanAbs).toBeCloseTo(1.5 / logits.length, 8);
    expect(result.firstDiffering).toMatchObject({ row: 1, position: 3, id: 7, theirs: logits[at] });
    expect(
      compareWithDump(
        read,
        shifted((values) => (values[at] += 0.5)),
        0.6,
      ).passed,
    ).toBe(true);
  });

  test('counts the positions whose likeliest id is another', () => {
    const result = compareWithDump(
      read,
      shifted((values) => (values[5] = 1e3)),
    );
    expect(result.topOneAgreement).toBeCloseTo(1 - 1 / (B * T), 10);
  });

  test.each([Number.NaN, Infinity])('%d on one side alone is infinitely far', (value) => {
    const result = compareWithDump(
      read,
      shifted((values) => (values[9] = value)),
    );
    expect(result).toMatchObject({ passed: false, maxAbs: Infinity });
  });

  test('expects less of 16 bits', () => {
    const halves = new Uint16Array(logits.length);
    toBf16(halves, logits);
    const path = dump('bf16.safetensors', [IDS, { name: 'logits', dtype: 'BF16', shape: [B, T, V], parts: [halves] }]);
    const rounded = readDump(path);
    const largest = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(defaultTolerance(rounded)).toBeCloseTo(0.03 * largest, 1);
    const result = compareWithDump(
      rounded,
      shifted(() => {}),
    );
    expect(result.passed).toBe(true);
    expect(result.maxAbs).toBeGreaterThan(2e-5);
  });
});

describe('the command', () => {
  const { gemmoe, json } = commandLine(scratch);
  const run = (...args: string[]) => gemmoe(['parity', MIXTRAL, ...args]);

  test('passes for what transformers computed, with exit code 0', async () => {
    const { code, out } = await run('--against', good);
    expect(out).toMatch(/verdict +passed/);
    expect(code).toBe(0);
    const result = await json<{ passed: boolean; maxAbs: number; topOneAgreement: number }>([
      'parity',
      MIXTRAL,
      '--against',
      good,
    ]);
    expect(result).toMatchObject({ passed: true, topOneAgreement: 1 });
    expect(result.maxAbs).toBeGreaterThan(0);
  });

  test('fails for other logits, with exit code 1', async () => {
    const other = logits.map((value, i) => (i === 2 * V ? value + 1 : value));
    const path = dump('other.safetensors', [IDS, { name: 'logits', dtype: 'F32', shape: [B, T, V], parts: [other] }]);
    const { code, out } = await run('--against', path);
    expect(out).toMatch(/first beyond +row 0, position 2, id 0: /);
    expect(out).toMatch(/verdict +failed/);
    expect(code).toBe(1);
    expect((await run('--against', path, '--tolerance', '1.1')).code).toBe(0);
  });

  test('takes .npy, with ids beside it, or named', async () => {
    const path = npy('logits.npy', '<f4', [B, T, V], logits);
    expect((await run('--against', path)).err).toContain('there is no');
    writeFileSync(join(scratch, 'ids.json'), JSON.stringify(expected.ids));
    expect((await run('--against', path, '--ids-file', 'ids.json')).code).toBe(0);
    npy('input_ids.npy', '<i8', [B, T], ids);
    expect((await run('--against', path)).code).toBe(0);
  });

  test.each([
    [[], /no dump is named/],
    [['--against', 'missing.safetensors'], /cannot open/],
    [['--against', dump('a.safetensors', [IDS])], /holds no floating-point tensor logits, only: input_ids/],
    [
      [
        '--against',
        dump('b.safetensors', [{ name: 'logits', dtype: 'F32', shape: [2], parts: [Float32Array.of(1, 2)] }]),
      ],
      /no tensor input_ids/,
    ],
    [
      [
        '--against',
        dump('c.safetensors', [
          IDS,
          { name: 'logits', dtype: 'F32', shape: [B, 1, V], parts: [new Float32Array(B * V)] },
        ]),
      ],
      /are not one row for each of the ids/,
    ],
    [
      [
        '--against',
        dump('d.safetensors', [
          IDS,
          { name: 'logits', dtype: 'F32', shape: [B, T, 2], parts: [new Float32Array(B * T * 2)] },
        ]),
      ],
      /the dump has 2 logits a position, the model \d+/,
    ],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await run(...args);
    expect(err).toMatch(message);
    expect(code).not.toBe(0);
  });
});
