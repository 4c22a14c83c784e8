// `accelerate`: the native addon. Every kernel in C++ for the machine's instruction set, on threads of its own.

import { availableParallelism } from 'node:os';
import {
  type BackendContribution,
  type BackendDescription,
  checkGemm,
  checkOperand,
  type MatmulBackend,
  type PackedMatrix,
} from '../../core/backend.ts';
import { GemmoeError } from '../../core/errors.ts';
import type { Kernels, ProductKernels } from '../../core/kernels.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { candidateLibraries, VENDORS } from '../cblas/find-library.ts';
import { ReferenceBackend } from '../reference/reference-backend.ts';
import { addonUnavailable, ADDON_FILE, loadAddon, type NativeBackend } from './addon.ts';
import { isaOfEnvironment, platform } from './machine.ts';
import { bf16ProductsOf, nativeKernelsOf } from './native-kernels.ts';
import { type AccelerateOptions, OPTION_HELP, parseAccelerateOptions, PRECISIONS } from './options.ts';
import { fastestThreads } from './threads.ts';

/** Multiplications from which a BLAS that was asked for takes a product: below, the call costs more than it gains. */
const BLAS_FROM = 100_000;

export class AccelerateBackend implements MatmulBackend {
  readonly name = 'accelerate';
  readonly kernels: Partial<Kernels>;
  readonly bf16?: ProductKernels;
  private readonly native: NativeBackend;
  private readonly description: BackendDescription;
  /** Products of Float64Array: exact work, not fast work. */
  private readonly doubles = new ReferenceBackend();

  constructor(native: NativeBackend, threads: number, precision: AccelerateOptions['precision']) {
    this.native = native;
    const kernels = nativeKernelsOf(native);
    const bf16 = bf16ProductsOf(native, kernels, PRECISIONS.indexOf(precision));
    this.kernels = kernels;
    if (bf16) this.bf16 = bf16;
    this.description = {
      vendor: native.blas ? native.blas.vendor : 'gemmoe',
      version: native.blas ? native.blas.version : 'own kernels',
      library: native.blas?.path ?? ADDON_FILE,
      instructionSet: native.isa,
      threads,
      precision,
    };
  }

  gemm(
    transA: boolean,
    transB: boolean,
    m: number,
    n: number,
    k: number,
    alpha: number,
    A: FloatArray,
    aOffset: number,
    lda: number,
    B: FloatArray,
    bOffset: number,
    ldb: number,
    beta: number,
    C: FloatArray,
    cOffset: number,
    ldc: number,
  ): void {
    checkGemm(transA, transB, m, n, k, A, aOffset, lda, B, bOffset, ldb, C, cOffset, ldc);
    const { native, doubles } = this;
    if (C instanceof Float32Array) {
      native.gemm(transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset, ldc);
    } else {
      doubles.gemm(transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset, ldc);
    }
  }

  pack(transB: boolean, n: number, k: number, B: FloatArray, bOffset: number, ldb: number): PackedMatrix {
    checkOperand(transB, n, k, B, bOffset, ldb);
    const { native } = this;
    const packed = B instanceof Float32Array ? new Float32Array(native.packedLength(n, k)) : new Float32Array(0);
    const isPacked = packed.length > 0 && native.pack(packed, transB, n, k, B as Float32Array, bOffset, ldb) === 1;
    return {
      ...{ k, n, bytes: isPacked ? packed.byteLength : 0 },
      gemm: (transA, m, alpha, A, aOffset, lda, beta, C, cOffset, ldc) => {
        if (!isPacked) {
          this.gemm(transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset, ldc);
          return;
        }
        checkGemm(transA, transB, m, n, k, A, aOffset, lda, B, bOffset, ldb, C, cOffset, ldc);
        native.gemm(transA, transB, m, n, k, alpha, A, aOffset, lda, B, bOffset, ldb, beta, C, cOffset, ldc, packed);
      },
    };
  }

  /** y = e^x by the kernels' own exponential. */
  exponential(y: Float32Array, x: Float32Array): void {
    this.native.exponential(y, x);
  }

  /** Bytes of scratch memory that the kernels hold. */
  get scratchBytes(): number {
    return this.native.bytes();
  }

  describe(): BackendDescription {
    return this.description;
  }

  close(): void {
    this.native.close();
  }
}

/** Libraries to try for a `blas` option; none where our own kernels serve. */
function librariesFor(blas: string, isa: string): readonly string[] {
  if (blas === 'builtin') return [];
  if (blas !== 'auto') return VENDORS.includes(blas) ? vendorLibraries(blas) : [blas];
  if (platform === 'darwin') return ['accelerate'];
  // measured: from AVX2 on, our own products are as fast as OpenBLAS's or faster at every size
  return isa === 'baseline' ? candidateLibraries() : [];
}

function vendorLibraries(vendor: string): readonly string[] {
  if (vendor === 'accelerate' && platform === 'darwin') return ['accelerate'];
  const found = candidateLibraries(vendor);
  if (found.length > 0) return found;
  throw new GemmoeError(
    'unavailable',
    `no ${vendor} library was found`,
    'install it, or name its file: accelerate:blas=/path/to/library',
  );
}

/** The instruction set that was asked for, or the best; '' has the addon choose. @throws GemmoeError for one that cannot run */
function chooseIsa(wanted: string): string {
  const { compiled, usable } = loadAddon().levels();
  const name = wanted || isaOfEnvironment();
  if (name === '') return usable[0];
  if (usable.includes(name)) return name;
  const why = compiled.includes(name) ? 'this machine does not run it' : 'it was not compiled';
  throw new GemmoeError(
    'usage',
    `accelerate: the instruction set ${name} cannot be used: ${why}`,
    `choose one of ${usable.join(', ')}`,
  );
}

function createNative(options: AccelerateOptions, isa: string, threads: number): NativeBackend {
  const { blas, precision } = options;
  const libraries = librariesFor(blas, isa);
  const native = loadAddon().create(
    isa,
    threads,
    PRECISIONS.indexOf(precision),
    libraries,
    platform === 'darwin' ? 0 : BLAS_FROM,
  );
  if (libraries.length > 0 && !native.blas && blas !== 'auto') {
    native.close();
    throw new GemmoeError(
      'unavailable',
      `accelerate: no BLAS at ${blas}; tried: ${native.tried.join('; ')}`,
      'name a CBLAS shared library with 32-bit integers, or blas=builtin',
    );
  }
  const isNative = (native.nativePrecisions >> PRECISIONS.indexOf(precision)) & 1;
  if (!isNative && precision !== 'bf16') {
    native.close();
    throw new GemmoeError(
      'unavailable',
      `accelerate: precision ${precision} needs instructions for bfloat16, which ${isa} lacks`,
      'use precision=f32, which is as accurate, or precision=bf16',
    );
  }
  return native;
}

/** Precisions that are usable here. */
function usablePrecisions(): readonly string[] {
  const native = loadAddon().create(chooseIsa(''), 1, 0, [], 0);
  const { nativePrecisions } = native;
  native.close();
  return PRECISIONS.filter((name, i) => name === 'bf16' || (nativePrecisions >> i) & 1);
}

export const accelerateBackend: BackendContribution = {
  name: 'accelerate',
  description: 'the native addon: all kernels in C++, on its own threads; Apple Accelerate on macOS',
  options: OPTION_HELP,
  unavailable: addonUnavailable,
  precisions: () => (addonUnavailable() === undefined ? usablePrecisions() : []),
  create(text) {
    const options = parseAccelerateOptions(text);
    const reason = addonUnavailable();
    if (reason !== undefined) throw new GemmoeError('unavailable', `accelerate cannot be used: ${reason}`);
    const isa = chooseIsa(options.isa);
    const threads =
      options.threads === 'auto'
        ? fastestThreads(availableParallelism(), (count) => createNative(options, isa, count))
        : options.threads;
    return new AccelerateBackend(createNative(options, isa, threads), threads, options.precision);
  },
};
