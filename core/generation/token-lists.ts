// Lists in the options of samplers, written so that they stand inside `name:key=value,…;…`: parts with | between them.

import { z } from 'zod';

/** Ids: `5|6|7`. */
export const idList = z
  .string()
  .regex(/^\d+(\|\d+)*$/, 'must be ids with | between them, as 5|6|7')
  .transform((text) => text.split('|').map(Number));

/** Sequences of ids: `5 6|7` is the two tokens 5, 6 and the token 7. */
export const sequenceList = z
  .string()
  .regex(/^\d+( \d+)*(\|\d+( \d+)*)*$/, 'must be sequences of ids with | between them, as 5 6|7')
  .transform((text) => text.split('|').map(readSequence));

/** A change of the logit of the last id of a sequence where the others stand before it. */
export interface SequenceBias {
  readonly ids: readonly number[];
  readonly bias: number;
}

/** Sequences with their bias: `7:1.5|5 6:-inf`. */
export const biasList = z
  .string()
  .regex(
    /^\d+( \d+)*:[+-]?(\d+\.?\d*(e[+-]?\d+)?|inf)(\|\d+( \d+)*:[+-]?(\d+\.?\d*(e[+-]?\d+)?|inf))*$/i,
    'must be ids and what is added to their logits with | between them, as 7:1.5|5 6:-inf',
  )
  .transform((text) =>
    text.split('|').map((part): SequenceBias => {
      const [ids, bias] = part.split(':');
      return { ids: readSequence(ids), bias: Number(bias.replace(/inf/i, 'Infinity')) };
    }),
  );

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '\\': '\\' };
const ESCAPE = /\\(?:x([0-9a-f]{2})|(.?))/gis;

/** Texts: `foo|\n`, where \n, \r, \t, \\ and \xHH mean what they do in JavaScript: \x2c , · \x3b ; · \x7c | · \x20 a space at an end. */
export const textList = z.string().transform((text, context) => {
  const texts = text.split('|').map((part) =>
    part.replace(ESCAPE, (whole, hex?: string, letter?: string) => {
      if (hex !== undefined) return String.fromCharCode(parseInt(hex, 16));
      if (Object.hasOwn(ESCAPES, letter ?? '')) return ESCAPES[letter ?? ''];
      context.addIssue({ code: 'custom', message: `${whole} is none of \\n, \\r, \\t, \\\\ and \\xHH` });
      return whole;
    }),
  );
  if (texts.includes(''))
    context.addIssue({ code: 'custom', message: 'must be texts with | between them, none empty' });
  return texts;
});

function readSequence(text: string): number[] {
  return text.split(' ').map(Number);
}

/** The text that `sequenceList` reads. */
export function writeSequences(sequences: readonly (readonly number[])[]): string {
  return sequences.map((ids) => ids.join(' ')).join('|');
}

/** The text that `biasList` reads. */
export function writeBiases(biases: readonly SequenceBias[]): string {
  return biases.map(({ ids, bias }) => `${ids.join(' ')}:${String(bias).replace('Infinity', 'inf')}`).join('|');
}
