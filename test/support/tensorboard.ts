// A reader of event files that shares no code with the writer: checksums bit by bit, messages as a list of fields.

/** What an event says. */
export interface ReadEvent {
  readonly wallTime: number;
  readonly step: number;
  readonly fileVersion: string | undefined;
  readonly sessionStart: boolean;
  readonly values: readonly {
    readonly tag: string;
    readonly scalar: number | undefined;
    readonly histogram: { readonly limits: number[]; readonly buckets: number[] } | undefined;
    readonly text: string | undefined;
  }[];
}

/** The events of a file. @throws Error for a checksum or a length that is wrong */
export function eventsIn(file: Buffer): ReadEvent[] {
  const events: ReadEvent[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    checkCrc(file.subarray(at, at + 8), file.readUInt32LE(at + 8));
    const record = file.subarray(at + 12, at + 12 + length);
    checkCrc(record, file.readUInt32LE(at + 12 + length));
    events.push(eventOf(fieldsOf(record)));
    at += length + 16;
  }
  return events;
}

function checkCrc(data: Buffer, masked: number): void {
  let crc = 0xffffffffn;
  for (const byte of data) {
    for (let bit = 0; bit < 8; bit++) {
      const isOdd = ((crc ^ BigInt(byte >> bit)) & 1n) === 1n;
      crc = (crc >> 1n) ^ (isOdd ? 0x82f63b78n : 0n);
    }
  }
  crc ^= 0xffffffffn;
  const rotated = ((crc >> 15n) | (crc << 17n)) & 0xffffffffn;
  if (((rotated + 0xa282ead8n) & 0xffffffffn) !== BigInt(masked)) throw new Error('the checksum is wrong');
}

type Field = { readonly number: number; readonly value: number | Buffer };

function fieldsOf(message: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const take = (count: number) => message.subarray(at, (at += count));
  while (at < message.length) {
    const key = varint();
    const number = key >> 3;
    const type = key & 7;
    if (type === 0) fields.push({ number, value: varint() });
    else if (type === 1) fields.push({ number, value: take(8).readDoubleLE() });
    else if (type === 5) fields.push({ number, value: take(4).readFloatLE() });
    else if (type === 2) fields.push({ number, value: take(varint()) });
    else throw new Error(`wire type ${type} is not known`);
  }
  return fields;
}

const inside = (fields: readonly Field[], number: number) =>
  fields.find((field) => field.number === number)?.value as Buffer | undefined;
const numberIn = (fields: readonly Field[], number: number) =>
  fields.find((field) => field.number === number)?.value as number | undefined;
const doublesIn = (data: Buffer) => Array.from({ length: data.length / 8 }, (_, i) => data.readDoubleLE(8 * i));

function eventOf(fields: readonly Field[]): ReadEvent {
  const summary = inside(fields, 5);
  const session = inside(fields, 7);
  return {
    wallTime: numberIn(fields, 1) ?? 0,
    step: numberIn(fields, 2) ?? 0,
    fileVersion: inside(fields, 3)?.toString(),
    sessionStart: session !== undefined && numberIn(fieldsOf(session), 1) === 1,
    values: (summary ? fieldsOf(summary) : []).map(({ value }) => {
      const parts = fieldsOf(value as Buffer);
      const histogram = inside(parts, 5);
      const tensor = inside(parts, 8);
      return {
        tag: inside(parts, 1)!.toString(),
        scalar: numberIn(parts, 2),
        histogram: histogram && {
          limits: doublesIn(inside(fieldsOf(histogram), 6)!),
          buckets: doublesIn(inside(fieldsOf(histogram), 7)!),
        },
        text: tensor && inside(fieldsOf(tensor), 8)?.toString(),
      };
    }),
  };
}
