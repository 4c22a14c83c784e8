// Options of `accelerate:key=value,…`.

import { z } from 'zod';
import { parseOptionsText } from '../../core/config.ts';

/** Precisions of matrix products, in the addon's order. */
export const PRECISIONS = ['f32', 'bf16', 'bf16x2', 'bf16x3'] as const;

const schema = z.object({
  threads: z.union([z.literal('auto'), z.int().min(1).max(256)]).default('auto'),
  precision: z.enum(PRECISIONS).default('f32'),
  blas: z.string().default('auto'),
  isa: z.string().default(''),
});

export type AccelerateOptions = z.infer<typeof schema>;

/** For `gemmoe backends`. */
export const OPTION_HELP: readonly string[] = [
  'threads=N|auto: threads of a kernel; auto (default) measures and takes the best, one included',
  `precision=${PRECISIONS.join('|')}: of matrix products; default f32`,
  'blas=auto|builtin|openblas|mkl|blis|PATH: a BLAS for large products; auto takes one only where it beats our kernels',
  'isa=NAME: an instruction set, as GEMMOE_ISA does',
];

/** @throws GemmoeError naming the option */
export function parseAccelerateOptions(text: string): AccelerateOptions {
  return parseOptionsText({ name: 'accelerate', description: '', options: schema }, text) as AccelerateOptions;
}
