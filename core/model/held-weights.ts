// Weights packed once for many forward passes.

import type { Kernels } from '../kernels.ts';
import type { Parameter, ParameterStore } from './parameters.ts';

/** Has the kernels hold every matrix that rows are multiplied by; what is returned lets go of them. */
export function holdWeights(store: ParameterStore, kernels: Kernels, isTied: boolean): () => void {
  const releases = store.parameters
    .filter((parameter) => parameter.bf16 === null && isMultiplied(parameter, isTied))
    .map(({ data, role, shape, parts, size }) => {
      const columns = shape.at(-1) ?? 1;
      // gate and up of an expert are products of their own, queries, keys and values are one
      const rows = role === 'expert' ? parts[0] : (shape.at(-2) ?? 1);
      return kernels.holdWeights(data, size / (rows * columns), rows, columns);
    });
  return () => releases.forEach((release) => release());
}

function isMultiplied({ role, shape }: Parameter, isTied: boolean): boolean {
  return shape.length > 1 && role !== 'norm' && role !== 'bias' && (role !== 'embedding' || isTied);
}
