// gemmoe bench: how fast the kernels and models are here, on one backend or several side by side.

import { resolve } from 'node:path';
import type { BackendContribution } from '../../core/backend.ts';
import { GemmoeError, nearestName } from '../../core/errors.ts';
import { writeFileAtomic } from '../../core/formats/atomic-files.ts';
import { loadModel } from '../../core/formats/hugging-face.ts';
import { PRESETS } from '../../core/model/presets.ts';
import type { Registry } from '../../core/registry.ts';
import { modelDirectoryOf } from '../../core/training/checkpoint.ts';
import { runAxes } from '../bench/axes.ts';
import { type Contender, createContender, everySpec, measureR, metadataOf } from '../bench/machine.ts';
import { benchPage } from '../bench/page.ts';
import { speedLines } from '../bench/speed.ts';
import { decodeRow, gemmRows, modelRow, type Row } from '../bench/suites.ts';
import {
  axesBars,
  axesTable,
  type Bars,
  markdown,
  type Measure,
  rowBars,
  rowsTable,
  speedTable,
} from '../bench/tables.ts';
import { STANDARD, type Trials } from '../bench/timing.ts';
import { CASES, makeModel } from '../bench/workload.ts';
import type { Command, CommandContext } from '../command.ts';
import { table } from '../format.ts';
import { shapeFrom } from '../model-shape.ts';
import { patternOf } from '../pattern.ts';
import { container, loadPlugins } from '../services.ts';

/** What a suite gives: a table, bars where it has some, and its part of the JSON. */
interface Findings {
  readonly table: string[][];
  readonly bars: readonly Bars[];
  readonly json: Record<string, unknown>;
}

/** What suites work with. */
interface Setting {
  readonly context: CommandContext;
  readonly registry: Registry<BackendContribution>;
  readonly specs: readonly string[];
  readonly contenders: readonly Contender[];
  readonly trials: Trials;
  readonly only: RegExp;
  readonly r: number | null;
  progress(text: string): void;
}

const FEW: Trials = { warmUps: 2, trials: 5 };

function rowFindings({ specs, r }: Setting, rows: readonly Row[], measure: Measure): Findings {
  const found = rows.map(({ timings, ...row }) => ({
    ...row,
    timings: Object.fromEntries(specs.map((spec, i) => [spec, timings[i]])),
  }));
  return { table: rowsTable(specs, rows, measure, r), bars: rowBars(rows), json: { rows: found } };
}

const SUITES: Readonly<Record<string, (setting: Setting) => Promise<Findings> | Findings>> = {
  async axes({ specs, trials, only, progress }) {
    const records = await runAxes(specs, trials, only, progress);
    const json =
      specs.length === 1
        ? { scenarios: records[0] }
        : { scenarios: Object.fromEntries(specs.map((spec, i) => [spec, records[i]])) };
    return { table: axesTable(specs, records), bars: axesBars(records), json };
  },

  gemm: (setting) => rowFindings(setting, gemmRows(setting.contenders, setting.only, setting.trials), 'gflops'),

  train(setting) {
    const { context, contenders, trials, progress } = setting;
    const { preset, batchSize, sequenceLength } = context.options;
    const named = preset === undefined ? Object.values(CASES) : [];
    const shape = preset === undefined ? [] : [ownWorkload(context, preset, batchSize ?? 8, sequenceLength ?? 64)];
    const rows = [...named, ...shape]
      .filter(({ description }) => setting.only.test(description))
      .map((workload) => {
        progress(workload.description);
        const few =
          workload.config.hiddenSize >= 512 ? { ...FEW, trials: Math.min(FEW.trials, trials.trials) } : trials;
        return modelRow(contenders, workload, 'train', few);
      });
    return rowFindings(setting, rows, 'step');
  },

  decode(setting) {
    const { context, contenders, trials, progress } = setting;
    const { model, preset = 'small' } = context.options;
    const models = contenders.map(({ kernels }) =>
      model === undefined
        ? makeModel(shapeFrom(context.options, presetNamed(preset)), kernels)
        : loadModel(modelDirectoryOf(resolve(context.cwd, model)), kernels).model,
    );
    const rows = [1, 4, 16].map((batch) => {
      progress(`batch ${batch}`);
      return decodeRow(contenders, models, batch, trials);
    });
    return rowFindings(setting, rows, 'tokens');
  },

  async speed({ registry, r, trials, only, progress }) {
    if (r === null)
      throw new GemmoeError('unavailable', 'without a BLAS there is no R to measure by', 'install OpenBLAS');
    const lines = await speedLines(registry, r, trials, only, progress);
    return { table: speedTable(lines), bars: [], json: { lines } };
  },
};

function presetNamed(name: string) {
  return PRESETS[name].config;
}

function ownWorkload(context: CommandContext, preset: string, batch: number, length: number) {
  const shaped = shapeFrom(context.options, presetNamed(preset));
  const config = { ...shaped, maxSequenceLength: Math.max(shaped.maxSequenceLength, length) };
  return { config, batch, length, description: `${preset}, B${batch} T${length}` };
}

/** The suite that is asked for. @throws GemmoeError with the nearest name */
function suiteNamed(name: string | undefined): (typeof SUITES)[string] {
  if (name !== undefined && Object.hasOwn(SUITES, name)) return SUITES[name];
  const nearest = name === undefined ? undefined : nearestName(name, Object.keys(SUITES));
  throw new GemmoeError(
    'usage',
    name === undefined ? 'no suite is named' : `there is no suite "${name}"`,
    `${nearest ? `did you mean "${nearest}"? ` : ''}suites: ${Object.keys(SUITES).join(', ')}`,
  );
}

/** Backends that --backend lists; for `gemm` every one that is usable, with its precisions. */
function specsOf(suite: string, text: string, registry: Registry<BackendContribution>): string[] {
  if (text !== 'auto') return text.split(';').map((spec) => spec.trim());
  const all = everySpec(registry).filter((spec) => suite !== 'gemm' || !spec.startsWith('checked'));
  return suite === 'gemm' ? all.filter((spec) => spec !== 'reference') : [all[0]];
}

export const bench: Command = {
  name: 'bench',
  summary: 'measure how fast kernels and models run here, backends side by side',
  positional: { name: 'SUITE', description: `${Object.keys(SUITES).join(', ')}` },
  options: [
    ...(['backend', 'trials', 'only', 'html', 'markdown', 'plugin'] as const),
    ...(['model', 'preset', 'batchSize', 'sequenceLength', 'hiddenSize', 'layers', 'heads', 'kvHeads'] as const),
    ...(['headDim', 'experts', 'expertsPerToken', 'expertWidth'] as const),
  ],
  examples: [
    'gemmoe bench axes',
    'gemmoe bench gemm',
    'gemmoe bench train --backend "accelerate:threads=2;cblas"',
    'gemmoe bench speed --markdown',
  ],
  async run(context) {
    const { options, terminal, positional } = context;
    const suite = suiteNamed(positional);
    const only = patternOf(options.only);
    const { BackendRegistry, createContainer } = await container();
    const registry = createContainer({ plugins: await loadPlugins(context) }).get(BackendRegistry);
    const { flops: r, note } = measureR(registry);
    const specs = specsOf(positional ?? '', options.backend, registry);
    const contenders = specs.map((spec) => createContender(registry, spec));
    const progress = (text: string) => (terminal.isInteractive ? terminal.live(text) : undefined);
    const trials = { ...STANDARD, trials: options.trials };
    const metadata = metadataOf(contenders, r);
    const findings = await suite({ context, registry, specs, contenders, trials, only, r, progress });
    for (const { backend } of contenders) backend.close();
    terminal.note(
      r === null ? (note ?? '') : `R = ${(r / 1e9).toFixed(1)} GFLOP/s; load ${metadata.load_average.toFixed(1)}`,
    );
    for (const line of options.markdown ? markdown(findings.table) : table(findings.table)) terminal.print(line);
    if (options.html !== undefined) {
      const file = resolve(context.cwd, options.html);
      writeFileAtomic(file, benchPage(positional ?? '', metadata, specs, findings.bars));
      terminal.note(`chart ${file}`);
    }
    terminal.result({ metadata, ...findings.json });
    return 0;
  },
};
