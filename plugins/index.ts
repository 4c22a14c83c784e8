// The built-in plugins: an explicit list.

import { definePlugin } from '../core/plugin.ts';
import { adamw } from './optimizers/adamw.ts';
import { sgd } from './optimizers/sgd.ts';
import { greedy } from './samplers/greedy.ts';
import { minP } from './samplers/min-p.ts';
import { sample } from './samplers/sample.ts';
import { temperature } from './samplers/temperature.ts';
import { topK } from './samplers/top-k.ts';
import { topP } from './samplers/top-p.ts';
import { constant } from './schedulers/constant.ts';
import { linear } from './schedulers/linear.ts';
import { warmupCosine } from './schedulers/warmup-cosine.ts';

/** Every sampler, optimizer and schedule that comes with gemmoe. */
export const builtinPlugins = definePlugin({
  samplers: [greedy, sample, temperature, topK, topP, minP],
  optimizers: [adamw, sgd],
  schedulers: [constant, linear, warmupCosine],
});
