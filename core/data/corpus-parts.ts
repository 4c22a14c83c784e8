// What a corpus is, and what all kinds of it have in common.

import type { LossOn } from './chat-rendering.ts';
import type { WeightedSource } from './batches.ts';
import type { TokenizerSpec } from './make-tokenizer.ts';
import { hashOf, sha256 } from './prepared.ts';
import type { TokenSource } from './source.ts';
import { JoinedSource } from './sources.ts';
import type { Tokenizer } from './tokenizer.ts';

/** What is to be opened. */
export interface CorpusOptions extends TokenizerSpec {
  /** Text files, JSONL files and folders of them; or one folder that `prepare` made; or .bin shards. Empty: the built-in text. */
  readonly data: readonly string[];
  /** Last part that is held out, where the data do not say themselves. */
  readonly validationFraction: number;
  /** Weight of each of `data`, which are then sources of their own; empty: all make one source. */
  readonly weights?: readonly number[] | undefined;
  /** Tokenise while training runs, in a worker; default all at first. */
  readonly stream?: boolean | undefined;
  /** Key of the text in a JSONL row; default `text`. */
  readonly textField?: string | undefined;
  /** Of conversations: whether the answers alone are learned (default), or all of their text. */
  readonly lossOn?: LossOn | undefined;
}

export interface Corpus {
  readonly tokenizer: Tokenizer;
  /** Everything that is trained on. */
  readonly train: TokenSource;
  /** The sources that `train` is made of, and how often each is read; one unless the data have weights. */
  readonly mixture: readonly WeightedSource[];
  readonly validation: TokenSource;
  /** Id that stands between documents; undefined where there is one document. */
  readonly separator: number | undefined;
  /** Hash of tokenizer and tokens: a resumed run must see the same. */
  readonly fingerprint: string;
  close(): void;
}

/** The corpus of one source. */
export function assembleCorpus(
  tokenizer: Tokenizer,
  train: TokenSource,
  validation: TokenSource,
  separator: number | undefined,
): Corpus {
  return {
    tokenizer,
    train,
    mixture: [{ source: train, weight: 1 }],
    validation,
    separator,
    fingerprint: sha256(`${hashOf(tokenizer)} ${train.fingerprint} ${validation.fingerprint}`),
    close() {
      train.close();
      validation.close();
    },
  };
}

/** Several corpora of one tokenizer, read in the shares that their weights say; the held-out splits stand one behind the other. */
export function mixCorpora(parts: readonly Corpus[], weights: readonly number[]): Corpus {
  const train = new JoinedSource(parts.map((part) => part.train));
  const validation = new JoinedSource(parts.map((part) => part.validation));
  const { tokenizer } = parts[0];
  return {
    ...assembleCorpus(tokenizer, train, validation, tokenizer.endOfText),
    mixture: parts.map((part, i) => ({ source: part.train, weight: weights[i] })),
    fingerprint: sha256(parts.map(({ fingerprint }, i) => `${fingerprint} ${weights[i]}`).join('\n')),
  };
}
