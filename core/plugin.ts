// The contribution points other than backends, and what a plugin file exports.

import type { ServiceIdentifier } from 'inversify';
import type { z } from 'zod';
import type { BackendContribution } from './backend.ts';
import type { Tokenizer } from './data/tokenizer.ts';
import type { Kernels } from './kernels.ts';
import type { ParameterStore } from './model/parameters.ts';
import type { Random } from './random.ts';
import type { Named } from './registry.ts';
import type { FloatArray } from './tensor/dtype.ts';

/** Version of the contracts in this file; a plugin made for another one is refused. */
export const PLUGIN_API = 1;

/** A plugin's settings as zod infers them; the contribution's schema has validated them and filled the defaults. */
type Options = z.ZodObject;

// ---------------------------------------------------------------- samplers

/** What a sampler may look at besides the logits. */
export interface SamplingContext {
  /** Prompt and everything generated so far, oldest first. */
  readonly ids: readonly number[];
  /** How many of `ids` are the prompt. */
  readonly promptLength: number;
  /** Number of the token being chosen: 0 for the first generated one. */
  readonly step: number;
  /** Stream of this sampler's randomness: ask with (step, index). */
  readonly random: Random;
}

/**
 * One link of the sampling chain. A transform changes logits in place, `-Infinity` removing a token; a pick ends the chain
 * with the id it chooses. Both see logits [V] of one position.
 */
export type Sampler =
  | { readonly kind: 'transform'; apply(logits: FloatArray, context: SamplingContext): void }
  | { readonly kind: 'pick'; pick(logits: FloatArray, context: SamplingContext): number };

/** What a sampler is made for. */
export interface GenerationContext {
  /** (optional) The model's tokenizer, for samplers that are told of text. */
  readonly tokenizer?: Tokenizer | undefined;
}

export interface SamplerContribution<O extends Options = Options> extends Named {
  /** Settings with their defaults; absent where there are none. */
  readonly options?: O;
  /** A fresh sampler for one generated sequence; it may keep state and buffers between tokens. */
  create(options: z.infer<O>, context: GenerationContext): Sampler;
}

// ---------------------------------------------------------------- optimizers

/** What one optimizer step is told. */
export interface OptimizerStep {
  /** 1 for the first step: bias corrections count from one. */
  readonly step: number;
  readonly learningRate: number;
  /** Every gradient is multiplied by this before use: clipping and loss scaling cost no pass of their own. */
  readonly gradientScale: number;
  /** (optional) Momentum, or first beta, that the schedule wants in place of the optimizer's own. */
  readonly momentum?: number | undefined;
}

/** What an optimizer is made for. */
export interface OptimizerContext {
  /** All weights and gradients, flat, with names, roles and offsets; the gradients exist from the first step on. */
  readonly store: ParameterStore;
  readonly kernels: Kernels;
  /** (optional) Steps of the run, where there is one: for what changes over it besides the learning rate. */
  readonly totalSteps?: number;
}

/** State tensors by name; each is written to the checkpoint with its shape and restored into the same array. */
export type OptimizerState = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: FloatArray }>;

export interface Optimizer {
  /** Updates every parameter from its gradient and leaves the gradients zero. */
  step(step: OptimizerStep): void;
  /** Everything that a bit-exact resume needs beyond the step number; the arrays are live, not copies. */
  state(): OptimizerState;
  /** (optional) Scalars of the state, by name; default none. */
  scalars?(): Record<string, number>;
  /** (optional) Takes back what `scalars` gave, after the caller has restored the arrays of `state`. */
  restoreScalars?(scalars: Record<string, number>): void;
  /**
   * (optional) Puts the weights to evaluate and save in place (`false`) or those to train on (`true`, also after a
   * restoration, whose weights are those that were saved); default nothing. Going there and back changes no bit.
   */
  training?(on: boolean): void;
}

export interface OptimizerContribution<O extends Options = Options> extends Named {
  /** Settings with their defaults; absent where there are none. */
  readonly options?: O;
  /** (optional) Learning rate that suits it with these options, as a multiple of AdamW's; default 1. */
  relativeRate?(options: z.infer<O>): number;
  /** (optional) `name:key=value,…` of the schedule that it is made for; default the program's. */
  readonly schedule?: string;
  create(options: z.infer<O>, context: OptimizerContext): Optimizer;
}

// ---------------------------------------------------------------- schedules

/** What a learning-rate schedule is made for. */
export interface ScheduleContext {
  readonly learningRate: number;
  readonly totalSteps: number;
}

/** Learning rate of step t = 1 … totalSteps: a pure function, so nothing of it needs saving but its settings. */
export interface Schedule {
  (step: number): number;
  /** (optional) Momentum of that step, for every optimizer that has one; default the optimizer's own. */
  momentum?(step: number): number;
}

export interface SchedulerContribution<O extends Options = Options> extends Named {
  /** Settings with their defaults; absent where there are none. */
  readonly options?: O;
  create(options: z.infer<O>, context: ScheduleContext): Schedule;
}

// ---------------------------------------------------------------- plugins

/** Container tokens; `Symbol.for`, so a plugin with its own copy of inversify names the same ones. */
export const SamplerContribution: ServiceIdentifier<SamplerContribution> = Symbol.for('gemmoe.SamplerContribution');
export const OptimizerContribution: ServiceIdentifier<OptimizerContribution> =
  Symbol.for('gemmoe.OptimizerContribution');
export const SchedulerContribution: ServiceIdentifier<SchedulerContribution> =
  Symbol.for('gemmoe.SchedulerContribution');

/** What a plugin file adds; every list is optional. */
export interface PluginParts {
  readonly samplers?: readonly SamplerContribution[];
  readonly optimizers?: readonly OptimizerContribution[];
  readonly schedulers?: readonly SchedulerContribution[];
  readonly backends?: readonly BackendContribution[];
}

/** The default export of a plugin file. */
export interface Plugin extends PluginParts {
  readonly gemmoePlugin: typeof PLUGIN_API;
}

/**
 * Makes the default export of a plugin file. A plugin without dependencies may write the object itself:
 * `export default { gemmoePlugin: 1, samplers: [...] }`.
 */
export function definePlugin(parts: PluginParts): Plugin {
  return { gemmoePlugin: PLUGIN_API, ...parts };
}

/** Types a contribution's options without widening them: `defineSampler({ name, description, options, create })`. */
export function defineSampler<O extends Options>(contribution: SamplerContribution<O>): SamplerContribution {
  return contribution as unknown as SamplerContribution;
}

/** As `defineSampler`, for an optimizer. */
export function defineOptimizer<O extends Options>(contribution: OptimizerContribution<O>): OptimizerContribution {
  return contribution as unknown as OptimizerContribution;
}

/** As `defineSampler`, for a learning-rate schedule. */
export function defineScheduler<O extends Options>(contribution: SchedulerContribution<O>): SchedulerContribution {
  return contribution as unknown as SchedulerContribution;
}
