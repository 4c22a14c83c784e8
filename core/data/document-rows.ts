// How documents share a row, and where in it each begins.

import { IGNORE_INDEX } from '../kernels.ts';

/**
 * `packed`: rows are windows of the documents set one behind the other, and attention sees all of a row; `masked`: the same
 * windows, but attention stays within a document and positions count from its beginning; `padded`: every row holds one document,
 * or a piece of one that is longer.
 */
export const DOCUMENT_MODES = ['packed', 'masked', 'padded'] as const;
export type DocumentMode = (typeof DOCUMENT_MODES)[number];

/** How the rows of a source treat its documents. */
export interface DocumentRows {
  readonly mode: DocumentMode;
  /** Id behind every document; undefined where there is one document. */
  readonly separator: number | undefined;
}

/**
 * Writes the place in the row where the document of each of its T tokens begins. A separator belongs to the document behind it
 * when it is to predict its first token, as it is what text is written from; before a conversation, whose beginning is not
 * learned, it belongs to the one before.
 */
export function markDocuments(
  starts: Int32Array,
  ids: Int32Array,
  targets: Int32Array,
  row: number,
  length: number,
  separator: number | undefined,
): void {
  let start = 0;
  for (let t = 0; t < length; t++) {
    const isBetween = ids[row + t] === separator;
    if (isBetween && targets[row + t] !== IGNORE_INDEX) start = t;
    starts[row + t] = start;
    if (isBetween && targets[row + t] === IGNORE_INDEX) start = t + 1;
  }
}
