// A small store of every role and shape, gradients that depend on weight and step, and optimizers by their spec.

import { builtinPlugins } from '../../plugins/index.ts';
import { parseOptionsText, parseSpec } from '../../core/config.ts';
import { type Parameter, ParameterStore } from '../../core/model/parameters.ts';
import type { Optimizer } from '../../core/plugin.ts';
import { Registry } from '../../core/registry.ts';
import type { ComputeType } from '../../core/tensor/dtype.ts';
import { normal } from './differences.ts';
import { referenceKernels } from './kernels.ts';

export const optimizers = new Registry('optimizer', builtinPlugins.optimizers ?? []);
const kernels = referenceKernels();

const values = normal(200);

/** Norms between matrices, packed matrices, experts, a head with a bias; weights drawn once. */
export function makeStore(dtype: ComputeType = 'f64'): ParameterStore {
  const store = new ParameterStore(dtype);
  store.declare('embedding', 'embedding', [5, 3]);
  store.declare('layers.0.attention_norm', 'norm', [3]);
  store.declare('layers.0.attention.qkv', 'attention', [8, 3], [4, 2, 2]);
  store.declare('layers.0.attention.output', 'attention', [3, 4]);
  store.declare('layers.0.router', 'router', [2, 3]);
  store.declare('layers.0.experts.gate_up', 'expert', [2, 8, 3], [4, 4]);
  store.declare('layers.0.experts.down', 'expert', [2, 3, 4]);
  store.declare('head', 'head', [5, 3]);
  store.declare('head_bias', 'bias', [5]);
  store.data.set(values.subarray(0, store.total));
  store.ensureGradients();
  return store;
}

/** The optimizer that `name:key=value,…` means, on a store. */
export function makeOptimizer(spec: string, store: ParameterStore, totalSteps?: number): Optimizer {
  const { name, rest } = parseSpec(spec);
  const contribution = optimizers.get(name);
  const context = { store, kernels, ...(totalSteps !== undefined && { totalSteps }) };
  return contribution.create(parseOptionsText(contribution, rest), context);
}

/** Gradient of element i at step t of a weight p: something with a memory to it. */
export function gradientAt(i: number, p: number, t: number): number {
  return Math.sin(3 * p + 0.7 * i + t) + 0.1 * p;
}

/** Learning rate of step t. */
export function rateAt(t: number): number {
  return 0.02 / t;
}

/** Takes steps first … last; the gradients are given at twice their size and scaled back. */
export function takeSteps(store: ParameterStore, optimizer: Optimizer, last: number, first = 1): void {
  for (let step = first; step <= last; step++) {
    store.data.forEach((p, i) => (store.gradient[i] = 2 * gradientAt(i, p, step)));
    optimizer.step({ step, learningRate: rateAt(step), gradientScale: 0.5 });
  }
}

/** Whether weight decay is for it by default. */
export function decaysByDefault({ role }: Parameter): boolean {
  return !['norm', 'bias', 'embedding'].includes(role);
}
