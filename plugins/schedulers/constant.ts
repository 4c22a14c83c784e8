// The same rate at every step, after a warm-up where one is asked for.

import { z } from 'zod';
import { defineScheduler } from '../../core/plugin.ts';
import { warmupOf, warmupOptions, withWarmup } from './warm-up.ts';

/** No warm-up unless asked for. */
export const constant = defineScheduler({
  name: 'constant',
  description: 'the same rate throughout',
  options: z.strictObject(warmupOptions),
  create: (options, context) =>
    withWarmup(warmupOf('constant', options, context.totalSteps, 0), options, context, () => 1),
});
