// Who updates what in Muon, worked out once: runs for the elementwise passes, batches of equal matrices for the products.

import type { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import type { MatrixBatch } from '../../core/kernels.ts';
import { type Matrices, matricesOf } from '../../core/model/matrices.ts';
import type { Parameter, ParameterStore } from '../../core/model/parameters.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import {
  extentOf,
  type GroupSettings,
  type ParameterRun,
  parameterSettings,
  runsOf,
} from '../../core/training/parameter-groups.ts';

/** What a group may set. */
const GROUP_KEYS = ['by', 'momentum', 'adamBeta1', 'adamBeta2'] as const;

/** The options that planning reads. */
interface PlannedOptions {
  readonly by?: 'muon' | 'adamw' | undefined;
  readonly momentum: number;
  readonly adamBeta1: number;
  readonly adamBeta2: number;
  readonly scale: 'original' | 'match-rms';
  readonly every: number;
  readonly weightDecay: number;
  readonly decay: 'matrices' | 'all';
  readonly groups: Parameters<typeof parameterSettings>[1]['groups'];
}

type MuonSettings = GroupSettings & Pick<PlannedOptions, (typeof GROUP_KEYS)[number]>;

/** Matrices whose step has one size. */
export type UpdateRun = ParameterRun<MuonSettings> & { readonly size: number };

/** What is orthogonalised in one step of `every`. */
export interface MuonPhase {
  /** All its matrices of a shape, whatever their parameter. */
  readonly batches: readonly MatrixBatch[];
  readonly updateRuns: readonly UpdateRun[];
  /** Matrices that other phases update. */
  readonly waiting: readonly ParameterRun<MuonSettings>[];
}

export interface MuonPlan {
  /** Neighbours with one momentum. */
  readonly momentumRuns: readonly ParameterRun<MuonSettings>[];
  /** They take turns: of each shape, the first has the first run of matrices, and so on. */
  readonly phases: readonly MuonPhase[];
  readonly adamRuns: readonly ParameterRun<MuonSettings>[];
  /** Elements of all adamRuns. */
  readonly adamCount: number;
}

/** @throws GemmoeError for groups that cannot be, or that give muon what is no matrix */
export function planMuon(
  owner: { readonly name: string; readonly options: z.ZodObject },
  options: PlannedOptions,
  store: ParameterStore,
): MuonPlan {
  const settings = parameterSettings(owner, options, GROUP_KEYS, store);
  const pieces = store.parameters.map((parameter, i) => ({
    ...{ ...extentOf(parameter), settings: settings[i], matrices: matricesOf(parameter) },
    isMuon: (settings[i].by ?? defaultBy(parameter)) === 'muon',
  }));
  pieces.forEach(({ isMuon, matrices }, i) => {
    if (isMuon && matrices.length === 0) throw notMatrix(store.parameters[i]);
  });
  const muon = pieces.filter(({ isMuon }) => isMuon);
  const adamRuns = runsOf(pieces.filter(({ isMuon }) => !isMuon));
  return {
    momentumRuns: runsOf(muon),
    phases: phasesOf(muon, options),
    adamRuns,
    adamCount: adamRuns.reduce((sum, { count }) => sum + count, 0),
  };
}

/** Views of each run into the flat arrays, `v` holding the runs one behind the other. */
export function viewsOf(
  runs: readonly ParameterRun<MuonSettings>[],
  store: ParameterStore,
  m: FloatArray,
  v: FloatArray,
) {
  let next = 0;
  return runs.map(({ offset, count, settings }) => {
    const second = v.subarray(next, (next += count));
    const at = (array: FloatArray) => array.subarray(offset, offset + count);
    return { data: at(store.data), gradient: at(store.gradient), m: at(m), v: second, settings };
  });
}

/** Muon is for the matrices between embedding and head; a router steers by the size of its rows, so AdamW has it. */
function defaultBy(parameter: Parameter): 'muon' | 'adamw' {
  const isHidden = parameter.role === 'attention' || parameter.role === 'expert';
  const isMatrix = matricesOf(parameter).some(({ rows, columns }) => Math.min(rows, columns) > 1);
  return isHidden && isMatrix ? 'muon' : 'adamw';
}

/** The factor on an orthogonal matrix that makes it a step. */
function stepSize(scale: PlannedOptions['scale'], rows: number, columns: number): number {
  return scale === 'original' ? Math.sqrt(Math.max(1, rows / columns)) : 0.2 * Math.sqrt(Math.max(rows, columns));
}

/** Shares the matrices out over `every` phases. Runs of one shape go round, so that the phases take about equally long. */
function phasesOf(
  muon: readonly { readonly matrices: readonly Matrices[]; readonly settings: MuonSettings }[],
  { every, scale }: PlannedOptions,
): MuonPhase[] {
  const seen = new Map<string, number>();
  const runs = muon.flatMap(({ matrices, settings }) =>
    matrices.map((matrix) => {
      const { offset, count, rows, columns } = matrix;
      const shape = `${count}x${rows}x${columns}`;
      const rank = seen.get(shape) ?? 0;
      seen.set(shape, rank + 1);
      const update = { offset, count: count * rows * columns, settings, size: stepSize(scale, rows, columns) };
      return { matrix, update, phase: rank % every };
    }),
  );
  return Array.from({ length: every }, (_, phase) => {
    const due = runs.filter((run) => run.phase === phase);
    return {
      batches: batchesOf(due.map(({ matrix }) => matrix)),
      updateRuns: due.map(({ update }) => update),
      waiting: runsOf(runs.filter((run) => run.phase !== phase).map(({ update }) => update)),
    };
  });
}

function batchesOf(matrices: readonly Matrices[]): MatrixBatch[] {
  const shapes = new Map<string, { rows: number; columns: number; offsets: number[] }>();
  for (const { offset, count, rows, columns } of matrices) {
    const key = `${rows}x${columns}`;
    const shape = shapes.get(key) ?? { rows, columns, offsets: [] };
    shapes.set(key, shape);
    for (let i = 0; i < count; i++) shape.offsets.push(offset + i * rows * columns);
  }
  return [...shapes.values()].map((shape) => ({ ...shape, offsets: Float64Array.from(shape.offsets) }));
}

function notMatrix({ name, shape, role }: Parameter): GemmoeError {
  return new GemmoeError(
    'usage',
    `muon: ${name} [${shape.join(', ')}] is a ${role} of one row, which cannot be orthogonalised`,
    'let its group be updated by=adamw',
  );
}
