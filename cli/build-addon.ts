// `npm run build` after the TypeScript compiler: builds the accelerate backend's addon, and survives what keeps it from it.

import { buildAddon } from '../backends/accelerate/build.ts';

const { problem, fresh, seconds, levels } = await buildAddon();
if (problem !== null) {
  process.stderr.write(
    `gemmoe: the accelerate backend was not built: ${problem}. Everything runs on cblas or reference.\n`,
  );
} else if (!fresh) {
  process.stderr.write(`gemmoe: built the accelerate backend in ${seconds.toFixed(1)} s for ${levels.join(', ')}\n`);
}
