// The report of a run folder: out of run.json and metrics.jsonl.

import { join } from 'node:path';
import { writeFileAtomic } from '../../core/formats/atomic-files.ts';
import { readMetrics } from '../../core/training/metrics-log.ts';
import { readRunSettings } from '../../core/training/run-folder.ts';
import { renderReport } from './render-report.ts';

/** Writes RUN/report.html; its path. @throws GemmoeError when the folder is no run */
export function writeReport(runDirectory: string): string {
  const path = join(runDirectory, 'report.html');
  writeFileAtomic(path, renderReport(readRunSettings(runDirectory), readMetrics(runDirectory)));
  return path;
}
