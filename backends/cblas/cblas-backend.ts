// `cblas`: any CBLAS shared library through koffi, no compiler needed.

import { availableParallelism } from 'node:os';
import { existsSync } from 'node:fs';
import {
  type BackendContribution,
  type BackendDescription,
  checkGemm,
  type MatmulBackend,
} from '../../core/backend.ts';
import { parseKeyValues } from '../../core/config.ts';
import { GemmoeError, messageOf, nearestName } from '../../core/errors.ts';
import { scaleMatrix } from '../../core/ops/scale-matrix.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { type CblasLibrary, loadCblas, NO_TRANSPOSE, ROW_MAJOR, TRANSPOSE } from './cblas-library.ts';
import { candidateLibraries, installHint, mayHaveCblas, VENDORS } from './find-library.ts';
import { koffiUnavailable, loadKoffi } from './load-koffi.ts';

/**
 * Elements of op(B) from which a product of one row goes to gemv: beyond a million, OpenBLAS's gemm leaves its kernels for small
 * matrices and takes 2 to 40 times as long. Other libraries do both alike.
 */
const GEMV_ELEMENTS = 1_000_000;

/**
 * Multiplications from which a product gets all threads: below, a second one gains nothing on an idle machine and makes
 * OpenBLAS several times slower where its core has other work, as it spins while it waits.
 */
const THREADED_PRODUCTS = 20_000_000;

/** Products of a library. Edges that BLAS implementations have differed on (k = 0, alpha = 0) are done here. */
export class CblasBackend implements MatmulBackend {
  readonly name = 'cblas';
  private readonly library: CblasLibrary;
  /** Addresses of buffers: a backing store never moves, so asking once is enough. */
  private readonly addresses = new WeakMap<ArrayBufferLike, bigint>();
  /** The arrays of the call that runs: an address does not keep its array from being collected. */
  private readonly inUse: (FloatArray | null)[] = [null, null, null];
  /** Threads of a large product. */
  private readonly threads: number;

  constructor(library: CblasLibrary, threads: number) {
    this.library = library;
    library.setThreads?.(threads);
    // a library may give fewer than it is asked for
    this.threads = library.getThreads ? Number(library.getThreads()) : 1;
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
    if (m === 0 || n === 0) return;
    if (k === 0 || alpha === 0) return scaleMatrix(C, cOffset, ldc, m, n, beta);
    this.hold(A, B, C);
    // at every call, as other backends may share the library
    this.library.setThreads?.(m * n * k < THREADED_PRODUCTS ? 1 : this.threads);
    const a = this.addressOf(A, aOffset);
    const b = this.addressOf(B, bOffset);
    const c = this.addressOf(C, cOffset);
    const single = C instanceof Float32Array;
    if (m === 1 && n * k >= GEMV_ELEMENTS) {
      if (beta === 0) C.fill(0, cOffset, cOffset + n); // a version that scales y by 0 would keep its NaN
      const gemv = single ? this.library.sgemv : this.library.dgemv;
      const x = transA ? lda : 1;
      if (transB) gemv(ROW_MAJOR, NO_TRANSPOSE, n, k, alpha, b, ldb, a, x, beta, c, 1);
      else gemv(ROW_MAJOR, TRANSPOSE, k, n, alpha, b, ldb, a, x, beta, c, 1);
    } else {
      const gemm = single ? this.library.sgemm : this.library.dgemm;
      const opA = transA ? TRANSPOSE : NO_TRANSPOSE;
      const opB = transB ? TRANSPOSE : NO_TRANSPOSE;
      gemm(ROW_MAJOR, opA, opB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    }
    this.hold(null, null, null);
  }

  describe(): BackendDescription {
    const { vendor, version, path, instructionSet } = this.library;
    return { vendor, version, library: path, instructionSet, threads: this.threads, precision: 'f32' };
  }

  /** Does nothing: unloading a BLAS whose threads still run crashes, so it stays until the process ends. */
  close(): void {}

  private hold(A: FloatArray | null, B: FloatArray | null, C: FloatArray | null): void {
    this.inUse[0] = A;
    this.inUse[1] = B;
    this.inUse[2] = C;
  }

  private addressOf(array: FloatArray, offset: number): bigint {
    let base = this.addresses.get(array.buffer);
    if (base === undefined) {
      // asking for .buffer has moved a small array off V8's heap, where it could have been moved
      base = this.library.addressOf(array.buffer);
      this.addresses.set(array.buffer, base);
    }
    return base + BigInt(array.byteOffset + offset * array.BYTES_PER_ELEMENT);
  }
}

interface CblasOptions {
  readonly library: string | undefined;
  readonly threads: number | undefined;
}

const KEYS = ['library', 'threads'];

/** `PATH`, or `library=PATH|vendor,threads=N`. */
function parseCblasOptions(text: string): CblasOptions {
  if (text === '' || !/^\w+=/.test(text)) return { library: text || undefined, threads: undefined };
  const values = parseKeyValues(text, 'cblas');
  const unknown = Object.keys(values).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) {
    const nearest = nearestName(unknown, KEYS);
    throw new GemmoeError(
      'usage',
      `cblas has no option "${unknown}"`,
      `${nearest ? `did you mean "${nearest}"? ` : ''}options of cblas: ${KEYS.join(', ')}`,
    );
  }
  const threads = values['threads'] === undefined ? undefined : Number(values['threads']);
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) {
    throw new GemmoeError('usage', `cblas: threads is ${values['threads']}`, 'give a whole number of at least 1');
  }
  return { library: values['library'], threads };
}

/** The library that was named, or the first of the usual ones that loads. @throws GemmoeError listing what was tried */
function findCblas(named: string | undefined): CblasLibrary {
  if (named !== undefined && !VENDORS.includes(named)) {
    if (!existsSync(named) && (named.includes('/') || named.includes('\\'))) {
      throw new GemmoeError('not-found', `there is no library ${named}`, installHint());
    }
    return loadCblas(named);
  }
  loadKoffi(); // its absence is no fault of the libraries that are tried
  const tried: string[] = [];
  for (const path of candidateLibraries(named)) {
    try {
      return loadCblas(path);
    } catch (error) {
      tried.push(messageOf(error));
    }
  }
  const what = named === undefined ? 'no CBLAS library was found' : `no ${named} library was found`;
  throw new GemmoeError('unavailable', tried.length > 0 ? `${what}; tried: ${tried.join('; ')}` : what, installHint());
}

export const cblasBackend: BackendContribution = {
  name: 'cblas',
  description: 'a CBLAS shared library: OpenBLAS, MKL, BLIS, Accelerate',
  options: [
    `library=PATH|${VENDORS.join('|')}: which library, also as cblas:PATH; default: the first found`,
    'threads=N: threads for large products; default: one for each core',
  ],
  unavailable() {
    if (!candidateLibraries().some(mayHaveCblas)) return `no CBLAS library was found: ${installHint()}`;
    return koffiUnavailable();
  },
  create(options) {
    const { library, threads } = parseCblasOptions(options);
    return new CblasBackend(findCblas(library), threads ?? availableParallelism());
  },
};
