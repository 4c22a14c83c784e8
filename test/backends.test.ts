// Every built-in backend that is here passes the conformance suite; what is absent is named with the reason.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { mayHaveCblas } from '../backends/cblas/find-library.ts';
import { koffiBinaryMissing, koffiUnavailable } from '../backends/cblas/load-koffi.ts';
import { builtinBackends } from '../backends/index.ts';
import { GemmoeError } from '../core/errors.ts';
import { bindKernels } from '../core/kernels.ts';
import { createBackend } from '../core/container.ts';
import { Registry } from '../core/registry.ts';
import { describeKernels, describeMatmulBackend } from './conformance/index.ts';
import { gemmFault, operandsOf } from '../core/verify/gemm-cases.ts';
import { backendNamed, referenceKernels } from './support/kernels.ts';

const contributions = builtinBackends.backends ?? [];
const required = (process.env['GEMMOE_REQUIRE_BACKENDS'] ?? '').split(',').filter((name) => name !== '');

for (const contribution of contributions) {
  const reason = contribution.unavailable();
  if (reason === undefined) {
    describeMatmulBackend(contribution.name, () => contribution.create(''));
    describeKernels(contribution.name, () => bindKernels(contribution.create('')), referenceKernels);
  } else if (required.includes(contribution.name)) {
    test(`${contribution.name} is required here`, () => expect.fail(reason));
  } else {
    test.skip(`${contribution.name}: ${reason}`, () => {});
  }
}

test.each(required)('the required backend %s exists', (name) => {
  expect(contributions.map((contribution) => contribution.name)).toContain(name);
});

test('a native kernel replaces the portable one, also inside composite kernels', () => {
  let calls = 0;
  const reference = backendNamed('reference');
  const kernels = bindKernels({
    ...{ name: 'test', describe: () => reference.describe(), close: () => {} },
    gemm: reference.gemm.bind(reference),
    kernels: { swiglu: () => void calls++ },
  });
  const shape = { tokens: 1, hiddenSize: 1, numExperts: 1, topK: 1, expertWidth: 1 };
  const buffer = () => new Float32Array(2);
  const saved = { gathered: buffer(), gateUp: buffer(), hidden: buffer(), output: buffer() };
  const one = Int32Array.of(0);
  const routing = { experts: one, weights: buffer(), offsets: Int32Array.of(0, 1), rows: one, slots: one };
  kernels.experts(buffer(), saved, buffer(), buffer(), buffer(), routing, shape);
  expect(calls).toBe(1);
});

test('the suite catches a planted fault', () => {
  const gemm = { transA: false, transB: true, m: 3, n: 2, k: 4, alpha: 1, beta: 1, offset: 1, gap: 2 };
  const operands = operandsOf(gemm, 'f32');
  const before = operands.C.slice();
  const { A, B, C, lda, ldb, ldc } = operands;
  backendNamed('reference').gemm(false, true, 3, 2, 4, 1, A, 1, lda, B, 1, ldb, 1, C, 1, ldc);
  expect(gemmFault(gemm, operands, before, C)).toBeUndefined();
  for (const spoil of [
    (c: Float32Array) => (c[1] *= 1.0001),
    (c: Float32Array) => (c[0] = 0),
    (c: Float32Array) => (c[1] = Number.NaN),
  ]) {
    const spoiled = Float32Array.from(C);
    spoil(spoiled);
    expect(gemmFault(gemm, operands, before, spoiled)).toBeDefined();
  }
});

test('a row of the reference has the same bits in every batch', () => {
  const reference = backendNamed('reference');
  const [rows, n, k] = [9, 13, 37];
  for (const transB of [false, true]) {
    const gemm = { transA: false, transB, m: rows, n, k, alpha: 0.7, beta: 1, offset: 0, gap: 0 };
    const { A, B, C, ldb } = operandsOf(gemm, 'f32');
    const product = (from: number, m: number) => {
      const out = C.slice();
      reference.gemm(false, transB, m, n, k, 0.7, A, from * k, k, B, 0, ldb, 1, out, from * n, n);
      return out.slice(from * n, (from + m) * n);
    };
    const whole = product(0, rows);
    for (const m of [1, 2, 3, 5]) {
      for (let from = 0; from + m <= rows; from++) {
        expect(product(from, m)).toEqual(whole.slice(from * n, (from + m) * n));
      }
    }
  }
});

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-backends-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('choosing', () => {
  const registry = new Registry('backend', contributions);

  test('an unknown name lists what there is', () => {
    expect(() => createBackend(registry, 'refrence')).toThrow(GemmoeError);
    try {
      createBackend(registry, 'refrence');
    } catch (error) {
      expect((error as GemmoeError).hint).toMatch(/did you mean "reference"\? choices: accelerate, cblas, reference/);
    }
  });

  test.each([
    ['reference:fast', /takes no options/],
    ['cblas:thraeds=2', /no option "thraeds"/],
    ['cblas:threads=0', /threads is 0/],
    ['cblas:threads=two', /threads is two/],
    ['cblas:/no/such/libblas.so', /there is no library \/no\/such\/libblas\.so/],
  ])('%s is refused', (spec, message) => {
    expect(() => createBackend(registry, spec)).toThrow(message);
  });

  test('a file that is no library is refused with its path', () => {
    const path = join(scratch, 'text.so');
    writeFileSync(path, 'no library');
    expect(() => createBackend(registry, `cblas:${path}`)).toThrow(/text\.so cannot be loaded/);
  });

  const someLibrary = ['/lib/x86_64-linux-gnu/libm.so.6', '/lib/aarch64-linux-gnu/libm.so.6'].find(existsSync);
  test.skipIf(!someLibrary)('a library that is no BLAS is refused (skipped where libm is elsewhere)', () => {
    expect(() => createBackend(registry, `cblas:library=${someLibrary}`)).toThrow(/has no cblas_sgemm and cblas_dgemm/);
  });

  test('auto takes the first that can run', () => {
    const usable = contributions.find((contribution) => contribution.unavailable() === undefined);
    expect(createBackend(registry, 'auto').name).toBe(usable?.name);
  });

  const absent = contributions.some(({ name, unavailable }) => name === 'cblas' && unavailable() !== undefined);
  test.skipIf(absent)('threads are what was asked for (skipped where no CBLAS is found)', () => {
    expect(createBackend(registry, 'cblas:threads=1').describe().threads).toBe(1);
    expect(createBackend(registry, 'cblas:threads=2').describe().threads).toBe(2);
  });
});

describe('looking without loading', () => {
  test('a library without the C interface is passed over, whatever its name promises', () => {
    for (const [name, content, expected] of [
      ['libblas.so.3', 'sgemm_\0dgemm_\0', false],
      ['libcblas.so.3', 'cblas_sgemm\0cblas_dgemm\0', true],
      ['libblis.so.4', 'bli_sgemm\0', false],
      ['libopenblas.so.0', 'not even read', true],
    ] as const) {
      const path = join(scratch, name);
      writeFileSync(path, content);
      expect(mayHaveCblas(path), name).toBe(expected);
    }
    expect(mayHaveCblas(scratch)).toBe(false);
  });

  test('koffi without its binary is a reason', () => {
    const modules = join(scratch, 'node_modules');
    const koffi = join(modules, 'koffi');
    mkdirSync(koffi, { recursive: true });
    // systems that no folder above the scratch folder has a binary for
    expect(koffiBinaryMissing(koffi, 'plan9')).toMatch(/no binary for plan9: .*npm install/);
    mkdirSync(join(modules, '@koromix', 'koffi-amiga-x64'), { recursive: true });
    expect(koffiBinaryMissing(koffi, 'plan9')).toBeDefined();
    expect(koffiBinaryMissing(koffi, 'amiga')).toBeUndefined();
    mkdirSync(join(koffi, 'build', 'koffi'), { recursive: true });
    expect(koffiBinaryMissing(koffi, 'plan9')).toBeUndefined();
  });
});

const COMPILER: string = process.env['CC'] ?? 'cc';
const cannotBuild = spawnSync(COMPILER, ['--version']).status !== 0 || koffiUnavailable() !== undefined;

describe.skipIf(cannotBuild)('libraries that cannot be used (skipped where no C compiler or no koffi is found)', () => {
  const registry = new Registry('backend', contributions);
  const PRODUCTS = 'void cblas_sgemm() {} void cblas_dgemm() {} void cblas_sgemv() {} void cblas_dgemv() {}';

  /** Builds a shared library and gives the spec that names it. */
  function build(name: string, source: string): string {
    const path = join(scratch, name);
    execFileSync(COMPILER, ['-shared', '-fPIC', '-x', 'c', '-o', path, '-'], { input: source });
    return `cblas:${path}`;
  }

  test.each([
    ['plain.so', `${PRODUCTS} long long cblas_isamax(long long n) { return n < 0 ? 0 : 2; }`],
    ['suffixed.so', 'void cblas_sgemm64_() {} void cblas_dgemm64_() {}'],
  ])('64-bit integers are refused: %s', (name, source) => {
    expect(() => createBackend(registry, build(name, source))).toThrow(/takes 64-bit integers/);
  });

  test('without the C interface', () => {
    expect(() => createBackend(registry, build('fortran.so', 'void sgemm_() {}'))).toThrow(/has no cblas_sgemm/);
  });

  test('the same library with 32-bit integers is taken, and says what it is not', () => {
    const spec = build('short.so', `${PRODUCTS} int cblas_isamax(int n) { return n < 0 ? 0 : n - 1; }`);
    const { vendor, threads, library } = createBackend(registry, spec).describe();
    expect({ vendor, threads, library }).toEqual({ vendor: 'unknown', threads: 1, library: join(scratch, 'short.so') });
  });
});
