// gemmoe logits: the logits of a model on given ids, for comparison with other programs.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { GemmoeError, messageOf } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { backendOf, openModel, startServices } from '../services.ts';

/** Rows of equally many ids. @throws GemmoeError naming the file and the row */
function readIds(path: string): number[][] {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new GemmoeError('bad-data', `${path} cannot be read as JSON: ${messageOf(error)}`, 'write [[1, 2, 3], …]');
  }
  if (!Array.isArray(value) || value.length === 0) {
    throw new GemmoeError('bad-data', `${path} holds no rows of ids`, 'write a JSON array of rows: [[1, 2, 3], …]');
  }
  for (const [i, row] of value.entries()) {
    if (!Array.isArray(row) || row.length === 0 || !row.every((id) => Number.isInteger(id))) {
      throw new GemmoeError(
        'bad-data',
        `${path}: row ${i} is ${JSON.stringify(row)?.slice(0, 60)}`,
        'write whole numbers: [1, 2, 3]',
      );
    }
    if (row.length !== (value[0] as number[]).length) {
      throw new GemmoeError(
        'bad-data',
        `${path}: row ${i} has ${row.length} ids, row 0 has ${(value[0] as number[]).length}`,
        'rows of one file are equally long',
      );
    }
  }
  return value as number[][];
}

export const logits: Command = {
  name: 'logits',
  summary: 'print the logits of a model on given ids',
  options: ['model', 'idsFile', 'backend', 'plugin'],
  examples: ['gemmoe logits --model DIR --ids-file ids.json --json > logits.json'],
  async run(context) {
    const { options, terminal, cwd } = context;
    if (options.idsFile === undefined) {
      throw new GemmoeError('usage', 'no ids are named', 'write rows of ids to a JSON file: --ids-file FILE');
    }
    const rows = readIds(resolve(cwd, options.idsFile));
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
