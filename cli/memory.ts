// How much memory this process may have.

import { totalmem } from 'node:os';

/** Bytes: those of the machine, or what a container's or the system's limit leaves of them. */
export function memoryOfProcess(): number {
  // 0 or beyond all memory where there is no limit
  const limit = process.constrainedMemory() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
