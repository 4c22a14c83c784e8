// Kernels of the backends that are usable here, for tests that run on each of them.

import { builtinBackends } from '../../backends/index.ts';
import type { MatmulBackend } from '../../core/backend.ts';
import { bindKernels, type Kernels } from '../../core/kernels.ts';

const contributions = builtinBackends.backends ?? [];

/** Names of the built-in backends that work on this machine. */
export const USABLE_BACKENDS = contributions.filter((backend) => !backend.unavailable()).map(({ name }) => name);

export function backendNamed(name: string): MatmulBackend {
  const contribution = contributions.find((candidate) => candidate.name === name);
  if (!contribution) throw new Error(`no backend named ${name}`);
  return contribution.create('');
}

/** Kernels over the reference backend, the definition of correct. */
export function referenceKernels(): Kernels {
  return bindKernels(backendNamed('reference'));
}
