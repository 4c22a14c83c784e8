// Muon (Jordan et al. 2024): hidden matrices step in the direction of their orthogonalised momentum, everything else by AdamW.

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import { newtonSchulzScratch } from '../../core/kernels.ts';
import { defineOptimizer, type OptimizerStep } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { groupOptions } from '../../core/training/parameter-groups.ts';
import { coefficientsOf, ITERATIONS } from './muon-coefficients.ts';
import { planMuon, viewsOf } from './muon-plan.ts';

const unit = z.number().min(0).lt(1);

const options = z.strictObject({
  momentum: unit.default(0.95).describe('memory of the momentum'),
  nesterov: z.boolean().default(true).describe('look ahead by the newest gradient'),
  momentumWarmup: z.int().nonnegative().default(0).describe('steps over which the momentum rises from 0.85'),
  iterations: z.int().min(1).max(20).default(5).describe('Newton–Schulz steps'),
  coefficients: z.enum(ITERATIONS).default('jordan').describe('polynomials of the Newton–Schulz steps'),
  rounded: z
    .boolean()
    .default(false)
    .describe('Newton–Schulz in bfloat16 where the backend has instructions for it: the direction needs no more'),
  every: z
    .int()
    .min(1)
    .max(100)
    .default(1)
    .describe('steps from one update of a matrix to its next, which is as many times as long: they take turns'),
  scale: z
    .enum(['original', 'match-rms'])
    .default('original')
    .describe('√max(1, rows/columns) for rates like 0.02; 0.2·√max(rows, columns) for AdamW’s rates'),
  beta2: unit.default(0).describe('NorMuon: memory of the rows’ sizes, which are evened out; 0 leaves them'),
  weightDecay: z.number().nonnegative().default(0.1).describe('share of a weight that a step of rate 1 takes away'),
  cautious: z.boolean().default(false).describe('decay a weight only when the step moves it the same way'),
  decaySchedule: z
    .enum(['constant', 'linear', 'cosine'])
    .default('constant')
    .describe('the decay over the run: linear and cosine fall to 0'),
  adamRate: z
    .number()
    .nonnegative()
    .optional()
    .describe('learning rate of AdamW’s parameters as a share of the matrices’: 0.15, with match-rms 1'),
  adamBeta1: unit.default(0.9).describe('of AdamW’s parameters'),
  adamBeta2: unit.default(0.95).describe('of AdamW’s parameters'),
  adamEps: z.number().positive().default(1e-8).describe('of AdamW’s parameters'),
  by: z
    .enum(['muon', 'adamw'])
    .optional()
    .describe('who updates a group: muon the matrices of attention and experts, adamw the rest'),
  ...groupOptions,
});

type MuonOptions = z.infer<typeof options>;

/** Momentum that the warm-up begins with. */
const FIRST_MOMENTUM = 0.85;

/** Queries, keys, values, gate and up of each expert are orthogonalised as the matrices that they are. */
export const muon = defineOptimizer({
  name: 'muon',
  description: 'orthogonalised momentum for hidden matrices, each expert its own; AdamW for the rest',
  options,
  relativeRate: ({ scale }) => (scale === 'original' ? 5 : 1),
  create(settings, { store, kernels, totalSteps }) {
    const plan = planMuon({ name: 'muon', options }, settings, store);
    const { scale, every, nesterov, cautious, beta2, adamEps } = settings;
    const adamRate = settings.adamRate ?? (scale === 'original' ? 0.15 : 1);
    const decayAt = decayShare(settings, totalSteps);
    const coefficients = coefficientsOf(settings.coefficients, settings.iterations);
    const m = newFloats(store.dtype, store.total);
    const v = newFloats(store.dtype, plan.adamCount);
    const batches = plan.phases.flatMap((phase) => phase.batches);
    const rows = beta2 > 0 ? batches.map((batch) => newFloats(store.dtype, batch.offsets.length * batch.rows)) : [];
    const scratch = newFloats(store.dtype, Math.max(0, ...batches.map((b) => newtonSchulzScratch(b.rows, b.columns))));
    let adamViews: ReturnType<typeof viewsOf> | undefined;

    function stepMatrices({ step, learningRate, gradientScale, momentum }: OptimizerStep): void {
      const { data, gradient } = store;
      for (const { offset, count, settings: group } of plan.momentumRuns) {
        const now = momentum ?? momentumAt(step, group.momentum, settings.momentumWarmup);
        kernels.muonMomentum(gradient, m, offset, count, now, nesterov, gradientScale);
      }
      const phase = plan.phases[step % every];
      for (const batch of phase.batches) {
        kernels.newtonSchulz(gradient, batch, coefficients, scratch, settings.rounded);
        if (beta2 > 0) kernels.muonNormalise(gradient, batch, rows[batches.indexOf(batch)], beta2);
      }
      for (const { offset, count } of phase.waiting) gradient.fill(0, offset, offset + count);
      for (const { offset, count, settings: group, size } of phase.updateRuns) {
        const rate = every * learningRate * group.rate;
        kernels.muonUpdate(
          data,
          gradient,
          offset,
          count,
          rate * size,
          rate * group.weightDecay * decayAt(step),
          cautious,
        );
      }
    }

    function stepOthers({ step, learningRate, gradientScale, momentum }: OptimizerStep): void {
      adamViews ??= viewsOf(plan.adamRuns, store, m, v);
      for (const view of adamViews) {
        const { adamBeta1, adamBeta2, rate, weightDecay } = view.settings;
        kernels.adamw(
          view.data,
          view.gradient,
          view.m,
          view.v,
          0,
          view.data.length,
          learningRate * adamRate * rate,
          momentum ?? adamBeta1,
          adamBeta2,
          adamEps,
          weightDecay * decayAt(step),
          step,
          gradientScale,
        );
      }
    }

    return {
      step(step) {
        stepMatrices(step);
        stepOthers(step);
      },
      state: () =>
        new Map([
          ['m', { shape: [store.total], data: m }],
          ['v', { shape: [plan.adamCount], data: v }],
          ...rows.map((data, i) => [`rows.${i}`, { shape: [data.length], data }] as const),
        ]),
    };
  },
});

/** Momentum of a step, rising in a straight line over the warm-up. */
function momentumAt(step: number, momentum: number, warmup: number): number {
  if (step > warmup) return momentum;
  return FIRST_MOMENTUM + ((step - 1) / warmup) * (momentum - FIRST_MOMENTUM);
}

/** Share of the weight decay at each step. @throws GemmoeError for a schedule in a run of unknown length */
function decayShare({ decaySchedule }: MuonOptions, totalSteps: number | undefined): (step: number) => number {
  if (decaySchedule === 'constant') return () => 1;
  if (totalSteps === undefined) {
    throw new GemmoeError(
      'usage',
      `muon: decaySchedule=${decaySchedule} needs the length of the run, which is not known here`,
      'give totalSteps with the context, or leave the decay constant',
    );
  }
  if (decaySchedule === 'linear') return (step) => 1 - (step - 1) / totalSteps;
  return (step) => 0.5 * (1 + Math.cos((Math.PI * (step - 1)) / totalSteps));
}
