// The records of a run one by one, so that a report of a long run needs little memory.

import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../../core/errors.ts';
import type { RunRecord } from '../../core/training/events.ts';

const CHUNK = 1 << 20;
const LINE_FEED = 0x0a;

/** The records in order; a half line that a killed process left at the end is passed over. */
export function* metricsOf(runDirectory: string): Generator<RunRecord> {
  const path = join(runDirectory, 'metrics.jsonl');
  if (!existsSync(path)) {
    throw new GemmoeError('not-found', `${path} does not exist`, 'name a folder that `gemmoe train` made');
  }
  let number = 0;
  for (const line of linesOf(path)) {
    number++;
    let record: RunRecord;
    try {
      record = JSON.parse(line) as RunRecord;
    } catch {
      throw new GemmoeError('bad-data', `${path}: line ${number} is not JSON`, 'delete the line');
    }
    yield record;
  }
}

/** Lines that a line feed ends. */
function* linesOf(path: string): Generator<string> {
  const descriptor = openSync(path, 'r');
  try {
    const chunk = Buffer.allocUnsafe(CHUNK);
    let rest = Buffer.alloc(0);
    for (let count = readSync(descriptor, chunk); count > 0; count = readSync(descriptor, chunk)) {
      const bytes = Buffer.concat([rest, chunk.subarray(0, count)]);
      let start = 0;
      for (let end = bytes.indexOf(LINE_FEED); end >= 0; end = bytes.indexOf(LINE_FEED, start)) {
        yield bytes.toString('utf8', start, end);
        start = end + 1;
      }
      rest = bytes.subarray(start);
    }
  } finally {
    closeSync(descriptor);
  }
}
