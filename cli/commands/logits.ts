// gemmoe logits: the logits of a model on given ids, for comparison with other programs.

import { resolve } from 'node:path';
import { GemmoeError } from '../../core/errors.ts';
import { readIdRows } from '../../core/formats/parity.ts';
import type { Command } from '../command.ts';
import { backendOf, openModel, startServices } from '../services.ts';

export const logits: Command = {
  name: 'logits',
  summary: 'print the logits of a model on given ids',
  options: ['model', 'adapter', 'idsFile', 'weights', 'backend', 'plugin'],
  examples: ['gemmoe logits --model DIR --ids-file ids.json --json > logits.json'],
  async run(context) {
    const { options, terminal, cwd } = context;
    if (options.idsFile === undefined) {
      throw new GemmoeError('usage', 'no ids are named', 'write rows of ids to a JSON file: --ids-file FILE');
    }
    const rows = readIdRows(resolve(cwd, options.idsFile));
    using services = await startServices(context);
    const { model } = openModel(context, services.kernels);
    const [B, T] = [rows.length, rows[0].length];
    const values = model.forward(Int32Array.from(rows.flat()), B, T);
    const V = model.config.vocabSize;
    terminal.result({ shape: [B, T, V], logits: Array.from(values), backend: backendOf(services) });
    terminal.print(`logits [${B}, ${T}, ${V}] on ${services.backend.name}; the likeliest next ids of each row:`);
    for (let b = 0; b < B; b++) {
      const last = values.subarray((b * T + T - 1) * V, (b + 1) * T * V);
      const order = Array.from(last.keys()).sort((x, y) => last[y] - last[x]);
      terminal.print(
        `  row ${b}: ${order
          .slice(0, 5)
          .map((id) => `${id} (${last[id].toFixed(3)})`)
          .join('  ')}`,
      );
    }
    return 0;
  },
};
