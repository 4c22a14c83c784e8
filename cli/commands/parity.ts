// gemmoe parity: our logits against those that another program dumped.

import { resolve } from 'node:path';
import { GemmoeError } from '../../core/errors.ts';
import { compareWithDump, type Parity, readDump } from '../../core/formats/parity.ts';
import type { Command, ExitCode } from '../command.ts';
import { table } from '../format.ts';
import { backendLine, backendOf, openModel, startServices } from '../services.ts';

function lines({ maxAbs, meanAbs, topOneAgreement, firstDiffering, tolerance, passed }: Parity): string[] {
  const first = firstDiffering;
  return table([
    ['largest difference', `${maxAbs.toExponential(2)} (${tolerance.toExponential(2)} passes)`],
    ['mean difference', meanAbs.toExponential(2)],
    ['same likeliest id', `${(100 * topOneAgreement).toFixed(2)} % of the positions`],
    [
      'first beyond',
      first
        ? `row ${first.row}, position ${first.position}, id ${first.id}: ${first.ours} here, ${first.theirs} there`
        : 'none',
    ],
    ['verdict', passed ? 'passed' : 'failed'],
  ]);
}

export const parity: Command = {
  name: 'parity',
  summary: 'compare logits with those that another program dumped',
  positional: { name: 'DIR', description: 'a model directory or a run folder' },
  options: ['model', 'adapter', 'against', 'idsFile', 'tolerance', 'weights', 'backend', 'plugin'],
  examples: [
    'gemmoe parity DIR --against dump.safetensors',
    'gemmoe parity DIR --against logits.npy --ids-file input_ids.npy',
  ],
  async run(context): Promise<ExitCode> {
    const { options, terminal, cwd, positional } = context;
    if (options.against === undefined) {
      throw new GemmoeError('usage', 'no dump is named', 'name the logits to compare with: --against FILE');
    }
    const idsPath = options.idsFile === undefined ? undefined : resolve(cwd, options.idsFile);
    const dump = readDump(resolve(cwd, options.against), idsPath);
    using services = await startServices(context);
    const named = { ...options, model: positional ?? options.model };
    const { model, directory } = openModel({ ...context, options: named }, services.kernels);
    const { vocabSize } = model.config;
    if (dump.vocabSize !== vocabSize) {
      throw new GemmoeError(
        'bad-data',
        `the dump has ${dump.vocabSize} logits a position, the model ${vocabSize}`,
        'are both of one model, and the logits not cut to the tokenizer?',
      );
    }
    const result = compareWithDump(dump, (ids) => model.forward(ids, 1, ids.length), options.tolerance);
    const [rows, length] = [dump.ids.length, dump.ids[0].length];
    terminal.print(`${directory}: ${rows} x ${length} positions, logits in ${dump.type}; ${backendLine(services)}`);
    for (const line of lines(result)) terminal.print(line);
    terminal.result({ model: directory, rows, length, type: dump.type, ...result, backend: backendOf(services) });
    return result.passed ? 0 : 1;
  },
};
