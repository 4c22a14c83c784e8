// gemmoe init: a model directory of random weights.

import { resolve } from 'node:path';
import { byteTokenizer } from '../../core/data/bpe-tokenizer.ts';
import type { Tokenizer } from '../../core/data/tokenizer.ts';
import { loadTokenizer } from '../../core/data/tokenizers.ts';
import { GemmoeError } from '../../core/errors.ts';
import { initDirectory } from '../../core/formats/init-directory.ts';
import { PRESETS } from '../../core/model/presets.ts';
import { Transformer } from '../../core/model/transformer.ts';
import type { Command, CommandContext } from '../command.ts';
import { bytes, duration, grouped, scaled } from '../format.ts';
import { liveProgress, storedType } from '../model-files.ts';
import { shapeFrom } from '../model-shape.ts';
import { startServices } from '../services.ts';

/** The tokenizer that --tokenizer names; one that is made from text cannot be made here. */
function namedTokenizer({ options, cwd }: CommandContext): Tokenizer | undefined {
  const { tokenizer } = options;
  if (tokenizer === undefined) return undefined;
  if (tokenizer === 'byte') return byteTokenizer();
  if (tokenizer === 'character' || tokenizer === 'bpe') {
    throw new GemmoeError(
      'usage',
      `a ${tokenizer} tokenizer is made from text, and init reads none`,
      'make one with `gemmoe prepare`, and name its tokenizer.json: --tokenizer prepared/tokenizer.json',
    );
  }
  return loadTokenizer(resolve(cwd, tokenizer));
}

export const init: Command = {
  name: 'init',
  summary: 'write a model directory of random weights, of any size',
  positional: { name: 'OUT', description: 'folder to write' },
  options: [
    'preset',
    'hiddenSize',
    'layers',
    'heads',
    'kvHeads',
    'headDim',
    'experts',
    'expertsPerToken',
    'expertWidth',
    'maxSequenceLength',
    'ropeTheta',
    'ropeAlpha',
    'auxLoss',
    'auxLossReduction',
    'tokenizer',
    'seed',
    'dtype',
    'maxShardSize',
    'force',
    'backend',
    'plugin',
  ],
  examples: [
    'gemmoe init big --preset default6_9b --dtype bf16',
    'gemmoe init fresh --preset bpe --tokenizer prepared/tokenizer.json',
  ],
  async run(context) {
    const { options, terminal, positional, cwd } = context;
    if (positional === undefined)
      throw new GemmoeError('usage', 'no folder to write is named', 'name one: gemmoe init OUT');
    if (options.preset === undefined) {
      throw new GemmoeError('usage', 'no shape is named', `choose one: --preset ${Object.keys(PRESETS).join(', ')}`);
    }
    const tokenizer = namedTokenizer(context);
    const base = PRESETS[options.preset].config;
    const config = shapeFrom(options, {
      ...base,
      vocabSize: tokenizer?.vocabSize ?? base.vocabSize,
      maxSequenceLength: options.maxSequenceLength ?? base.maxSequenceLength,
    });
    using services = await startServices(context);
    // the model names its parameters and fills them; nothing of it is allocated
    const model = new Transformer(config, services.kernels);
    const directory = resolve(cwd, positional);
    const start = performance.now();
    let written = 0;
    const show = liveProgress(context);
    initDirectory(directory, model, {
      seed: options.seed,
      dtype: storedType(options) ?? 'F32',
      tokenizer,
      maxShardBytes: options.maxShardSize,
      replace: options.force,
      onProgress: (done, total) => {
        written = done;
        show(done, total);
      },
    });
    terminal.clearLive();
    const parameters = model.parameters.total;
    const seconds = (performance.now() - start) / 1000;
    terminal.print(
      `${positional}: ${grouped(parameters)} parameters (${scaled(parameters)}), ${bytes(written)} in ${duration(seconds)}`,
    );
    terminal.result({ directory, config, parameters, bytes: written, seed: options.seed, seconds });
    return 0;
  },
};
