// gemmoe verify: every kernel of every usable backend and precision against the reference.

import { bindKernels } from '../../core/kernels.ts';
import { type Verdict, verifyBackend } from '../../core/verify/verify-backend.ts';
import { createContender, everySpec } from '../bench/machine.ts';
import type { Command } from '../command.ts';
import { table } from '../format.ts';
import { patternOf } from '../pattern.ts';
import { container, loadPlugins } from '../services.ts';

/** A verdict and whose it is. */
interface Line extends Verdict {
  readonly backend: string;
}

/** Small numbers in three figures, 0 as 0. */
function figure(value: number): string {
  if (value === 0) return '0';
  if (!Number.isFinite(value)) return '-';
  return value >= 0.01 && value < 1e4 ? value.toPrecision(2) : value.toExponential(1);
}

/** Worst first within a backend, failures before everything. */
function tableOf(lines: readonly Line[]): string[][] {
  const header = ['kernel', 'cases', 'ulp', 'relative', 'bound', ''];
  const rows = lines.map(({ kernel, cases, ulp, relative, bound, pass }) => [
    ...[kernel, String(cases), figure(ulp), figure(relative), figure(bound)],
    pass ? 'pass' : 'FAIL',
  ]);
  return [header, ...rows];
}

export const verify: Command = {
  name: 'verify',
  summary: 'check every kernel of every usable backend and precision against the reference',
  options: ['backend', 'only', 'plugin'],
  examples: [
    'gemmoe verify',
    'gemmoe verify --backend "accelerate:threads=2;cblas:/usr/lib/libblis.so.4"',
    'gemmoe verify --only "attention|router"',
  ],
  async run(context) {
    const { options, terminal } = context;
    const { BackendRegistry, createContainer } = await container();
    const registry = createContainer({ plugins: await loadPlugins(context) }).get(BackendRegistry);
    const only = patternOf(options.only);
    const specs =
      options.backend === 'auto' ? everySpec(registry) : options.backend.split(';').map((spec) => spec.trim());
    const reference = bindKernels(registry.get('reference').create(''));
    const lines: Line[] = [];
    for (const spec of specs) {
      const { backend } = createContender(registry, spec);
      const found: Line[] = [];
      for (const verdict of verifyBackend(backend, reference, only)) {
        found.push({ backend: spec, ...verdict });
        if (terminal.isInteractive) terminal.live(`${spec}  ${verdict.kernel}`);
      }
      const { instructionSet, threads, precision } = backend.describe();
      backend.close();
      terminal.print(
        `${spec}  (${instructionSet}, ${threads === 1 ? '1 thread' : `${threads} threads`}, ${precision})`,
      );
      for (const line of table(tableOf(found))) terminal.print(line);
      for (const { kernel, worst, fault } of found.filter(({ pass }) => !pass)) {
        terminal.print(`  ${kernel}: ${worst}: ${fault}`);
      }
      terminal.print();
      lines.push(...found);
    }
    const failed = lines.filter(({ pass }) => !pass);
    const cases = lines.reduce((sum, line) => sum + line.cases, 0);
    terminal.print(
      failed.length === 0
        ? `all of ${lines.length} kernels hold, in ${cases} cases`
        : `${failed.length} of ${lines.length} kernels do not hold`,
    );
    terminal.result({ verdicts: lines, passed: failed.length === 0 });
    return failed.length === 0 ? 0 : 1;
  },
};
