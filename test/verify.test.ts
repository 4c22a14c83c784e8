// gemmoe verify and the checked backend find faults that were planted, and find none where there is none.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { CheckedBackend } from '../backends/checked/checked-backend.ts';
import { builtinBackends } from '../backends/index.ts';
import type { MatmulBackend } from '../core/backend.ts';
import { bindKernels, type KernelName, type Kernels } from '../core/kernels.ts';
import type { FloatArray } from '../core/tensor/dtype.ts';
import { verifyBackend } from '../core/verify/verify-backend.ts';
import { commandLine } from './support/cli.ts';
import { backendNamed, referenceKernels } from './support/kernels.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-verify-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const { gemmoe } = commandLine(scratch);
const portable = referenceKernels();

/** The reference backend with one kernel changed. */
function faulty(kernels: Partial<Kernels>, gemm = portable.gemm): MatmulBackend {
  const reference = backendNamed('reference');
  return { name: 'faulty', gemm, kernels, describe: () => reference.describe(), close: () => {} };
}

function failures(backend: MatmulBackend, only: RegExp): string[] {
  return [...verifyBackend(backend, portable, only)].filter(({ pass }) => !pass).map(({ kernel }) => kernel);
}

/** Faults that a kernel may have, by what they do after (or to) a right one. */
const FAULTS: readonly (readonly [string, KernelName, Partial<Kernels>])[] = [
  [
    'one element off by a thousandth',
    'softmax',
    {
      softmax(y, x, rows, n) {
        portable.softmax(y, x, rows, n);
        if (rows * n > 0) y[0] *= 1.001;
      },
    },
  ],
  [
    'the last row not written',
    'rmsNorm',
    { rmsNorm: (y, rstd, x, gamma, N, C, eps) => portable.rmsNorm(y, rstd, x, gamma, Math.max(0, N - 1), C, eps) },
  ],
  [
    'accumulating where it should overwrite',
    'swiglu',
    {
      swiglu(hidden, gateUp, M, F) {
        const before = hidden.slice();
        portable.swiglu(hidden, gateUp, M, F);
        before.forEach((value, i) => (hidden[i] += value));
      },
    },
  ],
  [
    'one element written behind the end',
    'gather',
    {
      gather(y, x, rows, M, C) {
        portable.gather(y, x, rows, M, C);
        new Float32Array(y.buffer)[y.byteOffset / 4 + y.length] = 1;
      },
    },
  ],
  [
    'one element written before the beginning',
    'add',
    {
      add(y, x, count) {
        portable.add(y, x, count);
        new Float32Array(y.buffer)[y.byteOffset / 4 - 1] = 1;
      },
    },
  ],
  [
    'a wrong expert on a tie of indices',
    'router',
    {
      router(probabilities, weights, experts, logits, N, options) {
        portable.router(probabilities, weights, experts, logits, N, options);
        if (N > 0) experts[0] = (experts[0] + 1) % options.numExperts;
      },
    },
  ],
  ['a NaN', 'sumOfSquares', { sumOfSquares: () => Number.NaN }],
  [
    'a gradient that was not cleared',
    'adamw',
    {
      adamw(p, g, m, v, ...rest) {
        const before = g.slice();
        portable.adamw(p, g, m, v, ...rest);
        (g as Float32Array).set(before);
      },
    },
  ],
];

describe('verify', () => {
  test('finds nothing wrong with the reference', () => {
    expect(failures(backendNamed('reference'), /(?:)/)).toEqual([]);
  });

  test.each(FAULTS)('catches %s (%s)', (_, kernel, kernels) => {
    expect(failures(faulty(kernels), new RegExp(`^${kernel}$`))).toEqual([kernel]);
  });

  test.each<[string, (C: FloatArray, cOffset: number, m: number, n: number, ldc: number) => void]>([
    ['an element off by a hundred-thousandth', (C, at) => void (C[at] *= 1 + 1e-4)],
    ['a write between the rows', (C, at, m, n, ldc) => void (m > 1 && ldc > n && (C[at + n] = 0))],
    ['a write behind the end', (C, at, m, n, ldc) => void (C[at + (m - 1) * ldc + n] = 0)],
  ])('catches %s in gemm', (_, spoil) => {
    const backend = faulty(
      {},
      (transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset, ldc) => {
        portable.gemm(transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset, ldc);
        if (m > 0 && n > 0) spoil(C, cOffset, m, n, ldc);
      },
    );
    expect(failures(backend, /^gemm$/)).toEqual(['gemm']);
  });

  test('says which case is worst, and by how much', () => {
    const [verdict] = verifyBackend(faulty(FAULTS[0][2]), portable, /^softmax$/);
    expect(verdict).toMatchObject({ kernel: 'softmax', pass: false });
    expect(verdict.worst).toMatch(/case 1, N7 E5/);
    expect(verdict.relative).toBeGreaterThan(1e-5);
    expect(verdict.fault).toMatch(/the error is .* of the largest value, allowed are/);
  });

  test('the command ends with 1 when something fails, and its JSON says what', async () => {
    const file = join(scratch, 'faulty.mjs');
    writeFileSync(
      file,
      `export default { gemmoePlugin: 1, backends: [{ name: 'faulty', description: 'wrong', options: [], unavailable: () => undefined,
         create: () => ({ name: 'faulty', close() {}, describe: () => ({ vendor: 'x', version: '1', library: null, instructionSet: 'x', threads: 1, precision: 'f32' }),
           gemm(transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset) { if (m * n) C[cOffset] = 7; } }) }] };`,
    );
    const { code, out } = await gemmoe([
      'verify',
      '--json',
      '--plugin',
      file,
      '--backend',
      'faulty',
      '--only',
      '^gemm$',
    ]);
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({
      passed: false,
      verdicts: [{ backend: 'faulty', kernel: 'gemm', pass: false }],
    });
  });

  test('the command ends with 0 when all is well', async () => {
    const { code, out } = await gemmoe(['verify', '--backend', 'reference', '--only', '^(gemm|router)$']);
    expect(code).toBe(0);
    expect(out).toMatch(/all of 2 kernels hold/);
  });
});

describe('the checked backend', () => {
  test('lets a right backend through and reports the worst of each kernel', () => {
    const backend = new CheckedBackend(faulty({ softmax: portable.softmax }));
    const kernels = bindKernels(backend);
    kernels.softmax(new Float32Array(6), Float32Array.of(1, 2, 3, 4, 5, 6), 2, 3);
    kernels.linear(new Float32Array(2), Float32Array.of(1, 2), Float32Array.of(3, 4, 5, 6), null, 1, 2, 2, false);
    expect(backend.seen().map(({ kernel, calls }) => [kernel, calls])).toEqual([
      ['softmax', 1],
      ['gemm', 1],
    ]);
    expect(backend.report()[0]).toMatch(/^softmax: 1 calls, largest error/);
  });

  test.each(FAULTS.filter(([what]) => !/behind|before/.test(what)))('throws at %s (%s)', (_, kernel, kernels) => {
    const backend = new CheckedBackend(faulty(kernels));
    expect(failuresOfModelCall(bindKernels(backend), kernel)).toMatch(
      new RegExp(`checked: faulty's ${kernel} is wrong in`),
    );
  });

  test('is chosen as checked:NAME, and alone says what it lacks', async () => {
    const { code, err } = await gemmoe(['generate', '--backend', 'checked', '--prompt', 'x', '--model', 'nowhere']);
    expect(code).toBe(1);
    expect(err).toMatch(/it wraps another backend: name that one/);
    expect(builtinBackends.backends?.map(({ name }) => name)).toContain('checked');
  });
});

/** What a call of a kernel throws. */
function failuresOfModelCall(kernels: Kernels, kernel: KernelName): string {
  const f = (length: number) => Float32Array.from({ length }, (_, i) => ((i * 7) % 5) - 1.7);
  const calls: Partial<Record<KernelName, () => unknown>> = {
    softmax: () => kernels.softmax(f(6), f(6), 2, 3),
    rmsNorm: () => kernels.rmsNorm(f(6), f(2), f(6), f(3), 2, 3, 1e-5),
    swiglu: () => kernels.swiglu(f(6), f(12), 2, 3),
    router: () => kernels.router(f(8), f(4), new Int32Array(4), f(8), 2, { numExperts: 4, topK: 2, renormalise: true }),
    sumOfSquares: () => kernels.sumOfSquares(f(5)),
    adamw: () => kernels.adamw(f(4), f(4), f(4), f(4).map(Math.abs), 0, 4, 0.1, 0.9, 0.99, 1e-8, 0, 1, 1),
  };
  try {
    calls[kernel]?.();
  } catch (error) {
    return String(error);
  }
  return 'nothing';
}
