// Every kernel of a backend against the portable kernels over the reference: see core/verify.

import { describe, expect, test } from 'vitest';
import type { KernelName, Kernels } from '../../core/kernels.ts';
import { drawing, kernelCases, SIZES } from '../../core/verify/kernel-cases.ts';
import { compareArrays, kernelBound } from '../../core/verify/verify-backend.ts';

/** Registers a comparison of every kernel of `create()` with those of `reference()`. */
export function describeKernels(name: string, create: () => Kernels, reference: () => Kernels): void {
  describe(`kernels of ${name}`, () => {
    const [ours, theirs] = [create(), reference()];
    const named = Object.entries(kernelCases()).flatMap(([kernel, cases]) =>
      cases.map((one, i) => {
        const perSize = cases.length / SIZES.length;
        return [`${kernel}, size ${Math.floor(i / perSize) + 1}, case ${(i % perSize) + 1}`, kernel, one] as const;
      }),
    );
    test.each(named)('%s', (_, kernel, one) => {
      const [mine, reference64] = [drawing('f32'), drawing('f64')];
      const found = one(ours, mine);
      for (const [i, wanted] of one(theirs, reference64).entries()) {
        const error = compareArrays(found[i], wanted);
        if (typeof error === 'string') expect.fail(`array ${i}: ${error}`);
        expect(error, `array ${i}`).toBeLessThanOrEqual(kernelBound(kernel as KernelName));
      }
      expect(mine.strayed(), 'something was written outside of an output').toBe(false);
    });
  });
}
