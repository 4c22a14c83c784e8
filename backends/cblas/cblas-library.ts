// One CBLAS library, bound through koffi: its two products, and what it says of itself.

import { GemmoeError, messageOf } from '../../core/errors.ts';
import { type Koffi, loadKoffi } from './load-koffi.ts';

/** A pointer as koffi takes it: an address, or the array itself. */
export type Pointer = bigint | ArrayBufferView;

/** cblas_sgemm or cblas_dgemm. */
export type Gemm = (
  order: number,
  transA: number,
  transB: number,
  m: number,
  n: number,
  k: number,
  alpha: number,
  A: Pointer,
  lda: number,
  B: Pointer,
  ldb: number,
  beta: number,
  C: Pointer,
  ldc: number,
) => void;

/** cblas_sgemv or cblas_dgemv: y = alpha·op(A)·x + beta·y with a stored A [m,n]. */
export type Gemv = (
  order: number,
  transA: number,
  m: number,
  n: number,
  alpha: number,
  A: Pointer,
  lda: number,
  x: Pointer,
  incx: number,
  beta: number,
  y: Pointer,
  incy: number,
) => void;

/** CBLAS's constants. */
export const ROW_MAJOR = 101;
export const NO_TRANSPOSE = 111;
export const TRANSPOSE = 112;

/** A loaded library. */
export interface CblasLibrary {
  readonly path: string;
  readonly vendor: string;
  readonly version: string;
  /** Kernel set that the library chose for this CPU; `unknown` where it does not say. */
  readonly instructionSet: string;
  readonly sgemm: Gemm;
  readonly dgemm: Gemm;
  readonly sgemv: Gemv;
  readonly dgemv: Gemv;
  /** Address of the first byte of a buffer. */
  readonly addressOf: (buffer: ArrayBufferLike) => bigint;
  /** Null where the library cannot be told. */
  readonly setThreads: ((count: number) => void) | null;
  readonly getThreads: (() => number) | null;
}

type Loaded = ReturnType<Koffi['load']>;

const GEMM_PARAMETERS = (real: string) =>
  `(int order, int transA, int transB, int m, int n, int k, ${real} alpha, void *A, int lda, void *B, int ldb, ${real} beta, void *C, int ldc)`;

const GEMV_PARAMETERS = (real: string) =>
  `(int order, int transA, int m, int n, ${real} alpha, void *A, int lda, void *x, int incx, ${real} beta, void *y, int incy)`;

/** Loads a library. @throws GemmoeError saying why it is none, or cannot be used */
export function loadCblas(path: string): CblasLibrary {
  const koffi = loadKoffi();
  const library = openLibrary(koffi, path);
  const sgemm = symbol(library, `void cblas_sgemm${GEMM_PARAMETERS('float')}`);
  const dgemm = symbol(library, `void cblas_dgemm${GEMM_PARAMETERS('double')}`);
  const sgemv = symbol(library, `void cblas_sgemv${GEMV_PARAMETERS('float')}`);
  const dgemv = symbol(library, `void cblas_dgemv${GEMV_PARAMETERS('double')}`);
  if (!sgemm || !dgemm || !sgemv || !dgemv) throw noCblas(library, path);
  // MKL takes either width and decides at the first call
  symbol(library, 'int MKL_Set_Interface_Layer(int layer)')?.(MKL_LP64 as never);
  if (takesLongIntegers(koffi, library)) throw longIntegers(path);
  return {
    path,
    ...describeVendor(library, path),
    ...{ sgemm: sgemm as Gemm, dgemm: dgemm as Gemm, sgemv: sgemv as Gemv, dgemv: dgemv as Gemv },
    addressOf: (buffer) => koffi.address(new Uint8Array(buffer)) as bigint,
  };
}

function openLibrary(koffi: Koffi, path: string): Loaded {
  try {
    return koffi.load(path);
  } catch (error) {
    throw new GemmoeError(
      'unavailable',
      `${path} cannot be loaded: ${messageOf(error)}`,
      'name a CBLAS shared library',
    );
  }
}

const MKL_LP64 = 0;

function noCblas(library: Loaded, path: string): GemmoeError {
  const suffixed = ['cblas_sgemm64_', 'cblas_sgemm_64'].some((name) => symbol(library, `void ${name}()`) !== null);
  library.unload();
  if (suffixed) return longIntegers(path);
  return new GemmoeError(
    'unavailable',
    `${path} has no cblas_sgemm and cblas_dgemm`,
    'it is a BLAS without the C interface, or none at all: name a library such as libopenblas.so.0',
  );
}

function longIntegers(path: string): GemmoeError {
  return new GemmoeError(
    'unavailable',
    `${path} takes 64-bit integers (ILP64)`,
    'name the build with 32-bit integers, such as libopenblas.so.0',
  );
}

/**
 * Whether integers are 64 bits wide (ILP64), which names of files and symbols need not tell: a count whose low half is 3 and
 * whose whole is negative is 3 to one build, and nothing to do for the other. As libblastrampoline asks.
 */
function takesLongIntegers(koffi: Koffi, library: Loaded): boolean {
  const largest = symbol(library, 'int cblas_isamax(int64_t n, void *x, int64_t incx)') as
    ((n: bigint, x: Float32Array, incx: number) => number) | null;
  if (!largest || koffi.sizeof('void *') !== 8) return false;
  return largest(-(2n ** 32n) + 3n, Float32Array.of(1, 2, 3), 1) !== 2;
}

function symbol(library: Loaded, prototype: string): ((...args: never[]) => unknown) | null {
  try {
    return library.func(prototype) as (...args: never[]) => unknown;
  } catch {
    return null;
  }
}

type Description = Pick<CblasLibrary, 'vendor' | 'version' | 'instructionSet' | 'setThreads' | 'getThreads'>;

/** Which library it is, by the functions that only it has. */
function describeVendor(library: Loaded, path: string): Description {
  return (
    describeOpenBlas(library) ??
    describeMkl(library) ??
    describeBlis(library) ?? {
      vendor: path.includes('Accelerate') ? 'Apple Accelerate' : 'unknown',
      version: 'unknown',
      instructionSet: 'unknown',
      setThreads: null,
      getThreads: null,
    }
  );
}

function describeOpenBlas(library: Loaded): Description | undefined {
  const config = symbol(library, 'const char *openblas_get_config()') as (() => string) | null;
  if (!config) return undefined;
  const core = symbol(library, 'const char *openblas_get_corename()') as (() => string) | null;
  return {
    vendor: 'OpenBLAS',
    version: /OpenBLAS\s+([\d.]+)/.exec(config())?.[1] ?? 'unknown',
    instructionSet: core?.() ?? 'unknown',
    setThreads: symbol(library, 'void openblas_set_num_threads(int count)') as Description['setThreads'],
    getThreads: symbol(library, 'int openblas_get_num_threads()') as Description['getThreads'],
  };
}

function describeMkl(library: Loaded): Description | undefined {
  const version = symbol(library, 'void MKL_Get_Version_String(void *buffer, int length)');
  if (!version) return undefined;
  const buffer = Buffer.alloc(256);
  (version as (buffer: Buffer, length: number) => void)(buffer, buffer.length);
  const text = buffer.toString('latin1').replace(/[\0\s]+$/, '');
  return {
    vendor: 'Intel MKL',
    version: /Version\s+([\d.]+)/.exec(text)?.[1] ?? text,
    instructionSet: /for\s+(.*)\s+applications/.exec(text)?.[1] ?? 'unknown',
    setThreads: symbol(library, 'void MKL_Set_Num_Threads(int count)') as Description['setThreads'],
    getThreads: symbol(library, 'int MKL_Get_Max_Threads()') as Description['getThreads'],
  };
}

function describeBlis(library: Loaded): Description | undefined {
  const version = symbol(library, 'const char *bli_info_get_version_str()') as (() => string) | null;
  if (!version) return undefined;
  const arch = symbol(library, 'int bli_arch_query_id()') as (() => number) | null;
  const archName = symbol(library, 'const char *bli_arch_string(int id)') as ((id: number) => string) | null;
  return {
    vendor: 'BLIS',
    version: version(),
    instructionSet: arch && archName ? archName(arch()) : 'unknown',
    setThreads: symbol(library, 'void bli_thread_set_num_threads(int64_t count)') as Description['setThreads'],
    getThreads: symbol(library, 'int64_t bli_thread_get_num_threads()') as Description['getThreads'],
  };
}
