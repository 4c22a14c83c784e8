// Where CBLAS libraries stand on the systems we know.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';

/** What an option may call a vendor, and the file names its library goes by, best first. */
const VENDOR_FILES: Readonly<Record<string, Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>>>> = {
  openblas: {
    linux: ['libopenblas.so.0', 'libopenblasp.so.0', 'libopenblas.so.3', 'libopenblas.so'],
    darwin: ['libopenblas.0.dylib', 'libopenblas.dylib'],
    win32: ['libopenblas.dll', 'openblas.dll'],
  },
  mkl: {
    linux: ['libmkl_rt.so.2', 'libmkl_rt.so.1', 'libmkl_rt.so'],
    darwin: ['libmkl_rt.2.dylib', 'libmkl_rt.dylib'],
    win32: ['mkl_rt.2.dll', 'mkl_rt.dll'],
  },
  blis: {
    linux: ['libblis.so.4', 'libblis.so.3', 'libblis.so'],
    darwin: ['libblis.4.dylib', 'libblis.dylib'],
    win32: ['libblis.dll'],
  },
  accelerate: { darwin: [] },
  // the reference library and whatever the system's alternatives put in its place; not every one has the C interface
  cblas: {
    linux: ['libcblas.so.3', 'libcblas.so', 'libblas.so.3', 'libblas.so'],
    darwin: [],
    win32: ['libcblas.dll'],
  },
};

/** Apple's framework is in a shared cache: its path is no file, yet it loads. */
const ACCELERATE = '/System/Library/Frameworks/Accelerate.framework/Accelerate';

/** Vendors that an option may name. */
export const VENDORS = Object.keys(VENDOR_FILES);

/** Paths that exist of a vendor's library, or of every vendor's when none is named; best first. */
export function candidateLibraries(vendor?: string): string[] {
  const { platform, env } = process;
  const folders = searchFolders(platform, env);
  const vendors = vendor === undefined ? VENDORS : [vendor];
  const found = vendors.flatMap((name) =>
    (VENDOR_FILES[name]?.[platform] ?? []).flatMap((file) =>
      folders.map((folder) => join(folder, file)).filter((path) => existsSync(path)),
    ),
  );
  if (platform !== 'darwin' || (vendor !== undefined && vendor !== 'accelerate')) return found;
  return [ACCELERATE, ...found];
}

/** Vendors whose libraries always have the C interface. */
const COMPLETE = ['openblas', 'mkl', 'accelerate'].flatMap((vendor) => Object.values(VENDOR_FILES[vendor]).flat());

/** Whether a library may have the C interface, by its name or by its text: nothing is loaded. */
export function mayHaveCblas(path: string): boolean {
  if (path === ACCELERATE || COMPLETE.includes(basename(path))) return true;
  try {
    return readFileSync(path).includes('cblas_sgemm\0');
  } catch {
    return false; // a folder, or not ours to read
  }
}

/** How to get a library here. */
export function installHint(): string {
  const { platform } = process;
  if (platform === 'darwin')
    return 'install one with `brew install openblas`, or name one: cblas:/path/to/libblas.dylib';
  if (platform === 'win32') return 'put an OpenBLAS DLL on the PATH, or name one: cblas:C:\\path\\to\\libopenblas.dll';
  return 'install one, on Debian and Ubuntu with `apt-get install libopenblas0-pthread`, or name one: cblas:/path/to/lib.so';
}

/** Debian's names of machines. */
const TRIPLES: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** Folders that Debian keeps a library in while it is not the chosen one. */
const DEBIAN_ALTERNATIVES = [
  'openblas-pthread',
  'openblas-openmp',
  'openblas-serial',
  'blis-pthread',
  'blis-openmp',
  'blas',
];

function searchFolders(platform: NodeJS.Platform, env: NodeJS.ProcessEnv): string[] {
  if (platform === 'win32') return (env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  if (platform === 'darwin') {
    return ['/opt/homebrew/opt/openblas/lib', '/usr/local/opt/openblas/lib', '/opt/homebrew/lib', '/usr/local/lib'];
  }
  const named = (env['LD_LIBRARY_PATH'] ?? '').split(':').filter((folder) => folder !== '');
  const triple = TRIPLES[process.arch] ?? '';
  const multiarch = [`/usr/lib/${triple}`, ...subfolders(`/usr/lib/${triple}`, DEBIAN_ALTERNATIVES)];
  const conda = env['CONDA_PREFIX'] ? [join(env['CONDA_PREFIX'], 'lib')] : [];
  const intel = ['/opt/intel/oneapi/mkl/latest/lib', '/opt/intel/oneapi/mkl/latest/lib/intel64'];
  return [
    ...named,
    ...conda,
    ...multiarch,
    '/usr/lib64',
    '/usr/lib',
    '/usr/local/lib',
    '/usr/local/lib64',
    ...intel,
  ].filter(existsSync);
}

function subfolders(parent: string, names: readonly string[]): string[] {
  if (!existsSync(parent)) return [];
  const there = new Set(readdirSync(parent));
  return names.filter((name) => there.has(name)).map((name) => join(parent, name));
}
