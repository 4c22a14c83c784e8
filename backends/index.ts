// The built-in backends, best first: `auto` takes the first that can run.

import { definePlugin } from '../core/plugin.ts';
import { accelerateBackend } from './accelerate/accelerate-backend.ts';
import { cblasBackend } from './cblas/cblas-backend.ts';
import { checkedBackend } from './checked/checked-backend.ts';
import { referenceBackend } from './reference/reference-backend.ts';

export { ReferenceBackend } from './reference/reference-backend.ts';

const computing = [accelerateBackend, cblasBackend, referenceBackend];

/** Every backend that comes with gemmoe. */
export const builtinBackends = definePlugin({ backends: [...computing, checkedBackend(computing)] });
