// gemmoe lr-find: a sweep over learning rates, and the one to try. Writes nothing.

import { findLearningRate, type LrSweep } from '../../core/training/lr-finder.ts';
import type { Command } from '../command.ts';
import { shortRate, table } from '../format.ts';
import { plot } from '../plot.ts';
import { backendLine, backendOf, startServices } from '../services.ts';
import { settingsFrom } from './train.ts';

/** Steps of a sweep when none are given. */
const DEFAULT_STEPS = 200;
const ROWS = 12;

/** The smoothed loss by the logarithm of the rate; what exploded is cut off, or the rest would be a flat line. */
function curveOf({ points }: LrSweep, columns: number): string[] {
  const highest = 1.5 * points[0].smoothed;
  const shown = points.filter(({ smoothed }) => smoothed <= highest);
  return plot(
    shown.map(({ learningRate, smoothed }) => [Math.log10(learningRate), smoothed]),
    { columns, rows: ROWS, showX: (x) => (10 ** x).toExponential(0), showY: (y) => y.toFixed(2) },
  );
}

export const lrFind: Command = {
  name: 'lr-find',
  summary: 'sweep over learning rates and suggest one; leaves nothing behind',
  options: [
    ...(['fromRate', 'toRate', 'steps'] as const),
    ...(['data', 'preset', 'initFrom', 'batchSize', 'accumulate', 'sequenceLength', 'optimizer', 'clip'] as const),
    ...(['loraRank', 'loraAlpha', 'loraTargets'] as const),
    ...(['precision', 'tokenizer', 'vocabSize', 'validationFraction', 'dataOrder'] as const),
    ...(['hiddenSize', 'layers', 'heads', 'kvHeads', 'headDim', 'experts', 'expertsPerToken', 'expertWidth'] as const),
    ...(['seed', 'backend', 'plugin'] as const),
  ],
  examples: ['gemmoe lr-find', 'gemmoe lr-find --data book.txt --optimizer muon --from-rate 1e-4 --to-rate 1'],
  stopsGently: true,
  async run(context) {
    const { options, terminal, signal } = context;
    using services = await startServices(context);
    const steps = options.steps ?? DEFAULT_STEPS;
    const { settings } = settingsFrom({ ...context, options: { ...options, steps } }, services);
    terminal.note(`${settings.optimizer}, ${steps} steps; ${backendLine(services)}`);
    const { fromRate: from, toRate: to } = options;
    const sweep = await findLearningRate(settings, services, {
      ...{ from, to, signal },
      onStep({ learningRate, smoothed }, step) {
        const line = `step ${step}/${steps}  rate ${learningRate.toExponential(1)}  loss ${smoothed.toFixed(3)}`;
        if (terminal.isInteractive) terminal.live(line);
      },
    });
    const { steepest, minimum, learningRate } = sweep.suggestion;
    for (const line of curveOf(sweep, Math.min(terminal.columns, 80))) terminal.print(line);
    const rows = [
      ['steepest at', shortRate(steepest)],
      ['lowest at', `${shortRate(minimum)}${sweep.exploded ? '' : '; the loss had not exploded yet at the last rate'}`],
      ['try', `--learning-rate ${learningRate.toPrecision(2)}`],
    ];
    terminal.print();
    for (const line of table(rows, '')) terminal.print(line);
    terminal.result({ ...sweep, settings, backend: backendOf(services) });
    return 0;
  },
};
