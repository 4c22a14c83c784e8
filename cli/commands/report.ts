// gemmoe report: the HTML report of a run, made again from its metrics.

import { resolve } from 'node:path';
import { GemmoeError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { writeReport } from '../report/write-report.ts';

export const report: Command = {
  name: 'report',
  summary: 'write the HTML report of a run',
  positional: { name: 'RUN', description: 'run folder' },
  options: [],
  examples: ['gemmoe report runs/mine'],
  async run({ positional, terminal, cwd }) {
    if (positional === undefined) throw new GemmoeError('usage', 'no run is named', 'name a folder that train made');
    const path = writeReport(resolve(cwd, positional));
    terminal.print(path);
    terminal.result({ report: path });
    return 0;
  },
};
