// Whether a run fits into memory, before it is begun: a process that swaps or is killed tells nobody why.

import { GemmoeError } from '../errors.ts';
import type { RunPlan } from './events.ts';

/** Bytes of Node.js, the program and what it holds beside the tensors of a run. */
const PROCESS = 128 * 2 ** 20;

/** True for a run that fits into `limit` bytes. */
export function fits(memory: RunPlan['memory'], limit: number): boolean {
  return memory.total + PROCESS <= limit;
}

/** @param limit bytes that the process may have @throws GemmoeError saying what needs how much */
export function refuseTooLarge(memory: RunPlan['memory'], limit: number): void {
  if (fits(memory, limit)) return;
  const needed = memory.total + PROCESS;
  const { weights, gradients, optimizer, activations } = memory;
  const parts = Object.entries({ weights, gradients, optimizer, activations });
  throw new GemmoeError(
    'unavailable',
    `the run needs ${gibibytes(needed)} of memory (${parts.map(([name, size]) => `${name} ${gibibytes(size)}`).join(', ')}), ` +
      `and ${gibibytes(limit)} are there`,
    'take a smaller --batch-size with --accumulate, --checkpoint-every 1, an optimizer with less state or a smaller model; --force starts it all the same',
  );
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
