// --data PATH:WEIGHT: what is trained on, and how often each is read.

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { GemmoeError } from '../core/errors.ts';

/** A path with a number behind its last colon. */
const WEIGHTED = /^(.+):([-+]?[\d.]+(?:e[-+]?\d+)?|nan|[-+]?inf(?:inity)?)$/i;

/** Paths and weights; a source without a weight beside others that have one counts 1, and without any weight all are one source. */
export function dataFrom(named: readonly string[], cwd: string): { data: string[]; dataWeights: number[] } {
  const parts = named.map((text) => {
    const [, path, weight] = WEIGHTED.exec(text) ?? [];
    // a file may be called so
    if (path === undefined || existsSync(resolve(cwd, text))) return { path: resolve(cwd, text), weight: undefined };
    return { path: resolve(cwd, path), weight: weightOf(weight, text) };
  });
  const data = parts.map(({ path }) => path);
  const isWeighted = parts.length > 1 && parts.some(({ weight }) => weight !== undefined);
  return { data, dataWeights: isWeighted ? parts.map(({ weight }) => weight ?? 1) : [] };
}

function weightOf(text: string, source: string): number {
  const weight = Number(text);
  if (weight > 0 && weight < Infinity) return weight;
  throw new GemmoeError('usage', `--data ${source} has a weight of ${text}`, 'give a positive number, or leave it out');
}
