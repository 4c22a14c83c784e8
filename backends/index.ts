// The built-in backends, best first.

import type { BackendContribution } from '../core/backend.ts';
import { referenceBackend } from './reference/reference-backend.ts';

export { ReferenceBackend } from './reference/reference-backend.ts';

export const builtinBackends: readonly BackendContribution[] = [referenceBackend];
