// Random weights: N(0, 0.02), the projections that write to the residual stream scaled by 1/√(2·layers) as in GPT-2
// (Radford et al. 2019), norms 1.

import { Random } from '../random.ts';
import type { ParameterStore } from './parameters.ts';

const DEVIATION = 0.02;

/** Fills every parameter; parameter i draws from step i of the stream `initialise`, so shapes elsewhere change nothing. */
export function initialiseParameters(store: ParameterStore, numLayers: number, seed: number): void {
  const random = new Random(seed, 'initialise');
  const residual = DEVIATION / Math.sqrt(2 * numLayers);
  for (const [i, { name, role, data }] of store.parameters.entries()) {
    if (role === 'norm') data.fill(1);
    else random.fillNormal(data, 0, writesToResidual(name) ? residual : DEVIATION, i);
  }
}

function writesToResidual(name: string): boolean {
  return name.endsWith('.attention.output') || name.endsWith('.experts.down');
}
