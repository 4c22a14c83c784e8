// RUN/metrics.jsonl: one record a line, appended as things happen, cut back to the checkpoint when a run resumes.

import { closeSync, existsSync, fsyncSync, ftruncateSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import type { RunRecord } from './events.ts';

const FILE = 'metrics.jsonl';

/** Appends records to a run's metrics. */
export class MetricsLog {
  private readonly descriptor: number;
  private length: number;

  /** @param keepBytes what is kept of an existing file: its length at the checkpoint that the run goes on from */
  constructor(runDirectory: string, keepBytes: number) {
    this.descriptor = openSync(join(runDirectory, FILE), 'a');
    this.length = Math.min(keepBytes, fstatSync(this.descriptor).size);
    ftruncateSync(this.descriptor, this.length);
  }

  /** Bytes written. */
  get bytes(): number {
    return this.length;
  }

  append(record: RunRecord): void {
    this.length += writeSync(this.descriptor, `${JSON.stringify(record)}\n`);
  }

  /** Makes what was appended outlive a power cut. */
  flush(): void {
    fsyncSync(this.descriptor);
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

/** The records of a run; a half line that a killed process left at the end is passed over. */
export function readMetrics(runDirectory: string): RunRecord[] {
  const path = join(runDirectory, FILE);
  if (!existsSync(path)) throw new GemmoeError('not-found', `${path} does not exist`, 'name a folder that train made');
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.pop(); // empty after the last line feed, or the half line
  return lines.map((line, i) => {
    try {
      return JSON.parse(line) as RunRecord;
    } catch {
      throw new GemmoeError('bad-data', `${path}: line ${i + 1} is not JSON`, 'delete the line');
    }
  });
}
