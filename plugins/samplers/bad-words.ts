// Words that are not to be written, each a sequence of tokens: its last one is removed where the others stand before it.

import { z } from 'zod';
import { GemmoeError } from '../../core/errors.ts';
import { addBiases } from '../../core/generation/sequence-bias.ts';
import { sequenceList, textList } from '../../core/generation/token-lists.ts';
import { defineSampler, type GenerationContext } from '../../core/plugin.ts';

/** Bans `ids` (sequences of ids) and `words` (texts, as the tokenizer cuts them: a leading space matters). */
export const badWords = defineSampler({
  name: 'bad-words',
  description: 'removes the last token of sequences that are not to be completed: ids=5 6|7, or words=one|two',
  options: z.strictObject({ ids: sequenceList.optional(), words: textList.optional() }),
  create({ ids = [], words = [] }, { tokenizer }) {
    const sequences = [...ids, ...words.map((word) => sequenceOf(word, tokenizer))];
    if (sequences.length === 0) {
      throw new GemmoeError(
        'usage',
        'bad-words: no sequence is given',
        'write bad-words:ids=5 6|7 or bad-words:words=…',
      );
    }
    const biases = sequences.map((sequence) => ({ ids: sequence, bias: -Infinity }));
    return { kind: 'transform', apply: (logits, context) => addBiases('bad-words', biases, context.ids, logits) };
  },
});

function sequenceOf(word: string, tokenizer: GenerationContext['tokenizer']): number[] {
  if (tokenizer) return tokenizer.encode(word);
  throw new GemmoeError(
    'usage',
    `bad-words: there is no tokenizer for the word "${word}"`,
    'give ids: bad-words:ids=5 6|7',
  );
}
