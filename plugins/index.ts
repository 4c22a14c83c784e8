// The built-in plugins: an explicit list.

import { definePlugin } from '../core/plugin.ts';
import { adafactor } from './optimizers/adafactor.ts';
import { adam } from './optimizers/adam.ts';
import { adamw } from './optimizers/adamw.ts';
import { lion } from './optimizers/lion.ts';
import { muon } from './optimizers/muon.ts';
import { scheduleFree } from './optimizers/schedule-free.ts';
import { sgd } from './optimizers/sgd.ts';
import { badWords } from './samplers/bad-words.ts';
import { banTokens } from './samplers/ban-tokens.ts';
import { dry } from './samplers/dry.ts';
import { dynamicTemperature } from './samplers/dynamic-temperature.ts';
import { epsilonCutoff } from './samplers/epsilon-cutoff.ts';
import { etaCutoff } from './samplers/eta-cutoff.ts';
import { forceTokens } from './samplers/force-tokens.ts';
import { frequencyPenalty } from './samplers/frequency-penalty.ts';
import { greedy } from './samplers/greedy.ts';
import { logitBias } from './samplers/logit-bias.ts';
import { minP } from './samplers/min-p.ts';
import { mirostat } from './samplers/mirostat.ts';
import { noRepeatNgram } from './samplers/no-repeat-ngram.ts';
import { presencePenalty } from './samplers/presence-penalty.ts';
import { repetitionPenalty } from './samplers/repetition-penalty.ts';
import { sample } from './samplers/sample.ts';
import { temperature } from './samplers/temperature.ts';
import { topA } from './samplers/top-a.ts';
import { topK } from './samplers/top-k.ts';
import { topNSigma } from './samplers/top-n-sigma.ts';
import { topP } from './samplers/top-p.ts';
import { typical } from './samplers/typical.ts';
import { xtc } from './samplers/xtc.ts';
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
  samplers: [
    ...[greedy, sample, mirostat],
    ...[temperature, dynamicTemperature],
    ...[topK, topP, minP, typical, epsilonCutoff, etaCutoff, topA, topNSigma, xtc],
    ...[repetitionPenalty, frequencyPenalty, presencePenalty, noRepeatNgram, dry],
    ...[logitBias, banTokens, badWords, forceTokens],
  ],
  optimizers: [adamw, adam, sgd, lion, adafactor, muon, scheduleFree],
  schedulers: [constant, linear, warmupCosine, wsd, inverseSqrt, polynomial, oneCycle, exponential],
});
