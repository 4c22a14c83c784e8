// `cblas`: any CBLAS shared library through koffi, no compiler needed.

import { availableParallelism } from 'node:os';
import { existsSync } from 'node:fs';
import koffi from 'koffi';
import {
  type BackendContribution,
  type BackendDescription,
  checkGemm,
  type MatmulBackend,
} from '../../core/backend.ts';
import { parseKeyValues } from '../../core/config.ts';
import { GemmoeError, messageOf } from '../../core/errors.ts';
import { scaleMatrix } from '../../core/ops/scale-matrix.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { type CblasLibrary, loadCblas, NO_TRANSPOSE, ROW_MAJOR, TRANSPOSE } from './cblas-library.ts';
import { candidateLibraries, installHint, VENDORS } from './find-library.ts';

/** Products of a library. Cases whose result BLAS implementations disagree on (k = 0, beta = 0) are done here. */
export class CblasBackend implements MatmulBackend {
  readonly name = 'cblas';
  private readonly library: CblasLibrary;
  /** Addresses of buffers: a backing store never moves, so asking once is enough. */
  private readonly addresses = new WeakMap<ArrayBufferLike, bigint>();
  private closed = false;

  constructor(library: CblasLibrary, threads: number) {
    this.library = library;
    library.setThreads?.(threads);
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
    const multiply = C instanceof Float32Array ? this.library.sgemm : this.library.dgemm;
    multiply(
      ROW_MAJOR,
      transA ? TRANSPOSE : NO_TRANSPOSE,
      transB ? TRANSPOSE : NO_TRANSPOSE,
      m,
      n,
      k,
      alpha,
      this.addressOf(A, aOffset),
      lda,
      this.addressOf(B, bOffset),
      ldb,
      beta,
      this.addressOf(C, cOffset),
      ldc,
    );
  }

  describe(): BackendDescription {
    const { vendor, version, path, instructionSet, getThreads } = this.library;
    return {
      vendor,
      version,
      library: path,
      instructionSet,
      threads: getThreads ? Number(getThreads()) : 1,
      precision: 'f32',
    };
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    // unloading a BLAS whose threads still run crashes: the library stays until the process ends
  }

  /** Address of an element; the caller's reference keeps the array alive during the call. */
  private addressOf(array: FloatArray, offset: number): bigint {
    let base = this.addresses.get(array.buffer);
    if (base === undefined) {
      // asking for .buffer has moved a small array off V8's heap, where it could have been moved
      base = koffi.address(new Uint8Array(array.buffer)) as bigint;
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
    throw new GemmoeError('usage', `cblas has no option "${unknown}"`, `options of cblas: ${KEYS.join(', ')}`);
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
    'threads=N: threads of the library; default: one for each core',
  ],
  unavailable() {
    if (candidateLibraries().length > 0) return undefined;
    return `no CBLAS library was found: ${installHint()}`;
  },
  create(options) {
    const { library, threads } = parseCblasOptions(options);
    return new CblasBackend(findCblas(library), threads ?? availableParallelism());
  },
};
