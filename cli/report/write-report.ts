// The report of a run folder, or of several: out of run.json and metrics.jsonl.

import { basename, dirname, join, relative, resolve } from 'node:path';
import { makeDirectory, writeFileAtomic } from '../../core/formats/atomic-files.ts';
import { readRunSettings } from '../../core/training/run-folder.ts';
import { metricsOf } from './read-metrics.ts';
import { renderComparison } from './render-comparison.ts';
import { renderReport } from './render-report.ts';

/** Writes a run's report, to RUN/report.html when nothing is said; its path. @throws GemmoeError when the folder is no run */
export function writeReport(runDirectory: string, path = join(runDirectory, 'report.html')): string {
  const name = basename(resolve(runDirectory));
  const page = renderReport(name, readRunSettings(runDirectory), metricsOf(runDirectory));
  makeDirectory(dirname(path));
  writeFileAtomic(path, page);
  return path;
}

/**
 * Writes a page that compares runs, to comparison.html beside the first when nothing is said; its path.
 * @throws GemmoeError when one of the folders is no run
 */
export function writeComparison(runDirectories: readonly string[], path?: string): string {
  const target = path ?? join(dirname(runDirectories[0]), 'comparison.html');
  const names = shortNames(runDirectories);
  const page = renderComparison(
    runDirectories.map((directory, i) => ({
      name: names[i],
      settings: readRunSettings(directory),
      records: metricsOf(directory),
    })),
  );
  makeDirectory(dirname(target));
  writeFileAtomic(target, page);
  return target;
}

/** Names of the folders; where two are alike, their paths from the folder that they have in common. */
function shortNames(directories: readonly string[]): string[] {
  const names = directories.map((directory) => basename(directory));
  if (new Set(names).size === names.length) return names;
  let common = dirname(directories[0]);
  while (directories.some((directory) => relative(common, directory).startsWith('..'))) common = dirname(common);
  return directories.map((directory) => relative(common, directory));
}
