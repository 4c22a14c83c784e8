// The built-in plugins: an explicit list.

import { definePlugin } from '../core/plugin.ts';
import { adafactor } from './optimizers/adafactor.ts';
import { adam } from './optimizers/adam.ts';
import { adamw } from './optimizers/adamw.ts';
import { lion } from './optimizers/lion.ts';
import { muon } from './optimizers/muon.ts';
import { scheduleFree } from './optimizers/schedule-free.ts';
import { sgd } from './optimizers/sgd.ts';
import { greedy } from './samplers/greedy.ts';
import { minP } from './samplers/min-p.ts';
import { sample } from './samplers/sample.ts';
import { temperature } from './samplers/temperature.ts';
import { topK } from './samplers/top-k.ts';
import { topP } from './samplers/top-p.ts';
import { constant } from './schedulers/constant.ts';
import { exponential } from './schedulers/exponential.ts';
import { inverseSqrt } from './schedulers/inverse-sqrt.ts';
import { linear } from './schedulers/linear.ts';
import { oneCycle } from './schedulers/one-cycle.ts';
import { polynomial } from './schedulers/polynomial.ts';
import { warmupCosine } from './schedulers/warmup-cosine.ts';
import { wsd } from './schedulers/wsd.ts';

/** Every sampler, optimizer and schedule that comes with gemmoe. */
export const builtinPlugins = definePlugin({
  samplers: [greedy, sample, temperature, topK, topP, minP],
  optimizers: [adamw, adam, sgd, lion, adafactor, muon, scheduleFree],
  schedulers: [constant, linear, warmupCosine, wsd, inverseSqrt, polynomial, oneCycle, exponential],
});
