// Logit bias: what the caller adds to chosen tokens, or to the last token of chosen sequences.

import { z } from 'zod';
import { defineSampler } from '../../core/plugin.ts';
import { addBiases } from '../../core/generation/sequence-bias.ts';
import { biasList } from '../../core/generation/token-lists.ts';

/** Adds to logits; `7:-inf` bans token 7, `7:inf` forces it, `5 6:-2` makes 6 less likely after 5. */
export const logitBias = defineSampler({
  name: 'logit-bias',
  description: 'adds to the logits of tokens, or of the ends of sequences: biases=7:1.5|5 6:-inf',
  options: z.strictObject({ biases: biasList }),
  create: ({ biases }) => ({
    kind: 'transform',
    apply: (logits, { ids }) => addBiases('logit-bias', biases, ids, logits),
  }),
});
