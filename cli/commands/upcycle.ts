// gemmoe upcycle: a dense model as one of experts.

import { GemmoeError } from '../../core/errors.ts';
import { upcycleDirectory } from '../../core/formats/upcycle.ts';
import { activeParameters, totalParameters } from '../../core/model/parameter-counts.ts';
import type { Command } from '../command.ts';
import { bytes, duration, scaled } from '../format.ts';
import { liveProgress, sourceAndOutput, storedType } from '../model-files.ts';

/** Experts of a token unless something else is asked for, as in Mixtral. */
const DEFAULT_TOP_K = 2;

export const upcycle: Command = {
  name: 'upcycle',
  summary: 'turn a dense model into one of experts that computes the same',
  positional: { name: 'DIR', description: 'a dense model directory or run folder' },
  output: { name: 'OUT', description: 'folder to write' },
  options: ['experts', 'expertsPerToken', 'noise', 'seed', 'dtype', 'maxShardSize', 'force'],
  examples: [
    'gemmoe upcycle DIR OUT --experts 8',
    'gemmoe upcycle DIR OUT --experts 4 --experts-per-token 1 --noise 0.01',
  ],
  async run(context) {
    const { options, terminal } = context;
    const { source, target } = sourceAndOutput(context);
    if (options.experts === undefined) {
      throw new GemmoeError('usage', 'how many experts is not said', 'say it: --experts 8');
    }
    const start = performance.now();
    const summary = upcycleDirectory(source, target, {
      numExperts: options.experts,
      topK: options.expertsPerToken ?? Math.min(DEFAULT_TOP_K, options.experts),
      noise: options.noise,
      seed: options.seed,
      dtype: storedType(options),
      maxShardBytes: options.maxShardSize,
      replace: options.force,
      onProgress: liveProgress(context),
    });
    terminal.clearLive();
    const { config } = summary;
    const seconds = (performance.now() - start) / 1000;
    terminal.print(
      `${context.output}: ${config.numExperts} experts, ${config.topK} for each token; ${scaled(totalParameters(config))} parameters, ${scaled(activeParameters(config))} active; ${bytes(summary.bytes)} in ${duration(seconds)}`,
    );
    terminal.result({ source, target, ...summary, noise: options.noise, seed: options.seed, seconds });
    return 0;
  },
};
