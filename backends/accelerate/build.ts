// Builds the addon with the C++ compiler of the machine: no node-gyp, no Python, no download. One job for each source and each
// instruction set, as many at a time as there are cores; nothing is done when nothing has changed.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { messageOf } from '../../core/errors.ts';
import { abiVersion, architecture, compilerOfEnvironment, platform } from './machine.ts';
import { BUILT_FILE, BUILD_RECORD, type BuildRecord, readBuildRecord } from './addon.ts';

/** An instruction-set level: how the kernels are compiled for it. */
interface Level {
  readonly name: string;
  readonly flags: readonly string[];
}

const AVX512 = ['-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mfma', '-mf16c'];

/** Levels of each processor family, best first; a compiler that does not know one leaves it out. */
const LEVELS: Readonly<Record<string, readonly Level[]>> = {
  x64: [
    { name: 'amx', flags: [...AVX512, '-mavx512bf16', '-mamx-tile', '-mamx-bf16'] },
    { name: 'avx512bf16', flags: [...AVX512, '-mavx512bf16'] },
    { name: 'avx512', flags: AVX512 },
    { name: 'avx2', flags: ['-mavx2', '-mfma', '-mf16c'] },
    { name: 'baseline', flags: [] },
  ],
  arm64: [{ name: 'neon', flags: [] }],
};

/** AMX's tiles as arrays, on AVX-512: for tests of what is written for tiles on machines without them. */
const EMULATED: Level = { name: 'amxemulated', flags: [...AVX512, '-DGEMMOE_EMULATE_AMX'] };

const COMMON = ['-std=c++17', '-O3', '-fPIC', '-pthread'];
/** Not -ffast-math: NaN and infinities have to come out as IEEE says. */
const KERNEL_FLAGS = ['-fno-math-errno', '-fno-trapping-math', '-fno-exceptions', '-fno-rtti'];

/** Sources that are compiled for every level. Contraction makes a·b + c one operation with one rounding, which most kernels gain by. */
const LEVEL_SOURCES = [
  { name: 'kernels.cc', flags: ['-ffp-contract=fast'] },
  { name: 'normal.cc', flags: ['-ffp-contract=off'] },
  { name: 'schedule-free.cc', flags: ['-ffp-contract=off'] },
];

const SOURCES = ['addon.cc', 'pool.cc', 'blas.cc', 'levels.cc'];

/** What a build is made for; the defaults are this machine's. */
export interface BuildOptions {
  /** Compiler to use in place of the first that is found. */
  readonly compiler?: string;
  /** Flags for every job: sanitizers, a target. */
  readonly flags?: readonly string[];
  readonly arch?: string;
  /** File to write in place of the one that the backend loads; no record is kept of it. */
  readonly output?: string;
  /** Adds the level whose tiles are emulated. */
  readonly emulateTiles?: boolean;
}

export interface BuildResult {
  /** Why nothing could be built, in one sentence with what to do; null where the addon is there. */
  readonly problem: string | null;
  /** Whether it was there already, made from the same sources. */
  readonly fresh: boolean;
  readonly seconds: number;
  readonly levels: readonly string[];
  readonly compiler: string | null;
}

/** Folder of the C++ sources, seen from here or from the compiled file. */
function sourceFolder(): string {
  const here = import.meta.dirname;
  const candidates = [join(here, 'native'), join(here, '..', '..', '..', 'backends', 'accelerate', 'native')];
  const found = candidates.find((folder) => existsSync(join(folder, 'kernels.cc')));
  if (!found) throw new Error(`the C++ sources are not in ${candidates.join(' or ')}`);
  return found;
}

function includeFolders(): string[] {
  const require = createRequire(import.meta.url);
  return [
    dirname(require.resolve('node-addon-api/napi.h')),
    join(dirname(require.resolve('node-api-headers/package.json')), 'include'),
  ];
}

function findCompiler(wanted: string | undefined): string | null {
  const named = wanted ?? compilerOfEnvironment();
  const candidates = named ? [named] : ['c++', 'g++', 'clang++'];
  return candidates.find((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0) ?? null;
}

function installHint(): string {
  if (platform === 'darwin') return 'install one with `xcode-select --install`';
  return 'install one (Debian and Ubuntu: apt-get install g++)';
}

/** Runs a compiler; resolves to what it said where it failed, to null where it did its work. */
function compile(compiler: string, args: readonly string[]): Promise<string | null> {
  return new Promise((resolve) => {
    const child = spawn(compiler, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.on('error', (error) => resolve(messageOf(error)));
    child.on('close', (code) => resolve(code === 0 ? null : said.trim() || `exit code ${code}`));
  });
}

/** Runs jobs, at most `limit` at a time; results in the order of the jobs. */
async function inParallel<T>(jobs: readonly (() => Promise<T>)[], limit: number): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < jobs.length) {
      const index = next++;
      results[index] = await jobs[index]();
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, jobs.length) }, work));
  return results;
}

/** Hash of the sources and of everything that says how they are compiled. */
function inputsHash(folder: string, description: unknown): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).sort()) hash.update(name).update(readFileSync(join(folder, name)));
  return hash.update(JSON.stringify(description)).digest('hex');
}

/** Levels that the compiler knows, by trying each on an empty source. */
async function knownLevels(compiler: string, levels: readonly Level[], flags: readonly string[]): Promise<Level[]> {
  const problems = await inParallel(
    levels.map(
      (level) => () => compile(compiler, [...flags, ...level.flags, '-x', 'c++', '-c', '-o', '/dev/null', '/dev/null']),
    ),
    availableParallelism(),
  );
  return levels.filter((_, i) => problems[i] === null);
}

/** Compiles and links in `folder`; returns what went wrong, or null. */
async function buildIn(
  folder: string,
  output: string,
  compiler: string,
  levels: readonly Level[],
  options: BuildOptions,
): Promise<string | null> {
  const sources = sourceFolder();
  const common = [...COMMON, ...(options.flags ?? [])];
  const object = (name: string) => join(folder, `${name}.o`);
  const named = levels.map(({ name }) => `X(${name})`).join(' ');
  const parts = levels.flatMap((level) =>
    LEVEL_SOURCES.map((source) => ({ level, source, name: `${level.name}-${source.name}` })),
  );
  const kernelJobs = parts.map(
    ({ level, source, name }) =>
      () =>
        compile(compiler, [
          ...[...common, ...KERNEL_FLAGS, ...source.flags, ...level.flags, `-DLEVEL=${level.name}`],
          ...['-c', join(sources, source.name), '-o', object(name)],
        ]),
  );
  const includes = includeFolders().map((path) => `-I${path}`);
  const defines = ['-DNAPI_VERSION=8', '-DNAPI_DISABLE_CPP_EXCEPTIONS', `-DGEMMOE_LEVELS=${named}`];
  const otherJobs = SOURCES.map(
    (name) => () =>
      compile(compiler, [...common, ...includes, ...defines, '-c', join(sources, name), '-o', object(name)]),
  );
  const problems = await inParallel([...kernelJobs, ...otherJobs], availableParallelism());
  const problem = problems.find((said) => said !== null);
  if (problem) return problem;
  const linkFlags =
    platform === 'darwin'
      ? ['-bundle', '-undefined', 'dynamic_lookup', '-framework', 'Accelerate']
      : ['-shared', '-ldl'];
  const objects = [...parts.map(({ name }) => name), ...SOURCES].map(object);
  const temporary = join(folder, 'gemmoe.node');
  const failed = await compile(compiler, [...common, ...objects, ...linkFlags, '-o', temporary]);
  if (failed !== null) return failed;
  mkdirSync(dirname(output), { recursive: true });
  const beside = `${output}.new`; // another file system may hold the temporary folder; a rename within one is atomic
  writeFileSync(beside, readFileSync(temporary));
  renameSync(beside, output);
  return null;
}

/** Builds the addon unless it is there already. Never throws: what is missing is told in the result. */
export async function buildAddon(options: BuildOptions = {}): Promise<BuildResult> {
  const start = performance.now();
  const done = (
    problem: string | null,
    compiler: string | null,
    levels: readonly string[],
    fresh = false,
  ): BuildResult => {
    return { problem, fresh, levels, compiler, seconds: (performance.now() - start) / 1000 };
  };
  const record = (made: BuildRecord): void => {
    if (options.output === undefined) writeFileSync(BUILD_RECORD, JSON.stringify(made));
  };
  const refuse = (problem: string, compiler: string | null, inputs = ''): BuildResult => {
    if (options.output === undefined) rmSync(BUILT_FILE, { force: true });
    record({ inputs, problem, compiler, levels: [] });
    return done(problem, compiler, []);
  };
  const arch = options.arch ?? architecture;
  const levels = [...(LEVELS[arch] ?? []), ...(options.emulateTiles ? [EMULATED] : [])];
  if (platform === 'win32' || levels.length === 0) {
    return refuse(`the addon is not made for ${platform} on ${arch}: use cblas or reference`, null);
  }
  const compiler = findCompiler(options.compiler);
  if (compiler === null) return refuse(`no C++ compiler was found: ${installHint()}, then run \`npm run build\``, null);
  try {
    const version = spawnSync(compiler, ['--version'], { encoding: 'utf8' }).stdout;
    const inputs = inputsHash(sourceFolder(), [
      version,
      arch,
      abiVersion,
      levels,
      COMMON,
      KERNEL_FLAGS,
      LEVEL_SOURCES,
      options,
    ]);
    const last = readBuildRecord();
    if (options.output === undefined && last?.inputs === inputs && last.problem === null && existsSync(BUILT_FILE)) {
      return done(null, compiler, last.levels, true);
    }
    const folder = mkdtempSync(join(dirname(BUILD_RECORD), 'building-'));
    try {
      const known = await knownLevels(compiler, levels, options.flags ?? []);
      const names = known.map(({ name }) => name);
      const said = await buildIn(folder, options.output ?? BUILT_FILE, compiler, known, options);
      if (said !== null) return refuse(`${compiler} could not compile it: ${firstError(said)}`, compiler, inputs);
      record({ inputs, problem: null, compiler, levels: names });
      return done(null, compiler, names);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  } catch (error) {
    return refuse(messageOf(error), compiler);
  }
}

/** The line of a compiler's output that says what is wrong. */
function firstError(said: string): string {
  const lines = said.split('\n');
  return (lines.find((line) => /error/i.test(line)) ?? lines[0] ?? '').trim();
}
