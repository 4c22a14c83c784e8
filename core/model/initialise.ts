// Random weights: N(0, 0.02), the projections that write to the residual stream scaled by 1/√(2·layers) as in GPT-2
// (Radford et al. 2019), norms 1, biases 0.

import type { Kernels } from '../kernels.ts';
import { Random } from '../random.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Parameter, ParameterStore } from './parameters.ts';

const DEVIATION = 0.02;

/**
 * Fills every parameter, and buffers with zeros; parameter i draws from step i of the stream `initialise`, so shapes elsewhere
 * change nothing.
 */
export function initialiseParameters(store: ParameterStore, kernels: Kernels, numLayers: number, seed: number): void {
  for (const { data } of store.buffers) data.fill(0);
  for (const parameter of store.parameters) fillInitial(parameter.data, store, kernels, parameter, 0, numLayers, seed);
}

/** out = elements [start, start + out.length) of what `initialiseParameters` gives `parameter`, which need not be allocated. */
export function fillInitial(
  out: FloatArray,
  store: ParameterStore,
  kernels: Pick<Kernels, 'fillNormal'>,
  parameter: Parameter,
  start: number,
  numLayers: number,
  seed: number,
): void {
  if (parameter.role === 'norm' || parameter.role === 'bias') {
    out.fill(parameter.role === 'norm' ? 1 : 0);
    return;
  }
  const deviation = writesToResidual(parameter.name) ? DEVIATION / Math.sqrt(2 * numLayers) : DEVIATION;
  kernels.fillNormal(out, new Random(seed, 'initialise'), 0, deviation, store.parameters.indexOf(parameter), start);
}

function writesToResidual(name: string): boolean {
  return name.endsWith('.attention.output') || /\.(experts|shared_expert)\.down$/.test(name);
}
