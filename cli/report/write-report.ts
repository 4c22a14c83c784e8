// The report of a run folder: out of run.json and metrics.jsonl.

import { basename, join, resolve } from 'node:path';
import { writeFileAtomic } from '../../core/formats/atomic-files.ts';
import { readRunSettings } from '../../core/training/run-folder.ts';
import { metricsOf } from './read-metrics.ts';
import { renderReport } from './render-report.ts';

/** Writes RUN/report.html; its path. @throws GemmoeError when the folder is no run */
export function writeReport(runDirectory: string): string {
  const path = join(runDirectory, 'report.html');
  const name = basename(resolve(runDirectory));
  writeFileAtomic(path, renderReport(name, readRunSettings(runDirectory), metricsOf(runDirectory)));
  return path;
}
