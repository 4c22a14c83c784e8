// The same rate at every step, after a warm-up where one is asked for.

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { warmupOptions, withWarmup } from './warm-up.ts';

/** No warm-up unless asked for. */
export const constant = defineScheduler({
  name: 'constant',
  description: 'the same rate throughout',
  options: z.strictObject(warmupOptions),
  create: (options, context) => withWarmup('constant', options.warmupSteps ?? 0, options, context, () => 1),
});
