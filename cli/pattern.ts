// --only: which cases of a benchmark or a verification run.

import { GemmoeError } from '../core/errors.ts';

/** A part of names, or a regular expression; everything where there is none. @throws GemmoeError (usage) for one that is none */
export function patternOf(text: string | undefined): RegExp {
  try {
    return new RegExp(text ?? '', 'i');
  } catch {
    throw new GemmoeError('usage', `--only ${text} is no pattern`, 'give a part of the names, or a regular expression');
  }
}
