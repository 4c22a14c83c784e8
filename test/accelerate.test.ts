// The native addon beyond the suites that every backend passes: each instruction set, threads, precisions, workers, and a machine
// without a compiler.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, test } from 'vitest';
import { AccelerateBackend, accelerateBackend } from '../backends/accelerate/accelerate-backend.ts';
import { addonUnavailable, loadAddon } from '../backends/accelerate/addon.ts';
import { buildAddon } from '../backends/accelerate/build.ts';
import { packMatrix } from '../core/backend.ts';
import { bindKernels, type Kernels } from '../core/kernels.ts';
import { Random } from '../core/random.ts';
import { describeKernels, describeMatmulBackend } from './conformance/index.ts';
import { ROOT } from './support/golden.ts';
import { backendNamed, referenceKernels, USABLE_BACKENDS } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';

const absent = addonUnavailable();
if (absent !== undefined) test.skip(`accelerate: ${absent}`, () => {});

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-accelerate-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const create = (options: string) => accelerateBackend.create(options) as AccelerateBackend;

function normal(length: number, stream: string): Float32Array {
  const values = new Float32Array(length);
  new Random(3, stream).fillNormal(values, 0, 1, 0);
  return values;
}

describe.skipIf(absent !== undefined)('accelerate', () => {
  const levels = absent === undefined ? loadAddon().levels().usable : [];

  describe.each(levels)('with %s', (isa) => {
    describeMatmulBackend(`accelerate:isa=${isa}`, () => create(`isa=${isa},threads=2`));
    describeKernels(`accelerate:isa=${isa}`, () => bindKernels(create(`isa=${isa},threads=2`)), referenceKernels);

    test('e^x is within 2 ulp from the smallest result to the largest', () => {
      const x = Float32Array.from({ length: 200_000 }, (_, i) => -104.5 + (i * 194) / 200_000);
      x.set([0, -0, 88.7228, 88.73, -87.33, -103.9, Infinity, -Infinity, NaN]);
      const y = new Float32Array(x.length);
      create(`isa=${isa},threads=1`).exponential(y, x);
      let worst = 0;
      for (let i = 0; i < x.length; i++) {
        const exact = Math.exp(x[i]);
        if (Number.isNaN(exact) || Math.fround(exact) === Infinity) expect(y[i]).toBe(Math.fround(exact));
        else worst = Math.max(worst, Math.abs(y[i] - exact) / ulpOf(exact));
      }
      expect(worst).toBeLessThan(2);
    });
  });

  describe.each(accelerateBackend.precisions?.() ?? [])('packed in %s', (precision) => {
    const backend = create(`precision=${precision},threads=2`);
    afterAll(() => backend.close());

    // few rows and many, one panel and several, short sums and some longer than a block
    test.each([
      [1, 40, 30],
      [5, 33, 70],
      [16, 129, 514],
      [70, 31, 1100],
    ])('a matrix gives the same bits: %ix%ix%i', (m, n, k) => {
      const [A, B] = [normal(m * k, 'a'), normal(n * k, 'b')];
      for (const transB of [false, true]) {
        const ldb = transB ? k : n;
        const [plain, packed] = [new Float32Array(m * n), new Float32Array(m * n)];
        const matrix = packMatrix(backend, transB, n, k, B, 0, ldb);
        backend.gemm(false, transB, m, n, k, 1, A, 0, k, B, 0, ldb, 0, plain, 0, n);
        matrix.gemm(false, m, 1, A, 0, k, 0, packed, 0, n);
        expect(packed).toEqual(plain);
        if (precision !== 'bf16') expect(matrix.bytes).toBeGreaterThan(0);
      }
    });

    test('infinities in it come out as they do without', () => {
      const [A, B] = [normal(6 * 20, 'a'), normal(20 * 20, 'b').fill(Infinity, 45, 46)];
      const [plain, packed] = [new Float32Array(120), new Float32Array(120)];
      backend.gemm(false, true, 6, 20, 20, 1, A, 0, 20, B, 0, 20, 0, plain, 0, 20);
      packMatrix(backend, true, 20, 20, B, 0, 20).gemm(false, 6, 1, A, 0, 20, 0, packed, 0, 20);
      expect(packed).toEqual(plain);
    });
  });

  test('GEMMOE_ISA and isa= refuse what cannot run', () => {
    expect(() => create('isa=sse9')).toThrow(/instruction set sse9 cannot be used: it was not compiled/);
  });

  describe('threads', () => {
    test.each([2, 3, 5])('%i give the bits of one', (threads) => {
      const results = [1, threads].map((count) => everyParallelKernel(bindKernels(create(`threads=${count}`))));
      // not toEqual, whose account of a difference between so many numbers never ends
      const bits = results.map((arrays) => arrays.map((array) => new Uint32Array(array.buffer)));
      for (const [i, array] of bits[0].entries()) {
        const place = array.findIndex((value, j) => value !== bits[1][i][j]);
        expect(place, `array ${i} differs at this place`).toBe(-1);
      }
    });

    test('auto takes a number that the machine has', () => {
      const { threads } = create('').describe();
      expect(threads).toBeGreaterThanOrEqual(1);
    });

    test('many calls in a row, with pauses in which threads fall asleep', async () => {
      const backend = create('threads=3');
      const [n, size] = [128, 128 * 128];
      const [a, b, c] = [normal(size, 'a'), normal(size, 'b'), new Float32Array(size)];
      const product = () => {
        backend.gemm(false, false, n, n, n, 1, a, 0, n, b, 0, n, 0, c, 0, n);
        return Buffer.from(c.buffer.slice(0));
      };
      const first = product();
      for (let i = 0; i < 200; i++) {
        if (i % 40 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        expect(product().equals(first)).toBe(true);
      }
      backend.close();
    });
  });

  test('several workers each with a backend of several threads, beside one here', async () => {
    const file = join(scratch, 'worker.mjs');
    writeFileSync(
      file,
      `import { parentPort, workerData } from 'node:worker_threads';
       const { builtinBackends } = await import(workerData);
       const backend = builtinBackends.backends.find(({ name }) => name === 'accelerate').create('threads=2');
       const n = 96, a = Float32Array.from({ length: n * n }, (_, i) => (i % 13) - 6), c = new Float32Array(n * n);
       for (let i = 0; i < 300; i++) backend.gemm(false, true, n, n, n, 1, a, 0, n, a, 0, n, 0, c, 0, n);
       parentPort.postMessage(c);
       backend.close();`,
    );
    const n = 96;
    const a = Float32Array.from({ length: n * n }, (_, i) => (i % 13) - 6);
    const wanted = new Float32Array(n * n);
    backendNamed('reference').gemm(false, true, n, n, n, 1, a, 0, n, a, 0, n, 0, wanted, 0, n);
    const dist = new URL(`file://${join(ROOT, 'dist', 'backends', 'index.js')}`).href;
    const results = await Promise.all(
      Array.from({ length: 3 }, () => {
        const worker = new Worker(file, { workerData: dist });
        return new Promise<Float32Array>((resolve, reject) => worker.on('message', resolve).on('error', reject));
      }),
    );
    for (const c of results) expect(c).toEqual(wanted); // whole numbers: every order of summing is exact
  });

  test('a worker that is stopped amid its work takes its threads with it', async () => {
    const file = join(scratch, 'endless.mjs');
    writeFileSync(
      file,
      `import { parentPort, workerData } from 'node:worker_threads';
       const { builtinBackends } = await import(workerData);
       const backend = builtinBackends.backends.find(({ name }) => name === 'accelerate').create('threads=2');
       const n = 64, a = new Float32Array(n * n), c = new Float32Array(n * n);
       parentPort.postMessage('running');
       for (;;) backend.gemm(false, true, n, n, n, 1, a, 0, n, a, 0, n, 0, c, 0, n);`,
    );
    const dist = new URL(`file://${join(ROOT, 'dist', 'backends', 'index.js')}`).href;
    const worker = new Worker(file, { workerData: dist });
    await new Promise((resolve) => worker.once('message', resolve));
    expect(await worker.terminate()).toBe(1);
  });

  describe('precision', () => {
    const precisions = absent === undefined ? (accelerateBackend.precisions?.() ?? []) : [];

    test.each(precisions.filter((name) => name !== 'f32'))('%s keeps to its bound', (precision) => {
      const backend = create(`threads=2,precision=${precision}`);
      // an operand in one bfloat16 part is off by 2^-8 of itself, in two by 2^-16; in three it is exact
      const unit = { bf16: 2 ** -7, bf16x2: 3 * 2 ** -16, bf16x3: 0 }[precision] ?? 0;
      for (const [m, n, k] of SHAPES) {
        for (const [transA, transB] of TRANSPOSITIONS) {
          const { error, terms } = gemmErrors(backend, transA, transB, m, n, k);
          for (let i = 0; i < error.length; i++) {
            const bound = (2 * k * 2 ** -24 + 1.01 * unit) * terms[i];
            if (!(error[i] <= bound)) expect.fail(`${m}x${n}x${k}: element ${i} is off by ${error[i]}, not ${bound}`);
          }
        }
      }
    });

    test.skipIf(!precisions.includes('bf16x3') || !USABLE_BACKENDS.includes('cblas'))(
      'bf16x3 is no less accurate than the float32 of the BLAS',
      () => {
        const [ours, theirs] = [create('precision=bf16x3'), backendNamed('cblas')];
        const [mine, blas] = [ours, theirs].map((backend) => {
          let sum = 0;
          for (const [m, n, k] of SHAPES) {
            const { error, terms } = gemmErrors(backend, false, true, m, n, k);
            for (let i = 0; i < error.length; i++) sum += (error[i] / terms[i]) ** 2 / error.length;
          }
          return Math.sqrt(sum / SHAPES.length);
        });
        expect(mine).toBeLessThanOrEqual(blas);
      },
    );

    test.each(precisions)('%s lets infinities and NaN through as IEEE says', (precision) => {
      const backend = create(`precision=${precision}`);
      const [m, n, k] = [9, 33, 40];
      for (const special of [Infinity, -Infinity, NaN, 3e38]) {
        const [a, b] = [normal(m * k, 'a').map(Math.abs), normal(n * k, 'b').map(Math.abs)];
        a[2 * k + 5] = special;
        const [found, wanted] = [new Float32Array(m * n), new Float32Array(m * n)];
        backend.gemm(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, found, 0, n);
        backendNamed('reference').gemm(false, true, m, n, k, 1, a, 0, k, b, 0, k, 0, wanted, 0, n);
        if (special === 3e38 && precision === 'bf16') continue; // may round to infinity
        const kinds = (c: Float32Array) => Array.from(c, (x) => (Number.isFinite(x) ? 'finite' : String(x)));
        expect(kinds(found)).toEqual(kinds(wanted));
      }
    });

    test('products for mixed precision are those of precision=bf16, and leave the others as they are', () => {
      const backend = create('threads=2');
      const [N, I, O] = [50, 70, 90];
      const zeros = () => new Float32Array(N * O);
      const [x, w, y, rounded] = [normal(N * I, 'x'), normal(O * I, 'w'), zeros(), zeros()];
      const product = (products: Pick<Kernels, 'linear'> | undefined, out: Float32Array) => {
        products?.linear(out, x, w, null, N, I, O, false);
        return out;
      };
      const exact = product(bindKernels(backend), zeros()).slice();
      if (!precisions.includes('bf16x3')) return expect(backend.bf16).toBeUndefined();
      expect(product(backend.bf16, y)).toEqual(product(bindKernels(create('threads=1,precision=bf16')), rounded));
      expect(y).not.toEqual(exact);
      expect(product(bindKernels(backend), zeros())).toEqual(exact);
      expect(() => backend.bf16?.linear(y, x, w, null, N, I, O + 1, false)).toThrow(RangeError);
      expect(product(bindKernels(backend), zeros())).toEqual(exact);
    });

    test('one that is unknown is refused with the choices', () => {
      expect(() => create('precision=fp8')).toThrow(/precision/);
    });
  });

  describe('a BLAS', () => {
    test('that is not there is an error that lists what was tried', () => {
      const error = refusal(() => create('blas=/nowhere/libblas.so'));
      expect(error.message).toMatch(
        /no BLAS at \/nowhere\/libblas\.so; tried: \/nowhere\/libblas\.so cannot be loaded/,
      );
    });

    test('that is none is refused', () => {
      const file = join(scratch, 'libtext.so');
      writeFileSync(file, 'no library');
      expect(refusal(() => create(`blas=${file}`)).message).toMatch(/libtext\.so cannot be loaded/);
    });

    test.skipIf(!USABLE_BACKENDS.includes('cblas'))('that is found takes the large products', () => {
      const library = backendNamed('cblas').describe().library ?? '';
      const backend = create(`blas=${library},threads=2`);
      expect(backend.describe().library).toBe(library);
      const { error, terms } = gemmErrors(backend, true, false, 70, 90, 110);
      for (let i = 0; i < error.length; i++) expect(error[i]).toBeLessThanOrEqual(220 * 2 ** -24 * terms[i]);
    });
  });

  test('after close it refuses to compute, and closing twice is harmless', () => {
    const backend = create('threads=2');
    backend.close();
    backend.close();
    const x = new Float32Array(4);
    expect(() => backend.kernels.softmax?.(x, x, 1, 4)).toThrow(/softmax: the backend was closed/);
  });

  test.each(['threads=0', 'threads=x', 'threads=1.5', 'speed=9'])('%s is refused', (options) => {
    expect(refusal(() => create(options)).hint).toBeTruthy();
  });
});

describe('building', () => {
  test('without a compiler is told in a sentence that says what to do', async () => {
    const { problem } = await buildAddon({ compiler: join(scratch, 'no-compiler'), output: join(scratch, 'x.node') });
    expect(problem).toMatch(/no C\+\+ compiler was found: install one .*, then run `npm run build`/);
  });

  test('with a compiler that fails is told with what it said', async () => {
    const { problem } = await buildAddon({ compiler: 'false', output: join(scratch, 'x.node') });
    expect(problem).toMatch(/compiler/);
  });

  test('what is there already is not built again', { timeout: 120_000 }, async () => {
    if (absent !== undefined) return;
    expect(await buildAddon()).toMatchObject({ problem: null, fresh: true });
  });
});

// ------------------------------------------------------------ helpers

/** Distance of float32 numbers around x. */
function ulpOf(x: number): number {
  return 2 ** Math.max(-149, Math.floor(Math.log2(Math.abs(x))) - 23);
}

const SHAPES = [
  [1, 1, 1],
  [5, 33, 7],
  [17, 31, 65],
  [33, 64, 100],
  [64, 64, 64],
  [70, 130, 300],
] as const;

const TRANSPOSITIONS = [
  [false, false],
  [false, true],
  [true, false],
  [true, true],
] as const;

/** |c - exact| and Σ|a·b| of each element of a product of normal numbers. */
function gemmErrors(
  backend: Pick<AccelerateBackend, 'gemm'>,
  transA: boolean,
  transB: boolean,
  m: number,
  n: number,
  k: number,
): { error: Float64Array; terms: Float64Array } {
  const [a, b, c] = [normal(m * k, 'a'), normal(n * k, 'b'), new Float32Array(m * n)];
  backend.gemm(transA, transB, m, n, k, 1, a, 0, transA ? m : k, b, 0, transB ? k : n, 0, c, 0, n);
  const [error, terms] = [new Float64Array(m * n), new Float64Array(m * n)];
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) {
        const term = a[transA ? p * m + i : i * k + p] * b[transB ? j * k + p : p * n + j];
        sum += term;
        terms[i * n + j] += Math.abs(term);
      }
      error[i * n + j] = Math.abs(c[i * n + j] - sum);
    }
  }
  return { error, terms };
}

/** What kernels write that share their work out over threads, on shapes that are worth it. */
function everyParallelKernel(kernels: Kernels): Float32Array[] {
  const [N, C, F, E, K] = [200, 96, 160, 6, 2];
  const M = N * K;
  const floats = (length: number) => new Float32Array(length);
  const written: Float32Array[] = [];
  const keep = (...arrays: Float32Array[]) => void written.push(...arrays);

  const [x, w, dy] = [normal(N * C, 'x'), normal(2 * F * C, 'w'), normal(N * 2 * F, 'dy')];
  const [y, dx, dw] = [floats(N * 2 * F), floats(N * C), floats(2 * F * C)];
  kernels.linear(y, x, w, null, N, C, 2 * F, false);
  kernels.linearBackward(dx, dw, null, dy, x, w, N, C, 2 * F, false);
  keep(y, dx, dw);

  const options = { numExperts: E, topK: K, renormalise: true };
  const routing = {
    experts: new Int32Array(M),
    weights: floats(M),
    offsets: new Int32Array(E + 1),
    rows: new Int32Array(M),
    slots: new Int32Array(M),
  };
  kernels.router(floats(N * E), routing.weights, routing.experts, normal(N * E, 'logits'), N, options);
  kernels.dispatch(routing, N, options);
  const shape = { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F };
  const buffers = () => ({
    gathered: floats(M * C),
    gateUp: floats(M * 2 * F),
    hidden: floats(M * F),
    output: floats(M * C),
  });
  const [gateUp, down, saved, out] = [normal(E * 2 * F * C, 'g'), normal(E * C * F, 'd'), buffers(), floats(N * C)];
  kernels.experts(out, saved, x, gateUp, down, routing, shape);
  const gradients = [floats(N * C), floats(M), floats(gateUp.length), floats(down.length)] as const;
  kernels.expertsBackward(...gradients, buffers(), x, saved, gateUp, down, routing, shape);
  keep(out, ...gradients);

  const [B, T, H, KV, D] = [4, 50, 4, 2, 24];
  const width = (H + 2 * KV) * D;
  const qkv = normal(B * T * width, 'qkv');
  const attention = { batch: B, queries: T, heads: H, kvHeads: KV, headDim: D, scale: 0.2, window: 0 };
  const strides = { queryStride: width, keyStride: width, keyBatchStride: T * width };
  const [mixed, lse, dQkv] = [floats(B * T * H * D), floats(B * H * T), floats(qkv.length)];
  const [k, v] = [H * D, (H + KV) * D];
  const starts = new Int32Array(B);
  kernels.attention(mixed, lse, qkv, 0, qkv, k, qkv, v, starts, { ...attention, ...strides });
  const dOut = normal(mixed.length, 'dOut');
  kernels.attentionBackward(dQkv, dQkv, dQkv, dOut, mixed, lse, qkv, 0, qkv, k, qkv, v, { ...attention, ...strides });
  keep(mixed, lse, dQkv);

  const [rows, columns] = [600, 130];
  const [table, normed, rstd] = [normal(rows * columns, 't'), floats(rows * columns), floats(rows)];
  kernels.rmsNorm(normed, rstd, table, normal(columns, 'gamma'), rows, columns, 1e-5);
  const [dTable, dGamma] = [floats(rows * columns), floats(columns)];
  kernels.rmsNormBackward(dTable, dGamma, normed, table, normal(columns, 'gamma'), rstd, rows, columns);
  kernels.softmax(normed, table, rows, columns);
  const loss = kernels.crossEntropy(
    dTable,
    table,
    Int32Array.from({ length: rows }, (_, i) => i % 130),
    rows,
    columns,
    1,
  );
  keep(normed, dTable, dGamma, Float32Array.of(loss, kernels.sumOfSquares(table)));

  keep(...parallelRowKernels(kernels, table, rows, columns), ...parallelSteps(kernels));
  const zGradient = floats(rows * columns);
  keep(zGradient, Float32Array.of(kernels.zLoss(zGradient, table, rows, columns, 0.1)));
  const [p, g, row, column] = [normal(rows * columns, 'p'), normal(rows * columns, 'g'), floats(rows), floats(columns)];
  const rates = { learningRate: 0.1, step: 2, decayRate: 0.8, eps1: 1e-8, eps2: 1e-3, clip: 1 };
  const settings = { ...rates, relative: true, weightDecay: 0.1, gradientScale: 1 };
  kernels.adafactor(p, g, row, 0, column, 0, 0, rows, columns, settings);
  keep(p, row, column);
  const matrices = { offsets: Float64Array.of(0, 100 * 130, 200 * 130), rows: 100, columns: 130 };
  for (const rounded of [false, true]) {
    const batch = normal(300 * 130, 'newton');
    kernels.newtonSchulz(batch, matrices, Float64Array.of(3.4445, -4.775, 2.0315), floats(0), rounded);
    keep(batch);
  }
  return written;
}

/** What LayerNorm, the elementwise kernels, the rope of neighbours and sparsemixer write for x [N,C]. */
function parallelRowKernels(kernels: Kernels, x: Float32Array, N: number, C: number): Float32Array[] {
  const floats = (length: number) => new Float32Array(length);
  const [gamma, beta, dy] = [normal(C, 'gamma'), normal(C, 'beta'), normal(N * C, 'dy')];
  const [y, mean, rstd] = [floats(N * C), floats(N), floats(N)];
  kernels.layerNorm(y, mean, rstd, x, gamma, beta, N, C, 1e-5);
  const [dx, dGamma, dBeta] = [floats(N * C), floats(C), floats(C)];
  kernels.layerNormBackward(dx, dGamma, dBeta, dy, x, gamma, mean, rstd, N, C);

  const [scaled, clamped, dClamped] = [floats(N * C), floats(N * C), floats(N * C)];
  kernels.scale(scaled, x, 0.3, N * C);
  kernels.clamp(clamped, x, 0.5, N * C);
  kernels.clampBackward(dClamped, dy, x, 0.5, N * C);

  const turned = x.slice();
  const [cosines, sines] = [normal((N * C) / 2, 'cos'), normal((N * C) / 2, 'sin')];
  const positions = Int32Array.from({ length: N }, (_, n) => n);
  kernels.ropeInterleaved(turned, 0, C, cosines, sines, positions, N, 1, C, false);

  const options = { numExperts: C, jitter: 0.3 };
  const [probabilities, weights, experts, dLogits] = [
    floats(N * C),
    floats(2 * N),
    new Int32Array(2 * N),
    floats(N * C),
  ];
  kernels.sparseMixer(probabilities, weights, experts, x, N, options);
  kernels.sparseMixerBackward(dLogits, normal(2 * N, 'dw'), gamma, probabilities, x, experts, N, options);
  const routed = [probabilities, weights, Float32Array.from(experts), dLogits];
  return [y, mean, rstd, dx, dGamma, dBeta, scaled, clamped, dClamped, turned, ...routed];
}

/** What the steps of optimizers and of Muon write, each with what changes the way it is computed on and off. */
function parallelSteps(kernels: Kernels): Float32Array[] {
  const count = 100_003;
  const written: Float32Array[] = [];
  const arrays = (length: number) => {
    const made = Array.from({ length }, (_, i) => normal(count, `step ${i}`));
    for (let i = 0; i < count; i++) made.at(-1)![i] = Math.abs(made.at(-1)![i]); // a second moment
    written.push(...made);
    return made;
  };
  for (const on of [false, true]) {
    const [p, g, m, v] = arrays(4);
    kernels.adamw(p, g, m, v, 0, count, 0.0123, 0.9, 0.95, 1e-8, 0.1, 7, 0.77);
    const [p1, g1, m1, vMax1, v1] = arrays(5);
    kernels.adam(p1, g1, m1, v1, on ? vMax1 : null, 0, count, 0.0123, 0.9, 0.95, 1e-8, 0.1, 7, 0.77);
    const [p2, g2, velocity2] = arrays(3);
    kernels.sgd(p2, g2, velocity2, 0, count, 0.0123, 0.9, on, 0.1, 7, 0.77);
    const [p3, g3, m3] = arrays(3);
    kernels.lion(p3, g3, m3, 0, count, 0.0123, 0.9, 0.95, 0.1, 0.77);
    const [p4, g4, z4, x4, v4] = arrays(5);
    kernels.scheduleFree(p4, g4, z4, x4, v4, 0, count, 0.0123, 0.9, 0.95, 1e-8, 0.1, 0.3, 7, 0.77);
    const [g5, m5] = arrays(2);
    kernels.muonMomentum(g5, m5, 0, count, 0.95, on, 0.77);
    const [p6, g6] = arrays(2);
    kernels.muonUpdate(p6, g6, 0, count, 0.0153, 0.00123, on);
    const [y7, x7] = arrays(2);
    kernels.add(y7, x7, count);
    if (on) kernels.roundToBf16(y7, x7, count);
    else kernels.roundToF16(y7, x7, count);
  }
  return written;
}
