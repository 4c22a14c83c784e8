// What a refused action says.

import { GemmoeError } from '../../core/errors.ts';

/** The GemmoeError that `action` throws; other errors pass through. @throws when nothing is refused */
export function refusal(action: () => unknown): GemmoeError {
  try {
    action();
  } catch (error) {
    if (error instanceof GemmoeError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}
