// gemmoe report: the HTML report of a run, made again from its metrics, or a page that compares several.

import { resolve } from 'node:path';
import { GemmoeError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { writeComparison, writeReport } from '../report/write-report.ts';

export const report: Command = {
  name: 'report',
  summary: 'write the HTML report of a run, or a comparison of several',
  positional: { name: 'RUN', description: 'run folder; of several, a page compares them', many: true },
  options: ['html'],
  examples: ['gemmoe report runs/mine', 'gemmoe report runs/a runs/b runs/c --html comparison.html'],
  async run({ words, options, terminal, cwd }) {
    if (words.length === 0) throw new GemmoeError('usage', 'no run is named', 'name a folder that train made');
    const runs = [...new Set(words.map((word) => resolve(cwd, word)))];
    const target = options.html === undefined ? undefined : resolve(cwd, options.html);
    const path = runs.length === 1 ? writeReport(runs[0], target) : writeComparison(runs, target);
    terminal.print(path);
    terminal.result({ report: path });
    return 0;
  },
};
