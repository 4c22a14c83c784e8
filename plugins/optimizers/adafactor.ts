// Adafactor (Shazeer & Stern 2018): second moments as one number per row and column of each matrix.

import { z } from 'zod';
import { matricesOf } from '../../core/model/matrices.ts';
import { defineOptimizer } from '../../core/plugin.ts';
import { newFloats } from '../../core/tensor/dtype.ts';
import { extentOf, groupOptions, parameterSettings } from '../../core/training/parameter-groups.ts';

const options = z.strictObject({
  decayRate: z.number().positive().default(0.8).describe('the moments forget as 1 - t^-decayRate'),
  eps1: z
    .number()
    .positive()
    .default(1.1920928955078125e-7)
    .describe('bounds the moments from below; PyTorch’s is the precision of the type'),
  eps2: z.number().positive().default(1e-3).describe('least size of weights that steps are relative to'),
  clip: z.number().positive().default(1).describe('largest root mean square of an update'),
  relative: z.boolean().default(true).describe('steps relative to the size of the weights, the rate at most 1/√t'),
  weightDecay: z.number().nonnegative().default(0).describe('share of a weight that a step of rate 1 takes away'),
  ...groupOptions,
});

/** Factored second moments of every matrix, whole ones of vectors. */
export const adafactor = defineOptimizer({
  name: 'adafactor',
  description: 'a factored second moment: almost no state',
  options,
  relativeRate: ({ relative }) => (relative ? 10 : 0.3),
  create(settings, { store, kernels }) {
    const groups = parameterSettings({ name: 'adafactor', options }, settings, [], store);
    let rowTotal = 0;
    let columnTotal = 0;
    /** Each matrix, or vector as one column, with its places in the moments. */
    const pieces = store.parameters.flatMap((parameter, i) => {
      const found = matricesOf(parameter);
      const { offset, count } = extentOf(parameter);
      const matrices = found.length > 0 ? found : [{ offset, count: 1, rows: count, columns: 1 }];
      return matrices.flatMap(({ offset: first, count: copies, rows, columns }) =>
        Array.from({ length: copies }, (_, copy) => {
          const piece = {
            ...{ offset: first + copy * rows * columns, rows, columns, group: groups[i] },
            ...{ rowOffset: rowTotal, columnOffset: columnTotal, isMatrix: found.length > 0 },
          };
          rowTotal += rows;
          if (piece.isMatrix) columnTotal += columns;
          return piece;
        }),
      );
    });
    const rowMoments = newFloats(store.dtype, rowTotal);
    const columnMoments = newFloats(store.dtype, columnTotal);
    const { decayRate, eps1, eps2, clip, relative } = settings;
    return {
      step({ step, learningRate, gradientScale }) {
        const { data, gradient } = store;
        for (const { offset, rows, columns, rowOffset, columnOffset, isMatrix, group } of pieces) {
          const column = isMatrix ? columnMoments : null;
          kernels.adafactor(data, gradient, rowMoments, rowOffset, column, columnOffset, offset, rows, columns, {
            ...{ learningRate: learningRate * group.rate, step, decayRate, eps1, eps2, clip, relative },
            ...{ weightDecay: group.weightDecay, gradientScale },
          });
        }
      },
      state: () =>
        new Map([
          ['row', { shape: [rowTotal], data: rowMoments }],
          ['column', { shape: [columnTotal], data: columnMoments }],
        ]),
    };
  },
});
