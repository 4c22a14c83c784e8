// gemmoe inspect: what a model or a preset is made of, and what it takes to run and to train.

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { ReferenceBackend } from '../../backends/index.ts';
import { GemmoeError, nearestName } from '../../core/errors.ts';
import { readModelConfig } from '../../core/formats/hugging-face.ts';
import type { ModelConfig } from '../../core/model/config.ts';
import { activeParameters, parameterCounts, totalParameters } from '../../core/model/parameter-counts.ts';
import { bindKernels } from '../../core/kernels.ts';
import { Transformer } from '../../core/model/transformer.ts';
import { PRESETS } from '../../core/model/presets.ts';
import { modelDirectoryOf } from '../../core/training/checkpoint.ts';
import { trainingFlopsPerToken } from '../../core/training/plan.ts';
import type { Command, CommandContext } from '../command.ts';
import { bytes, grouped, percent, scaled, table } from '../format.ts';
import { inspectGguf } from '../inspect-gguf.ts';

function findConfig({ positional, options, cwd }: CommandContext): { name: string; config: ModelConfig } {
  const name = positional ?? options.model ?? options.preset;
  if (name === undefined)
    throw new GemmoeError('usage', 'nothing to inspect is named', 'name a model directory or a preset');
  if (Object.hasOwn(PRESETS, name)) return { name, config: PRESETS[name].config };
  const path = resolve(cwd, name);
  if (existsSync(path)) return { name, config: readModelConfig(modelDirectoryOf(path)).config };
  const nearest = nearestName(name, Object.keys(PRESETS));
  throw new GemmoeError(
    'not-found',
    `${name} is neither a folder nor a preset`,
    `${nearest ? `did you mean "${nearest}"? ` : ''}presets: ${Object.keys(PRESETS).join(', ')}`,
  );
}

/** Bytes of a float32. */
const F32 = 4;

export const inspect: Command = {
  name: 'inspect',
  summary: 'show parameters, memory and cost of a model directory or a preset',
  positional: {
    name: 'DIR|PRESET',
    description: `a model directory, a run folder, a .gguf file, or ${Object.keys(PRESETS).join(', ')}`,
  },
  options: ['model', 'preset', 'batchSize', 'sequenceLength', 'checkpointEvery'],
  examples: ['gemmoe inspect default6_9b', 'gemmoe inspect runs/mine --json'],
  async run(context) {
    const { options, terminal } = context;
    if (context.positional?.endsWith('.gguf')) {
      inspectGguf(resolve(context.cwd, context.positional), terminal);
      return 0;
    }
    const { name, config } = findConfig(context);
    const total = totalParameters(config);
    const active = activeParameters(config);
    const byPart = parameterCounts(config);
    const T = options.sequenceLength ?? Math.min(config.maxSequenceLength, 512);
    const B = options.batchSize ?? 1;
    const cachePerToken = 2 * config.numLayers * config.numKvHeads * config.headDim * F32;
    // no product is computed: the model only counts its buffers
    const kernels = bindKernels(new ReferenceBackend());
    const memory = {
      run: total * F32 + cachePerToken * T * B,
      train: total * F32 * 4 + new Transformer(config, kernels).trainingBytes(B, T, options.checkpointEvery),
      kvCachePerToken: cachePerToken,
    };
    const flops = {
      trainPerToken: trainingFlopsPerToken(config, T),
      generatePerToken: trainingFlopsPerToken(config, T) / 3,
    };
    terminal.result({ name, config, parameters: { total, active, byPart }, memory, flops });
    terminal.print(
      `${name}: ${grouped(total)} parameters (${scaled(total)}), ${grouped(active)} active (${scaled(active)})`,
    );
    terminal.print();
    for (const line of table(
      Object.entries(byPart)
        .filter(([, count]) => count > 0)
        .map(([part, count]) => [part, grouped(count), percent(count, total)]),
    )) {
      terminal.print(line);
    }
    terminal.print();
    const shape: [string, string][] = [
      ['to run', `${bytes(memory.run)} (float32, ${B} x ${grouped(T)} tokens in the cache)`],
      ['to train', `${bytes(memory.train)} (weights, gradients, two moments, activations of ${B} x ${grouped(T)})`],
      ['cache', `${bytes(cachePerToken)} a token`],
      ['training', `${scaled(flops.trainPerToken, 'G')}FLOP a token`],
    ];
    for (const line of table(shape)) terminal.print(line);
    terminal.print();
    for (const line of table(
      Object.entries(config).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
    ))
      terminal.print(line);
    return 0;
  },
};
