// The native addon: its type, and why it could not be loaded. Nothing else knows the file.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Kernels } from '../../core/kernels.ts';
import { messageOf } from '../../core/errors.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { addonOfEnvironment } from './machine.ts';

/** Kernels whose native form takes the same arguments as the contract. */
export type SameKernels = Pick<
  Kernels,
  | 'linear'
  | 'linearBackward'
  | 'groupedLinear'
  | 'groupedLinearBackward'
  | 'embedding'
  | 'embeddingBackward'
  | 'add'
  | 'rmsNorm'
  | 'rmsNormBackward'
  | 'rope'
  | 'softmax'
  | 'swiglu'
  | 'swigluBackward'
  | 'gather'
  | 'gatherBackward'
  | 'combine'
  | 'combineBackward'
  | 'crossEntropy'
  | 'sumOfSquares'
  | 'adamw'
  | 'sgd'
  | 'lion'
  | 'adam'
  | 'scheduleFree'
  | 'roundToBf16'
  | 'roundToF16'
  | 'zLoss'
  | 'linearBf16'
  | 'scale'
  | 'clamp'
  | 'clampBackward'
  | 'layerNorm'
  | 'layerNormBackward'
  | 'ropeInterleaved'
  | 'embeddingBf16'
  | 'muonMomentum'
  | 'muonUpdate'
  | 'toBf16'
  | 'fromBf16'
  | 'toF16'
  | 'fromF16'
>;

/** The numbers of an AttentionShape, then its first keys. */
type AttentionFields = readonly [...numbers: number[], firstKeys: Int32Array | null];

/** A backend of the addon; records of the contract are passed as their fields. */
export interface NativeBackend extends SameKernels {
  /** `packed` is what `pack` made of B, in the precision of now. */
  gemm(...arguments_: [...Parameters<Kernels['gemm']>, packed?: Float32Array]): void;
  /** Elements that `pack` fills; 0 where products read B itself. */
  packedLength(n: number, k: number): number;
  /** 0 where the precision has no form for a value of B. */
  pack(
    packed: Float32Array,
    transB: boolean,
    n: number,
    k: number,
    B: Float32Array,
    bOffset: number,
    ldb: number,
  ): number;
  /** A number for `letGo`; 0 where nothing is held. */
  hold(w: FloatArray, groups: number, n: number, k: number): number;
  letGo(id: number): void;
  attention(
    out: FloatArray,
    logSumExp: FloatArray | null,
    q: FloatArray,
    qOffset: number,
    k: FloatArray,
    kOffset: number,
    v: FloatArray,
    vOffset: number,
    starts: Int32Array,
    ...shape: AttentionFields
  ): void;
  attentionBackward(
    dq: FloatArray,
    dk: FloatArray,
    dv: FloatArray,
    dOut: FloatArray,
    out: FloatArray,
    logSumExp: FloatArray,
    q: FloatArray,
    qOffset: number,
    k: FloatArray,
    kOffset: number,
    v: FloatArray,
    vOffset: number,
    ...shape: AttentionFields
  ): void;
  router(
    probabilities: FloatArray,
    weights: FloatArray,
    experts: Int32Array,
    logits: FloatArray,
    N: number,
    E: number,
    K: number,
    renormalise: boolean,
    smallestSum: number,
  ): void;
  routerBackward(
    dLogits: FloatArray,
    dWeights: FloatArray,
    dProbabilities: FloatArray | null,
    probabilities: FloatArray,
    weights: FloatArray,
    experts: Int32Array,
    N: number,
    E: number,
    K: number,
    renormalise: boolean,
    smallestSum: number,
  ): void;
  chooseExperts(
    weights: FloatArray,
    experts: Int32Array,
    probabilities: FloatArray,
    bias: FloatArray,
    N: number,
    E: number,
    K: number,
    renormalise: boolean,
    smallestSum: number,
  ): void;
  sparseMixer(
    probabilities: FloatArray,
    weights: FloatArray,
    experts: Int32Array,
    logits: FloatArray,
    N: number,
    E: number,
    jitter: number,
  ): void;
  sparseMixerBackward(
    dLogits: FloatArray,
    dWeights: FloatArray,
    dProbabilities: FloatArray | null,
    probabilities: FloatArray,
    logits: FloatArray,
    experts: Int32Array,
    N: number,
    E: number,
    jitter: number,
  ): void;
  adafactor(
    p: FloatArray,
    g: FloatArray,
    row: FloatArray,
    rowOffset: number,
    column: FloatArray | null,
    ...rest: (number | boolean)[]
  ): void;
  dispatch(
    experts: Int32Array,
    offsets: Int32Array,
    rows: Int32Array,
    slots: Int32Array,
    N: number,
    E: number,
    K: number,
  ): void;
  newtonSchulz(
    x: FloatArray,
    offsets: Float64Array,
    rows: number,
    columns: number,
    coefficients: Float64Array,
    rounded: boolean,
  ): void;
  muonNormalise(
    x: FloatArray,
    offsets: Float64Array,
    rows: number,
    columns: number,
    v: FloatArray,
    beta2: number,
  ): void;
  experts(...arguments_: (FloatArray | Int32Array | number)[]): void;
  expertsBf16(...arguments_: (FloatArray | Uint16Array | Int32Array | number)[]): void;
  expertsBackward(...arguments_: (FloatArray | Int32Array | number)[]): void;
  fillNormal(
    out: FloatArray,
    mean: number,
    deviation: number,
    keyLow: number,
    keyHigh: number,
    stream: number,
    step: number,
    start: number,
  ): void;
  /** y = e^x, to within 2 ulp. */
  exponential(y: Float32Array, x: Float32Array): void;
  /** Precision of the products from here on, as its number among PRECISIONS. */
  setPrecision(precision: number): void;
  close(): void;
  /** Bytes of scratch memory held. */
  bytes(): number;
  readonly isa: string;
  /** Bit set of 1 << index in PRECISIONS: those with instructions of their own. */
  readonly nativePrecisions: number;
  readonly blas: { readonly vendor: string; readonly version: string; readonly path: string } | null;
  /** What was wrong with each library that was tried. */
  readonly tried: readonly string[];
}

/** The addon's exports. */
export interface Addon {
  create(
    isa: string,
    threads: number,
    precision: number,
    libraries: readonly string[],
    blasFrom: number,
  ): NativeBackend;
  /** Instruction sets that were compiled in, and those that run here; best first. */
  levels(): { readonly compiled: readonly string[]; readonly usable: readonly string[] };
}

/** Beside this file once it is compiled; the sources, which tests run, share the compiled tree's. */
const FOLDER = new URL(import.meta.url.endsWith('.ts') ? '../../dist/backends/accelerate/' : './', import.meta.url);

/** Where the build puts the addon, and what it says of itself. */
export const BUILT_FILE = fileURLToPath(new URL('gemmoe.node', FOLDER));
export const BUILD_RECORD = fileURLToPath(new URL('gemmoe.build.json', FOLDER));

/** The addon that is loaded: GEMMOE_ADDON's, or the built one. */
export const ADDON_FILE = addonOfEnvironment() ?? BUILT_FILE;

/** What the last build did. */
export interface BuildRecord {
  /** Hash of everything that went into it. */
  readonly inputs: string;
  /** Why there is no addon; null where it was built. */
  readonly problem: string | null;
  readonly compiler: string | null;
  readonly levels: readonly string[];
}

/** Null where nothing was built yet. */
export function readBuildRecord(): BuildRecord | null {
  try {
    return JSON.parse(readFileSync(BUILD_RECORD, 'utf8')) as BuildRecord;
  } catch {
    return null;
  }
}

let loaded: Addon | undefined;

/** Loads the addon. @throws Error where there is none, or not one for this machine */
export function loadAddon(): Addon {
  loaded ??= createRequire(import.meta.url)(ADDON_FILE) as Addon;
  return loaded;
}

/** Why the addon cannot be used, or undefined where it can. */
export function addonUnavailable(): string | undefined {
  if (loaded) return undefined;
  if (!existsSync(ADDON_FILE)) {
    return readBuildRecord()?.problem ?? 'it was not built: run `npm run build`';
  }
  try {
    loadAddon();
    return undefined;
  } catch (error) {
    return `${ADDON_FILE} cannot be loaded: ${messageOf(error)}; build it anew with \`npm run build\``;
  }
}
