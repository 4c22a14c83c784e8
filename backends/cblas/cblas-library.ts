// One CBLAS library, bound through koffi: its two products, and what it says of itself.

import koffi from 'koffi';
import { GemmoeError, messageOf } from '../../core/errors.ts';

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
  /** Null where the library cannot be told. */
  readonly setThreads: ((count: number) => void) | null;
  readonly getThreads: (() => number) | null;
  unload(): void;
}

type Loaded = ReturnType<typeof koffi.load>;

const GEMM_PARAMETERS = (real: string) =>
  `(int order, int transA, int transB, int m, int n, int k, ${real} alpha, void *A, int lda, void *B, int ldb, ${real} beta, void *C, int ldc)`;

/** Loads a library. @throws GemmoeError saying why it is none, or cannot be loaded */
export function loadCblas(path: string): CblasLibrary {
  let library: Loaded;
  try {
    library = koffi.load(path);
  } catch (error) {
    throw new GemmoeError(
      'unavailable',
      `${path} cannot be loaded: ${messageOf(error)}`,
      'name a CBLAS shared library',
    );
  }
  const sgemm = symbol(library, `void cblas_sgemm${GEMM_PARAMETERS('float')}`);
  const dgemm = symbol(library, `void cblas_dgemm${GEMM_PARAMETERS('double')}`);
  if (!sgemm || !dgemm) {
    library.unload();
    throw new GemmoeError('unavailable', `${path} has no cblas_sgemm and cblas_dgemm`, wrongLibraryHint(path));
  }
  return {
    path,
    ...describeVendor(library, path),
    sgemm: sgemm as Gemm,
    dgemm: dgemm as Gemm,
    unload: () => library.unload(),
  };
}

function wrongLibraryHint(path: string): string {
  if (/64[_.]?|ilp64/i.test(path.split('/').at(-1) ?? ''))
    return 'a build with 64-bit integers cannot be used: name the 32-bit one';
  return 'it is a BLAS without the C interface, or none at all: name a library such as libopenblas.so.0';
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
