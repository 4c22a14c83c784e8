// Every command, in the order that help shows them.

import type { Command } from '../command.ts';
import { backends } from './backends.ts';
import { chat } from './chat.ts';
import { bench } from './bench.ts';
import { convert } from './convert.ts';
import { compare } from './compare.ts';
import { evaluate } from './evaluate.ts';
import { generate } from './generate.ts';
import { help } from './help.ts';
import { init } from './init.ts';
import { inspect } from './inspect.ts';
import { lrFind } from './lr-find.ts';
import { logits } from './logits.ts';
import { parity } from './parity.ts';
import { plugins } from './plugins.ts';
import { prepareCommand } from './prepare.ts';
import { report } from './report.ts';
import { tokenize } from './tokenize.ts';
import { train } from './train.ts';
import { upcycle } from './upcycle.ts';
import { verify } from './verify.ts';

export const COMMANDS: readonly Command[] = [
  train,
  generate,
  chat,
  evaluate,
  compare,
  lrFind,
  logits,
  tokenize,
  prepareCommand,
  inspect,
  init,
  convert,
  upcycle,
  parity,
  report,
  backends,
  verify,
  bench,
  plugins,
  help,
];
