// gemmoe compare: the same model, data and number of steps with every optimizer, and with every schedule.

import { parseSpec } from '../../core/config.ts';
import type { Named, Registry } from '../../core/registry.ts';
import type { RunServices } from '../../core/training/run-parts.ts';
import type { RunSettings } from '../../core/training/settings.ts';
import type { Command, CommandContext } from '../command.ts';
import { listedSpecs, parseFactors } from '../compare/lists.ts';
import { type Entry, runTrials } from '../compare/run-trials.ts';
import { comparisonRows, markdownTable } from '../compare/tables.ts';
import { table } from '../format.ts';
import type { OptionValues } from '../options.ts';
import { backendLine, backendOf, startServices } from '../services.ts';
import { settingsFrom } from './train.ts';

/** Steps of each training when none are given. */
const DEFAULT_STEPS = 300;

/** The entries of one table. */
interface Comparison {
  readonly heading: 'optimizer' | 'schedule';
  readonly entries: readonly Entry[];
}

/** What --optimizers and --schedules name; everything where neither is given. */
function comparisonsOf(context: CommandContext, services: RunServices): Comparison[] {
  const { options } = context;
  const isOpen = options.optimizers === undefined && options.schedules === undefined;
  const settingsWith = (changes: Partial<OptionValues>) => {
    const changed = { ...options, steps: options.steps ?? DEFAULT_STEPS, ...changes };
    return settingsFrom({ ...context, options: changed }, services).settings;
  };
  const comparison = (
    heading: Comparison['heading'],
    text: string | undefined,
    registry: Registry<Named>,
  ): Comparison[] => {
    const list = text ?? (isOpen ? 'all' : undefined);
    if (list === undefined) return [];
    const entries = listedSpecs(list, registry).map((spec) => ({
      ...{ spec, description: registry.get(parseSpec(spec).name).description },
      settings: settingsWith({ [heading]: spec }),
    }));
    return [{ heading, entries }];
  };
  return [
    ...comparison('optimizer', options.optimizers, services.optimizers),
    ...comparison('schedule', options.schedules, services.schedulers),
  ];
}

/** What all trainings share, in one line. */
function budgetLine(settings: RunSettings, { seeds, preset }: OptionValues): string {
  const { steps, batchSize, accumulate, sequenceLength, seed } = settings;
  const model = preset === undefined ? '' : `${preset}, `;
  return `${model}${steps} steps of ${batchSize * accumulate} x ${sequenceLength} tokens, seed ${seed}${
    seeds > 1 ? ` to ${seed + seeds - 1}, mean ± half the range` : ''
  }`;
}

export const compare: Command = {
  name: 'compare',
  summary: 'train with every optimizer and schedule on the same budget, and print the table',
  options: [
    ...(['optimizers', 'schedules', 'rates', 'seeds', 'steps', 'markdown'] as const),
    ...(['data', 'preset', 'batchSize', 'sequenceLength', 'learningRate', 'optimizer', 'schedule', 'clip'] as const),
    ...([
      'tokenizer',
      'vocabSize',
      'validationFraction',
      'dataOrder',
      'textField',
      'lossOn',
      'documents',
      'shuffleBlock',
      'stream',
      'evalWindows',
    ] as const),
    ...(['hiddenSize', 'layers', 'heads', 'kvHeads', 'headDim', 'experts', 'expertsPerToken', 'expertWidth'] as const),
    ...(['seed', 'backend', 'plugin'] as const),
  ],
  examples: [
    'gemmoe compare',
    'gemmoe compare --optimizers "adamw;muon;muon:scale=match-rms" --rates 0.5,1,2 --seeds 3',
    'gemmoe compare --schedules all --optimizer muon --steps 1000 --markdown',
  ],
  stopsGently: true,
  async run(context) {
    const { options, terminal, signal } = context;
    const factors = parseFactors(options.rates);
    using services = await startServices(context);
    const comparisons = comparisonsOf(context, services);
    const entries = comparisons.flatMap((comparison) => comparison.entries);
    const budget = budgetLine(entries[0].settings, options);
    terminal.note(`${budget}; ${backendLine(services)}`);
    const onStep = (text: string) => (terminal.isInteractive ? terminal.live(text) : undefined);
    const onTrial = (text: string) => terminal.note(text);
    const results = await runTrials({ entries, factors, seeds: options.seeds, signal, onStep, onTrial }, services);
    terminal.clearLive();
    const found: Record<string, unknown> = {};
    let first = 0;
    for (const { heading, entries: listed } of comparisons) {
      const part = results.slice(first, (first += listed.length)).filter((result) => result !== null);
      if (part.length === 0) continue;
      const rows = comparisonRows(heading, part);
      terminal.print();
      for (const line of options.markdown ? markdownTable(rows) : table(rows)) terminal.print(line);
      found[`${heading}s`] = part;
    }
    terminal.result({ settings: entries[0].settings, ...found, backend: backendOf(services) });
    return signal.aborted ? 130 : 0;
  },
};
