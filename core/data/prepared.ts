// The record beside prepared shards: what they hold and which tokenizer made them.

import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Tokenizer } from './tokenizer.ts';

/** Name of the record in a prepared folder. */
export const PREPARED_FILE = 'prepare.json';

const split = z.strictObject({
  shards: z.array(z.string()).min(1),
  tokens: z.int().min(0),
  textBytes: z.int().min(0),
  documents: z.int().min(0),
});

export const PreparedSchema = z.strictObject({
  format: z.literal(1),
  vocabSize: z.int().min(1),
  tokenizerHash: z.string(),
  /** Id behind every document; null where there is none. */
  separator: z.int().nullable(),
  train: split,
  validation: split,
});

/** The record of a prepared folder. */
export type Prepared = z.infer<typeof PreparedSchema>;

/** Hash of what a tokenizer does. */
export function hashOf(tokenizer: Tokenizer): string {
  return sha256(JSON.stringify(tokenizer.toJSON()));
}

/** First half of a SHA-256, in hexadecimal. */
export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
