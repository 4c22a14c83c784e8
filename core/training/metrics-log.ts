// RUN/metrics.jsonl: one record a line, appended as things happen, cut back to the checkpoint when a run resumes.

import { closeSync, existsSync, fsyncSync, ftruncateSync, fstatSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import type { EvaluationRecord, RunRecord } from './events.ts';

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

/**
 * What a run's metrics were before it ended at `step`: their length, and the best validation so far. A run that was killed behind its
 * last checkpoint makes its end once more, and leaves it once.
 */
export function beforeTheEnd(runDirectory: string, metricsBytes: number, step: number) {
  const path = join(runDirectory, FILE);
  const text = existsSync(path) ? readFileSync(path).subarray(0, metricsBytes).toString() : '';
  let bytes = 0;
  let best: EvaluationRecord | null = null;
  for (const line of text.split('\n').slice(0, -1)) {
    const record = JSON.parse(line) as RunRecord;
    if (record.kind !== 'step' && record.step >= step) break;
    bytes += Buffer.byteLength(line) + 1;
    if (record.kind === 'evaluation' && record.best) best = record;
  }
  return { metricsBytes: bytes, best };
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
