// What every MatmulBackend must do; see the contract in core/backend.ts.

import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { type MatmulBackend, packMatrix } from '../../core/backend.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import {
  GEMM_CASES,
  type GemmCase,
  gemmFault,
  type GemmOperands,
  LARGE_GEMM_CASES,
  multiply,
  nameOf,
  operandsOf,
} from '../../core/verify/gemm-cases.ts';

const PLAIN: GemmCase = {
  ...{ transA: false, transB: false, m: 3, n: 4, k: 5, alpha: 1, beta: 0, offset: 0, gap: 0 },
};

/** What is wrong with the result of a case, with B as it stands and with B packed before. */
function faultOf(backend: MatmulBackend, test: GemmCase, operands: GemmOperands): string | undefined {
  const before = operands.C.slice();
  const packed = { ...operands, C: operands.C.slice() };
  multiply(backend, test, operands);
  multiply(backend, test, packed, true);
  return gemmFault(test, operands, before, operands.C) ?? gemmFault(test, packed, before, packed.C);
}

/** Registers the suite for one backend; `f64: false` for one that takes Float32Array only. */
export function describeMatmulBackend(
  name: string,
  create: () => MatmulBackend,
  options: { readonly f64?: boolean } = {},
): void {
  describe(`${name} as a matmul backend`, () => {
    const backend = create();
    afterAll(() => backend.close());
    const types = options.f64 === false ? (['f32'] as const) : (['f32', 'f64'] as const);

    describe.each(types)('%s', (type) => {
      test.each(GEMM_CASES.map((gemm) => [nameOf(gemm), gemm] as const))('%s', (_, gemm) => {
        expect(faultOf(backend, gemm, operandsOf(gemm, type))).toBeUndefined();
      });
      test.each(LARGE_GEMM_CASES.map((gemm) => [nameOf(gemm), gemm] as const))('%s', (_, gemm) => {
        const operands = operandsOf(gemm, type);
        if (gemm.beta === 0) for (let i = 0; i < gemm.n; i++) operands.C[gemm.offset + i] = Number.NaN;
        expect(faultOf(backend, gemm, operands)).toBeUndefined();
      });
      describeEdges(backend, type);
    });

    describeRefusals(backend);

    test('any layout: random sizes, strides and offsets', () => {
      const size = fc.integer({ min: 0, max: 20 });
      const factor = fc.constantFrom(0, 1, -1, 0.5);
      const gemm: fc.Arbitrary<GemmCase> = fc.record({
        ...{ transA: fc.boolean(), transB: fc.boolean(), m: size, n: size, k: size },
        ...{ alpha: factor, beta: factor, offset: size, gap: size },
      });
      const holds = fc.property(gemm, fc.constantFrom(...types), fc.nat(), (one, type, seed) => {
        const fault = faultOf(backend, one, operandsOf(one, type, seed));
        if (fault !== undefined) throw new Error(`${nameOf(one)}: ${fault}`);
      });
      fc.assert(holds, { numRuns: 200, seed: 42 });
    });

    test.each([
      [65, 67, 129],
      [1, 1031, 997],
      [161, 173, 163],
    ])('the same call twice gives the same bits: %ix%ix%i', (m, n, k) => {
      const gemm = { ...PLAIN, m, n, k };
      const [first, second] = [operandsOf(gemm, 'f32'), operandsOf(gemm, 'f32')];
      multiply(backend, gemm, first);
      multiply(backend, gemm, second);
      expect(second.C).toEqual(first.C);
    });

    test('says what it is', () => {
      const { vendor, version, instructionSet, threads, precision } = backend.describe();
      for (const text of [vendor, version, instructionSet, precision]) expect(text).not.toBe('');
      expect(threads).toBeGreaterThanOrEqual(1);
    });
  });
}

function describeEdges(backend: MatmulBackend, type: 'f32' | 'f64'): void {
  test.each<[string, Partial<GemmCase>]>([
    ['k = 0 scales C by beta', { k: 0, beta: 0.5 }],
    ['k = 0 with beta = 0 clears C', { k: 0 }],
    ['m = 0 does nothing', { m: 0, beta: 0.5 }],
    ['n = 0 does nothing', { n: 0, beta: 0.5 }],
    ['alpha = 0 scales C by beta', { alpha: 0, beta: 2 }],
  ])('%s', (_, changes) => {
    const gemm = { ...PLAIN, offset: 2, gap: 1, ...changes };
    expect(faultOf(backend, gemm, operandsOf(gemm, type))).toBeUndefined();
  });

  test.each([0, 5])('beta = 0 never reads C: NaN in it does not spread (k = %i)', (k) => {
    const gemm = { ...PLAIN, k };
    const operands = operandsOf(gemm, type);
    operands.C.fill(Number.NaN, 0, 12);
    multiply(backend, gemm, operands);
    expect([...operands.C.subarray(0, 12)].every(Number.isFinite)).toBe(true);
  });

  test('alpha = 0 reads neither A nor B: NaN in them does not spread', () => {
    const gemm = { ...PLAIN, alpha: 0, beta: 2 };
    const operands = operandsOf(gemm, type);
    operands.A[1] = operands.B[6] = Number.NaN;
    expect(faultOf(backend, gemm, operands)).toBeUndefined();
  });

  test.each([Number.NaN, Infinity, -Infinity])('%d in A and in B reaches what it should, and nothing else', (value) => {
    for (const operand of ['A', 'B'] as const) {
      const operands = operandsOf(PLAIN, type);
      operands[operand][6] = value;
      expect(faultOf(backend, PLAIN, operands)).toBeUndefined();
    }
  });
}

function describeRefusals(backend: MatmulBackend): void {
  const valid = () => operandsOf(PLAIN, 'f32');
  type Arguments = Parameters<MatmulBackend['gemm']>;
  const argumentsOf = ({ A, B, C, lda, ldb, ldc }: GemmOperands): Arguments => [
    ...([false, false, 3, 4, 5, 1, A, 0, lda, B, 0, ldb, 0, C, 0, ldc] as const),
  ];

  test.each<[string, number, unknown, typeof RangeError | typeof TypeError]>([
    ['a negative m', 2, -1, RangeError],
    ['a fractional n', 3, 1.5, RangeError],
    ['a NaN k', 4, Number.NaN, RangeError],
    ['a huge m', 2, 2 ** 33, RangeError],
    ['A as a plain array', 6, [1, 2, 3], TypeError],
    ['A of another element type', 6, new Float64Array(100), TypeError],
    ['A as integers', 6, new Int32Array(100), TypeError],
    ['an offset before A', 7, -1, RangeError],
    ['an offset beyond A', 7, 1000, RangeError],
    ['a fractional offset', 7, 0.5, RangeError],
    ['an infinite offset', 7, Infinity, RangeError],
    ['a leading dimension below the row', 8, 4, RangeError],
    ['a leading dimension that leaves A', 8, 50, RangeError],
    ['B too short', 9, new Float32Array(19), RangeError],
    ['C too short', 13, new Float32Array(11), RangeError],
    ['a leading dimension of C below n', 15, 3, RangeError],
  ])('%s is refused and C stays as it was', (_, index, value, error) => {
    const operands = valid();
    const before = operands.C.slice();
    const args = argumentsOf(operands) as unknown[];
    args[index] = value;
    expect(() => backend.gemm(...(args as Arguments))).toThrow(error);
    expect(operands.C).toEqual(before);
  });

  test.each<[string, number, unknown, typeof RangeError | typeof TypeError]>([
    ['a negative n', 1, -1, RangeError],
    ['a fractional k', 2, 0.5, RangeError],
    ['B as integers', 3, new Int32Array(100), TypeError],
    ['an offset beyond B', 4, 1000, RangeError],
    ['a leading dimension below the row', 5, 3, RangeError],
  ])('packing %s is refused', (_, index, value, error) => {
    const args = [false, 4, 5, valid().B, 0, 4] as unknown[];
    args[index] = value;
    const rest = args as [boolean, number, number, FloatArray, number, number];
    expect(() => packMatrix(backend, ...rest)).toThrow(error);
  });

  test('a packed matrix refuses what does not fit it', () => {
    const { A, B, C } = valid();
    const packed = packMatrix(backend, false, 4, 5, B, 0, 4);
    expect([packed.n, packed.k]).toEqual([4, 5]);
    expect(() => packed.gemm(false, 3, 1, A, 0, 4, 0, C, 0, 4)).toThrow(RangeError);
    expect(() => packed.gemm(false, 3, 1, A, 0, 5, 0, new Float32Array(11), 0, 4)).toThrow(RangeError);
  });

  test('a detached array is refused', () => {
    const operands = valid();
    structuredClone(operands.A.buffer, { transfer: [operands.A.buffer as ArrayBuffer] });
    expect(() => multiply(backend, PLAIN, operands)).toThrow(RangeError);
  });

  test('C may share a buffer with A and B when the elements do not overlap', () => {
    const { A, B, C, lda, ldb, ldc } = valid();
    const shared = new Float32Array(A.length + B.length + C.length);
    const place = (part: FloatArray, offset: number) => {
      shared.set(part, offset);
      return offset;
    };
    const [a, b, c] = [place(A, 0), place(B, A.length), place(C, A.length + B.length)];
    backend.gemm(false, false, 3, 4, 5, 1, shared, a, lda, shared, b, ldb, 0, shared, c, ldc);
    backend.gemm(false, false, 3, 4, 5, 1, A, 0, lda, B, 0, ldb, 0, C, 0, ldc);
    expect(shared.subarray(c)).toEqual(C);
    expect(shared.subarray(0, A.length)).toEqual(A);
  });

  test('small arrays and views into larger buffers are read at their own place', () => {
    const buffer = new ArrayBuffer(256);
    const [A, B, C] = [8, 100, 200].map((byte) => new Float32Array(buffer, byte, 4));
    A.set([1, 2, 3, 4]);
    B.set([5, 6, 7, 8]);
    backend.gemm(false, false, 2, 2, 2, 1, A, 0, 2, B, 0, 2, 0, C, 0, 2);
    expect([...C]).toEqual([19, 22, 43, 50]);
    const tiny = new Float32Array(4);
    backend.gemm(
      false,
      false,
      2,
      2,
      2,
      1,
      Float32Array.of(1, 2, 3, 4),
      0,
      2,
      Float32Array.of(5, 6, 7, 8),
      0,
      2,
      0,
      tiny,
      0,
      2,
    );
    expect([...tiny]).toEqual([19, 22, 43, 50]);
  });
}
