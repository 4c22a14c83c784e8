#!/usr/bin/env node
// The program: runs one command and sets the exit code.

import { run } from './run.ts';

// a reader that has seen enough, as in `gemmoe … | head`, is no error
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await run(process.argv.slice(2), { env: process.env, cwd: process.cwd() });
// a BLAS keeps threads, and signal handlers keep the loop: what is written is flushed, so this is the end
process.stdout.write('', () => process.stderr.write('', () => process.exit()));
