// What the tokenizing worker and the training thread share: a file that grows, and counts of its tokens.
//
// The worker appends tokens to the file, 4 bytes each, and publishes how many there are; it stops when it is far enough ahead of
// what has been asked for. The reader asks, waits until they are there, and reads them by position. So what is read depends on
// the text alone, however fast either side is.

import type { LossOn } from './chat-rendering.ts';
import type { TextSize } from './split.ts';

/** Places in the shared counts, 64-bit integers. */
export const PRODUCED = 0;
export const REQUESTED = 1;
export const STATE = 2;
export const COUNTS = 3;

/** Values of STATE. */
export const RUNNING = 0n;
export const FINISHED = 1n;
export const FAILED = 2n;

/** In the file, this bit of a token says that it is not to be learned. */
export const UNLEARNED = 0x80000000;

/** What the worker is given. */
export interface StreamTask {
  readonly files: readonly string[];
  readonly textField: string | undefined;
  readonly lossOn: LossOn;
  readonly size: TextSize;
  readonly validationFraction: number;
  /** tokenizer.json, and the files beside it. */
  readonly tokenizer: Record<string, unknown>;
  readonly companions: Readonly<Record<string, string>>;
  readonly separator: number | undefined;
  /** File that the tokens go to, and the one that takes the message of a failure. */
  readonly tokensFile: string;
  readonly errorFile: string;
  readonly counts: SharedArrayBuffer;
  /** Tokens that the worker may be ahead of what was asked for. */
  readonly ahead: number;
  /** Milliseconds that every 2^14 tokens take longer than they need; for tests. */
  readonly slowness: number;
}
