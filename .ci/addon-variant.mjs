// node .ci/addon-variant.mjs OUTPUT [--compiler NAME] [--arch NAME] [--emulate-tiles] [-- FLAG…]: builds the addon another way.

import { parseArgs } from 'node:util';
import { buildAddon } from '../dist/backends/accelerate/build.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { compiler: { type: 'string' }, arch: { type: 'string' }, 'emulate-tiles': { type: 'boolean' } },
});
const [output, ...flags] = positionals;
const { problem, levels, seconds } = await buildAddon({
  output,
  flags,
  emulateTiles: values['emulate-tiles'] ?? false,
  ...(values.compiler && { compiler: values.compiler }),
  ...(values.arch && { arch: values.arch }),
});
if (problem !== null) throw new Error(problem);
process.stdout.write(`built ${levels.join(', ')} in ${seconds.toFixed(1)} s\n`);
