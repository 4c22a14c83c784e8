// The tokenizer that the options mean.

import { resolve } from 'node:path';
import type { OptionValues } from './options.ts';

/** Kinds that are made from the data; anything else is a path. */
const KINDS = ['byte', 'character', 'bpe'];

/** A kind, or a path as seen from `cwd`. The bpe preset wants a bpe tokenizer, all else reads characters unless told. */
export function chosenTokenizer({ tokenizer, preset }: OptionValues, cwd: string): string {
  if (tokenizer === undefined) return preset === 'bpe' ? 'bpe' : 'character';
  return KINDS.includes(tokenizer) ? tokenizer : resolve(cwd, tokenizer);
}
