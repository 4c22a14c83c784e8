// What the commands that write model directories share.

import { resolve } from 'node:path';
import { GemmoeError } from '../core/errors.ts';
import { FLOAT_TYPES, type FloatType } from '../core/formats/stored-values.ts';
import type { Progress } from '../core/formats/weight-files.ts';
import { modelDirectoryOf } from '../core/training/checkpoint.ts';
import type { CommandContext } from './command.ts';
import { bytes } from './format.ts';
import type { OptionValues } from './options.ts';

/** The model directory that is read and the path that is written, both named without a flag. */
export function sourceAndOutput({ positional, output, cwd }: CommandContext): { source: string; target: string } {
  const named = positional === undefined ? undefined : modelDirectoryOf(resolve(cwd, positional));
  if (named === undefined || output === undefined) {
    throw new GemmoeError(
      'usage',
      named === undefined ? 'no model is named' : 'nothing to write is named',
      'name the model directory that is read, then what is written: DIR OUT',
    );
  }
  return { source: named, target: resolve(cwd, output) };
}

/** --dtype as a type of safetensors. @throws GemmoeError for a type that only GGUF has */
export function storedType({ dtype }: OptionValues): FloatType | undefined {
  if (dtype !== 'q8_0') return dtype && FLOAT_TYPES[dtype];
  throw new GemmoeError('usage', '--dtype q8_0 is a type of GGUF files', 'add --to gguf, or choose f32, bf16 or f16');
}

const BAR = 24;

/** Shows how far reading or writing is where a line can be rewritten, ten times a second at most. */
export function liveProgress({ terminal }: CommandContext, what = 'writing'): Progress {
  let shown = 0;
  const start = performance.now();
  return (done, total) => {
    const now = performance.now();
    if (!terminal.isInteractive || now - shown < 100) return;
    shown = now;
    const rate = done / ((now - start) / 1000);
    const filled = Math.round((BAR * done) / Math.max(1, total));
    const bar = '#'.repeat(filled) + '-'.repeat(BAR - filled);
    terminal.live(`${what} [${bar}] ${bytes(done)} of ${bytes(total)}, ${(rate / 1e9).toFixed(2)} GB/s`);
  };
}
