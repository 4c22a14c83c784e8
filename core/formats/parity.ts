// Logits that another program dumped, and how far ours are from them.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { GemmoeError, messageOf } from '../errors.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { readNpy } from './npy.ts';
import { openSafetensors, type SafetensorsFile } from './safetensors.ts';

/** What a model was given and what it gave. */
export interface LogitsDump {
  /** Rows of ids [B][T]. */
  readonly ids: readonly Int32Array[];
  /** [B,T,V] */
  readonly logits: FloatArray;
  readonly vocabSize: number;
  /** Type that the logits are stored in: they are no more exact than that. */
  readonly type: 'f32' | 'f64' | 'f16' | 'bf16';
}

/** An array with its sizes. */
interface Shaped<T> {
  readonly shape: readonly number[];
  readonly values: T;
}

const TYPES = { F32: 'f32', F64: 'f64', F16: 'f16', BF16: 'bf16' } as const;
const NPY_TYPES: Readonly<Record<string, LogitsDump['type']>> = { f2: 'f16', f4: 'f32', f8: 'f64' };

/**
 * Reads `input_ids` and `logits` from a safetensors file; or logits from a .npy file, with the ids from `idsPath` (.npy or JSON)
 * or from input_ids.npy beside it.
 * @throws GemmoeError naming the file and what is missing or does not fit
 */
export function readDump(path: string, idsPath?: string): LogitsDump {
  return path.endsWith('.npy') ? readNpyDump(path, idsPath) : readSafetensorsDump(path, idsPath);
}

function readSafetensorsDump(path: string, idsPath: string | undefined): LogitsDump {
  const file = openSafetensors(path);
  try {
    const found = file.tensors.get('logits');
    const type = found && Object.hasOwn(TYPES, found.dtype) ? TYPES[found.dtype as keyof typeof TYPES] : undefined;
    if (!found || !type) {
      const names = [...file.tensors.keys()].join(', ');
      throw new GemmoeError(
        'bad-data',
        `${path} holds no floating-point tensor logits, only: ${names}`,
        'save input_ids and logits: the README shows how',
      );
    }
    const count = found.shape.reduce((product, size) => product * size, 1);
    const values = type === 'f64' ? new Float64Array(count) : new Float32Array(count);
    file.read('logits', values);
    const ids = idsPath === undefined ? idsOf(file) : readIds(idsPath);
    return assemble(path, ids, { shape: found.shape, values }, type);
  } finally {
    file.close();
  }
}

function idsOf(file: SafetensorsFile): Shaped<Int32Array> {
  const found = file.tensors.get('input_ids');
  if (found?.dtype === 'I64' || found?.dtype === 'I32') {
    const { buffer } = file.readRaw('input_ids');
    const wide = found.dtype === 'I64';
    const values = wide ? Int32Array.from(new BigInt64Array(buffer as ArrayBuffer), Number) : new Int32Array(buffer);
    return { shape: found.shape, values };
  }
  throw new GemmoeError(
    'bad-data',
    `${file.path} holds ${found ? `input_ids of type ${found.dtype}` : 'no tensor input_ids'}`,
    'save the ids that were given to the model as int64 or int32: the README shows how',
  );
}

function readNpyDump(path: string, idsPath: string | undefined): LogitsDump {
  const array = readNpy(path);
  const type = NPY_TYPES[array.type];
  if (array.values instanceof Int32Array || !type) {
    throw new GemmoeError('bad-data', `${path} holds whole numbers, not logits`, 'save floats');
  }
  const beside = join(dirname(path), 'input_ids.npy');
  if (idsPath === undefined && !existsSync(beside)) {
    throw new GemmoeError(
      'not-found',
      `the ids that ${path} belongs to are not named, and there is no ${beside}`,
      'name them: --ids-file FILE',
    );
  }
  return assemble(path, readIds(idsPath ?? beside), { shape: array.shape, values: array.values }, type);
}

function readIds(path: string): Shaped<Int32Array> {
  if (path.endsWith('.npy')) {
    const { shape, values } = readNpy(path);
    if (values instanceof Int32Array) return { shape, values };
    throw new GemmoeError('bad-data', `${path} holds floats, not ids`, 'save whole numbers');
  }
  const rows = readIdRows(path);
  return { shape: [rows.length, rows[0].length], values: Int32Array.from(rows.flat()) };
}

/** Rows of equally many ids from a JSON file. @throws GemmoeError naming the file and the row */
export function readIdRows(path: string): number[][] {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new GemmoeError('bad-data', `${path} cannot be read as JSON: ${messageOf(error)}`, 'write [[1, 2, 3], …]');
  }
  if (!Array.isArray(value) || value.length === 0) {
    throw new GemmoeError('bad-data', `${path} holds no rows of ids`, 'write a JSON array of rows: [[1, 2, 3], …]');
  }
  for (const [i, row] of value.entries()) {
    if (!Array.isArray(row) || row.length === 0 || !row.every((id) => Number.isInteger(id))) {
      throw new GemmoeError(
        'bad-data',
        `${path}: row ${i} is ${JSON.stringify(row)?.slice(0, 60)}`,
        'write whole numbers: [1, 2, 3]',
      );
    }
    if (row.length !== (value[0] as number[]).length) {
      throw new GemmoeError(
        'bad-data',
        `${path}: row ${i} has ${row.length} ids, row 0 has ${(value[0] as number[]).length}`,
        'rows of one file are equally long',
      );
    }
  }
  return value as number[][];
}

function assemble(
  path: string,
  ids: Shaped<Int32Array>,
  logits: Shaped<FloatArray>,
  type: LogitsDump['type'],
): LogitsDump {
  const vocabSize = logits.shape.at(-1) ?? 0;
  const length = ids.shape.at(-1) ?? 0;
  if (ids.values.length === 0 || logits.values.length !== ids.values.length * vocabSize) {
    throw new GemmoeError(
      'bad-data',
      `${path}: logits [${logits.shape}] are not one row for each of the ids [${ids.shape}]`,
      'save the logits of every position: [rows, length, vocabulary]',
    );
  }
  const rows = Array.from({ length: ids.values.length / length }, (_, b) =>
    ids.values.subarray(b * length, (b + 1) * length),
  );
  return { ids: rows, logits: logits.values, vocabSize, type };
}

/** How far two sets of logits are apart. */
export interface Parity {
  readonly maxAbs: number;
  readonly meanAbs: number;
  /** Share of the positions at which both find the same id likeliest. */
  readonly topOneAgreement: number;
  /** The first position that is further off than the tolerance, or not finite in one of them alone; null if there is none. */
  readonly firstDiffering: {
    readonly row: number;
    readonly position: number;
    readonly id: number;
    readonly ours: number;
    readonly theirs: number;
  } | null;
  readonly tolerance: number;
  readonly passed: boolean;
}

/** Largest difference that passes in float32. */
const F32_TOLERANCE = 2e-5;
/** Shares of the largest logit by which a model that computes in 16 bits may be off. */
const HALF_SHARES = { bf16: 0.03, f16: 0.005 } as const;

/** What is expected of logits of a type: 2e-5 for float32, a share of the largest for 16 bits. */
export function defaultTolerance({ type, logits }: Pick<LogitsDump, 'type' | 'logits'>): number {
  if (type === 'f32' || type === 'f64') return F32_TOLERANCE;
  let largest = 0;
  for (const value of logits) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
  return HALF_SHARES[type] * largest;
}

/** Compares logits with a dump, as they come: `next` gives those of row b, [T,V]. */
export function compareWithDump(
  dump: LogitsDump,
  next: (ids: Int32Array, row: number) => FloatArray,
  tolerance = defaultTolerance(dump),
): Parity {
  const { ids, logits, vocabSize: V } = dump;
  const T = ids[0].length;
  let maxAbs = 0;
  let sum = 0;
  let agreeing = 0;
  let firstDiffering: Parity['firstDiffering'] = null;
  for (const [row, rowIds] of ids.entries()) {
    const ours = next(rowIds, row);
    for (let position = 0; position < T; position++) {
      const a = ours.subarray(position * V, (position + 1) * V);
      const b = logits.subarray((row * T + position) * V, (row * T + position + 1) * V);
      let worst = -1;
      let worstId = 0;
      for (let id = 0; id < V; id++) {
        const difference = distance(a[id], b[id]);
        sum += difference;
        if (difference > worst) [worst, worstId] = [difference, id];
      }
      if (likeliest(a) === likeliest(b)) agreeing++;
      maxAbs = Math.max(maxAbs, worst);
      if (worst > tolerance) firstDiffering ??= { row, position, id: worstId, ours: a[worstId], theirs: b[worstId] };
    }
  }
  return {
    maxAbs,
    meanAbs: sum / logits.length,
    topOneAgreement: agreeing / (ids.length * T),
    firstDiffering,
    tolerance,
    passed: firstDiffering === null,
  };
}

/** Equal infinities and two NaN are no distance apart; one of them alone is infinitely far. */
function distance(a: number, b: number): number {
  if (Object.is(a, b) || a === b) return 0;
  const difference = Math.abs(a - b);
  return Number.isNaN(difference) ? Infinity : difference;
}

function likeliest(values: FloatArray): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
