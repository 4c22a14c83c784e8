// gemmoe convert: a model directory in another storage type, other shards, or another format.

import { resolve } from 'node:path';
import { GemmoeError } from '../../core/errors.ts';
import { convertDirectory } from '../../core/formats/convert.ts';
import { exportGguf } from '../../core/formats/gguf/export.ts';
import { FLOAT_TYPES } from '../../core/formats/stored-values.ts';
import { adapterDirectoryOf } from '../../core/training/checkpoint.ts';
import type { Command, CommandContext } from '../command.ts';
import { bytes, duration, grouped } from '../format.ts';
import { liveProgress, sourceAndOutput, storedType } from '../model-files.ts';
import { startServices } from '../services.ts';

/** --dtype as GGUF's types. */
const GGUF_TYPES = { ...FLOAT_TYPES, q8_0: 'Q8_0' } as const;

/** A GGUF file is one file, made of a model directory as it is. */
function refuseUnread({ options, flagged }: CommandContext): void {
  if (options.to === 'gguf' && options.mergeAdapter !== undefined) {
    throw new GemmoeError(
      'usage',
      '--merge-adapter has no meaning with --to gguf',
      'merge into a model directory first, and convert that',
    );
  }
  if (options.to !== 'gguf' || !flagged.includes('maxShardSize')) return;
  throw new GemmoeError(
    'usage',
    '--max-shard-size has no meaning with --to gguf',
    'leave it out: a GGUF file is one file',
  );
}

export const convert: Command = {
  name: 'convert',
  summary: 'write a model in another storage type, other shards, or as GGUF',
  positional: { name: 'DIR', description: 'a model directory or a run folder' },
  output: { name: 'OUT', description: 'folder to write; a file with --to gguf' },
  options: ['to', 'dtype', 'mergeAdapter', 'maxShardSize', 'force'],
  examples: [
    'gemmoe convert runs/mine half --dtype bf16',
    'gemmoe convert runs/mine mine.gguf --to gguf --dtype q8_0',
    'gemmoe convert DIR OUT --max-shard-size 2GB',
    'gemmoe convert DIR OUT --merge-adapter runs/tuned',
  ],
  async run(context) {
    const { options, terminal } = context;
    const { source, target } = sourceAndOutput(context);
    refuseUnread(context);
    const { mergeAdapter } = options;
    using services = mergeAdapter === undefined ? undefined : await startServices(context);
    const merge =
      services && mergeAdapter !== undefined
        ? { adapter: adapterDirectoryOf(resolve(context.cwd, mergeAdapter)), kernels: services.kernels }
        : undefined;
    const start = performance.now();
    const common = { replace: options.force, onProgress: liveProgress(context) };
    const summary =
      options.to === 'gguf'
        ? exportGguf(source, target, { ...common, type: options.dtype && GGUF_TYPES[options.dtype] })
        : convertDirectory(source, target, {
            ...common,
            merge,
            dtype: storedType(options),
            maxShardBytes: options.maxShardSize,
          });
    terminal.clearLive();
    const seconds = (performance.now() - start) / 1000;
    terminal.print(
      `${context.output}: ${grouped(summary.tensors)} tensors, ${bytes(summary.bytesBefore)} -> ${bytes(summary.bytesAfter)} in ${duration(seconds)}`,
    );
    for (const note of summary.notes) terminal.note(`note: ${note}`);
    terminal.result({ source, target, ...(merge && { adapter: merge.adapter }), ...summary, seconds });
    return 0;
  },
};
