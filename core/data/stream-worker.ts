// The worker of a streamed corpus: reads text and tokenises it ahead of training. See stream-protocol.ts.

import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { messageOf } from '../errors.ts';
import { chatRenderer } from './chat-rendering.ts';
import { cutSafely, readDocuments } from './documents.ts';
import { safeCutOf } from './make-tokenizer.ts';
import { splitText } from './split.ts';
import {
  FAILED,
  FINISHED,
  PRODUCED,
  REQUESTED,
  RUNNING,
  STATE,
  type StreamTask,
  UNLEARNED,
} from './stream-protocol.ts';
import { tokenizerFromJSON } from './tokenizers.ts';

/** Tokens that are written at once. */
const CHUNK = 1 << 14;

/** Appends tokens to the file, no further ahead of the reader than allowed. */
class TokenWriter {
  private readonly task: StreamTask;
  private readonly counts: BigInt64Array;
  private readonly descriptor: number;
  private readonly chunk = new Uint32Array(CHUNK);
  private used = 0;
  private produced = 0n;

  constructor(task: StreamTask) {
    this.task = task;
    this.counts = new BigInt64Array(task.counts);
    this.descriptor = openSync(task.tokensFile, 'a');
  }

  push(token: number): void {
    this.chunk[this.used++] = token;
    if (this.used === CHUNK) this.flush();
  }

  flush(): void {
    const bytes = new Uint8Array(this.chunk.buffer, 0, this.used * 4);
    for (let at = 0; at < bytes.length;) at += writeSync(this.descriptor, bytes, at);
    if (this.task.slowness > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, this.task.slowness);
    this.produced += BigInt(this.used);
    this.used = 0;
    Atomics.store(this.counts, PRODUCED, this.produced);
    Atomics.notify(this.counts, PRODUCED);
    this.waitForReader();
  }

  end(state: bigint): void {
    closeSync(this.descriptor);
    Atomics.store(this.counts, STATE, state);
    Atomics.notify(this.counts, PRODUCED);
  }

  /** Until the reader has come near. */
  private waitForReader(): void {
    for (;;) {
      const requested = Atomics.load(this.counts, REQUESTED);
      if (this.produced - requested < BigInt(this.task.ahead)) return;
      Atomics.wait(this.counts, REQUESTED, requested);
    }
  }
}

async function tokeniseAll(task: StreamTask, writer: TokenWriter): Promise<void> {
  const { files, textField: field, lossOn, size, validationFraction, separator } = task;
  const config = task.companions['tokenizer_config.json'];
  const tokenizer = tokenizerFromJSON(
    task.tokenizer,
    config === undefined ? {} : (JSON.parse(config) as Record<string, unknown>),
  );
  tokenizer.companions = task.companions;
  const documents = readDocuments(files, { field, chat: chatRenderer(tokenizer, lossOn) });
  const parts = splitText(documents, size, validationFraction);
  for await (const { text, held, closes, learned } of cutSafely(parts, safeCutOf(tokenizer))) {
    if (held) continue;
    const ids = tokenizer.encode(text);
    const mark = learned === false ? UNLEARNED : 0;
    for (const id of ids) writer.push(id + mark);
    const isEnded = learned !== undefined && ids.at(-1) === separator;
    if (closes && separator !== undefined && !isEnded) writer.push(separator);
  }
  writer.flush();
}

const task = workerData as StreamTask;
const writer = new TokenWriter(task);
try {
  await tokeniseAll(task, writer);
  writer.end(FINISHED);
} catch (error) {
  // the reader may be waiting where no message reaches it
  writeFileSync(task.errorFile, messageOf(error));
  if (Atomics.load(new BigInt64Array(task.counts), STATE) === RUNNING) writer.end(FAILED);
}
