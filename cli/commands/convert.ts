// gemmoe convert: a model directory in another storage type, other shards, or another format.

import { GemmoeError } from '../../core/errors.ts';
import { convertDirectory } from '../../core/formats/convert.ts';
import { exportGguf } from '../../core/formats/gguf/export.ts';
import { FLOAT_TYPES } from '../../core/formats/stored-values.ts';
import type { Command, CommandContext } from '../command.ts';
import { bytes, duration, grouped } from '../format.ts';
import { liveProgress, sourceAndOutput, storedType } from '../model-files.ts';

/** --dtype as GGUF's types. */
const GGUF_TYPES = { ...FLOAT_TYPES, q8_0: 'Q8_0' } as const;

/** A GGUF file is one file. */
function refuseUnread({ options, flagged }: CommandContext): void {
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
  options: ['to', 'dtype', 'maxShardSize', 'force'],
  examples: [
    'gemmoe convert runs/mine half --dtype bf16',
    'gemmoe convert runs/mine mine.gguf --to gguf --dtype q8_0',
    'gemmoe convert DIR OUT --max-shard-size 2GB',
  ],
  async run(context) {
    const { options, terminal } = context;
    const { source, target } = sourceAndOutput(context);
    refuseUnread(context);
    const start = performance.now();
    const common = { replace: options.force, onProgress: liveProgress(context) };
    const summary =
      options.to === 'gguf'
        ? exportGguf(source, target, { ...common, type: options.dtype && GGUF_TYPES[options.dtype] })
        : convertDirectory(source, target, {
            ...common,
            dtype: storedType(options),
            maxShardBytes: options.maxShardSize,
          });
    terminal.clearLive();
    const seconds = (performance.now() - start) / 1000;
    terminal.print(
      `${context.output}: ${grouped(summary.tensors)} tensors, ${bytes(summary.bytesBefore)} -> ${bytes(summary.bytesAfter)} in ${duration(seconds)}`,
    );
    for (const note of summary.notes) terminal.note(`note: ${note}`);
    terminal.result({ source, target, ...summary, seconds });
    return 0;
  },
};
