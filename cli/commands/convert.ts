// gemmoe convert: a model directory in another storage type, other shards, or another format.

import { convertDirectory } from '../../core/formats/convert.ts';
import type { Command } from '../command.ts';
import { bytes, duration, grouped } from '../format.ts';
import { liveProgress, sourceAndOutput, storedType } from '../model-files.ts';

export const convert: Command = {
  name: 'convert',
  summary: 'write a model in another storage type, other shards, or as GGUF',
  positional: { name: 'DIR', description: 'a model directory or a run folder' },
  output: { name: 'OUT', description: 'folder to write' },
  options: ['dtype', 'maxShardSize', 'force'],
  examples: ['gemmoe convert runs/mine half --dtype bf16', 'gemmoe convert DIR OUT --max-shard-size 2GB'],
  async run(context) {
    const { options, terminal } = context;
    const { source, target } = sourceAndOutput(context);
    const start = performance.now();
    const summary = convertDirectory(source, target, {
      dtype: storedType(options),
      maxShardBytes: options.maxShardSize,
      replace: options.force,
      onProgress: liveProgress(context),
    });
    terminal.clearLive();
    const seconds = (performance.now() - start) / 1000;
    terminal.print(
      `${context.output}: ${grouped(summary.tensors)} tensors, ${bytes(summary.bytesBefore)} -> ${bytes(summary.bytesAfter)} in ${duration(seconds)}`,
    );
    terminal.result({ source, target, ...summary, seconds });
    return 0;
  },
};
