// A corpus that is tokenised while training runs: text of any size, in bounded memory, without a wait at the beginning.

import { closeSync, fstatSync, openSync } from 'node:fs';
import { addPlainTemplate, chatRenderer, plainRenderer } from './chat-rendering.ts';
import { assembleCorpus, type Corpus, type CorpusOptions } from './corpus-parts.ts';
import { type DocumentPart, readDocuments } from './documents.ts';
import { MADE_KINDS, makeTokenizer } from './make-tokenizer.ts';
import { hashOf, sha256 } from './prepared.ts';
import { sampleDigest } from './shards.ts';
import { measureText, splitText } from './split.ts';
import { DEFAULT_AHEAD, StreamedSource } from './streamed-source.ts';
import { tokenise } from './tokenise.ts';
import { loadTokenizer } from './tokenizers.ts';

/** How the worker is to run; for tests. */
export interface StreamPace {
  /** Tokens that the worker may be ahead of training. */
  readonly ahead?: number;
  /** Milliseconds that it takes longer for every 2^14 tokens. */
  readonly slowness?: number;
}

/**
 * Reads the text twice or three times (to count it and find every bad line, for the tokenizer where it is made, for the held-out
 * split, which is tokenised here), then leaves the training split to a worker.
 */
export async function openStream(
  files: readonly string[],
  options: CorpusOptions,
  { ahead = DEFAULT_AHEAD, slowness = 0 }: StreamPace = {},
): Promise<Corpus> {
  const { lossOn = 'answers', textField, validationFraction } = options;
  const early = MADE_KINDS.includes(options.tokenizer) ? undefined : loadTokenizer(options.tokenizer);
  const chat = early ? chatRenderer(early, lossOn) : plainRenderer(lossOn);
  const documents = () => readDocuments(files, { field: textField, chat });
  const seen = { hasChat: false };
  const size = await measureText(watchingChats(documents(), seen));
  const tokenizer = early ?? (await makeTokenizer(options, documents));
  if (seen.hasChat) addPlainTemplate(tokenizer);
  const separator = size.documents > 1 ? tokenizer.endOfText : undefined;
  const counted = { characters: 0 };
  const validation = await tokenise(
    heldOut(splitText(documents(), size, validationFraction), counted),
    tokenizer,
    separator,
  );
  const share = validation.length / Math.max(1, counted.characters);
  const identity = files.map((path) => `${path.split(/[\\/]/).at(-1)} ${fileDigest(path)}`).join('\n');
  const train = new StreamedSource({
    files,
    textField,
    lossOn,
    size,
    validationFraction,
    tokenizer: tokenizer.toJSON(),
    companions: tokenizer.companions ?? {},
    separator,
    ahead,
    slowness,
    expected: Math.max(2, Math.round((size.characters - counted.characters) * share)),
    isMasked: seen.hasChat && lossOn === 'answers',
    fingerprint: sha256(`${hashOf(tokenizer)} ${textField} ${lossOn} ${validationFraction}\n${identity}`),
  });
  return assembleCorpus(tokenizer, train, validation, separator);
}

async function* watchingChats(
  documents: AsyncIterable<DocumentPart>,
  seen: { hasChat: boolean },
): AsyncGenerator<DocumentPart> {
  for await (const part of documents) {
    seen.hasChat ||= part.learned !== undefined;
    yield part;
  }
}

async function* heldOut(
  parts: ReturnType<typeof splitText>,
  counted: { characters: number },
): AsyncGenerator<DocumentPart> {
  for await (const { held, ...part } of parts) {
    if (!held) continue;
    counted.characters += part.text.length;
    yield part;
  }
}

function fileDigest(path: string): string {
  const descriptor = openSync(path, 'r');
  try {
    return sampleDigest(descriptor, fstatSync(descriptor).size);
  } finally {
    closeSync(descriptor);
  }
}
