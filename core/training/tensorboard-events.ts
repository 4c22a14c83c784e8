// The messages of a TensorBoard event file (tensorflow/core/util/event.proto and framework/summary.proto): what a value is called,
// at which step and time. Numbers of fields stand as in those files.

import { Message } from '../formats/protobuf.ts';

/** Type of a tensor of strings (framework/types.proto). */
const DT_STRING = 7;
/** SummaryMetadata's data_class of values that are tensors. */
const DATA_CLASS_TENSOR = 2;
/** SessionLog's status: what was written of this step and later ones by another process does not count. */
const START = 1;

/** When something happened. */
export interface EventTime {
  /** Seconds since 1970. */
  readonly wallTime: number;
  readonly step: number;
}

/** The event that a file begins with. */
export function fileVersionEvent(wallTime: number): Uint8Array {
  return new Message().double(1, wallTime).text(3, 'brain.Event:2').finish();
}

/** Takes back what earlier files say of `step` and the steps after it. */
export function sessionStartEvent({ wallTime, step }: EventTime): Uint8Array {
  return eventAt({ wallTime, step }).message(7, new Message().integer(1, START)).finish();
}

/** Values of one step. */
export function summaryEvent(time: EventTime, values: readonly Message[]): Uint8Array {
  const summary = new Message();
  for (const value of values) summary.message(1, value);
  return eventAt(time).message(5, summary).finish();
}

/** A point of a curve. */
export function scalarValue(tag: string, value: number): Message {
  return new Message().text(1, tag).float(2, value);
}

/** A histogram whose bar number i reaches from i to i + 1 and has the height `weights[i]`. */
export function barsValue(tag: string, weights: readonly number[]): Message {
  const sumOf = (f: (weight: number, middle: number) => number) =>
    weights.reduce((sum, weight, i) => sum + f(weight, i + 0.5), 0);
  const histogram = new Message()
    .double(1, 0)
    .double(2, weights.length)
    .double(
      3,
      sumOf((weight) => weight),
    )
    .double(
      4,
      sumOf((weight, middle) => weight * middle),
    )
    .double(
      5,
      sumOf((weight, middle) => weight * middle ** 2),
    )
    // a bar is named by its end; the first one, of nothing, gives the second its beginning
    .packedDoubles(6, [0, ...weights.map((_, i) => i + 1)])
    .packedDoubles(7, [0, ...weights]);
  return new Message().text(1, tag).message(5, histogram);
}

/** A text, shown as Markdown. */
export function textValue(tag: string, text: string): Message {
  const shape = new Message().message(2, new Message().integer(1, 1));
  const tensor = new Message().integer(1, DT_STRING).message(2, shape).text(8, text);
  const metadata = new Message().message(1, new Message().text(1, 'text')).integer(4, DATA_CLASS_TENSOR);
  return new Message().text(1, tag).message(8, tensor).message(9, metadata);
}

function eventAt({ wallTime, step }: EventTime): Message {
  return new Message().double(1, wallTime).integer(2, step);
}
