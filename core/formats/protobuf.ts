// Writing Protocol Buffers messages, as much of them as is needed (protobuf.dev/programming-guides/encoding): a field is a key,
// number · 8 + wire type, and its value.

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

const encoder = new TextEncoder();

/** A message under construction: fields in the order in which they are added. */
export class Message {
  private readonly bytes: number[] = [];

  /** int32, int64, uint64, bool and enum fields; whole numbers from 0 to 2^53. */
  integer(field: number, value: number): this {
    this.varint(field * 8 + VARINT);
    this.varint(value);
    return this;
  }

  double(field: number, value: number): this {
    return this.key(field, FIXED64).raw(doubles([value]));
  }

  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.key(field, FIXED32).raw(bytes);
  }

  text(field: number, value: string): this {
    return this.delimited(field, encoder.encode(value));
  }

  message(field: number, value: Message): this {
    return this.delimited(field, value.finish());
  }

  /** A repeated double field, packed. */
  packedDoubles(field: number, values: readonly number[]): this {
    return this.delimited(field, doubles(values));
  }

  finish(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }

  private delimited(field: number, value: Uint8Array): this {
    this.key(field, DELIMITED);
    this.varint(value.length);
    return this.raw(value);
  }

  private key(field: number, wireType: number): this {
    this.varint(field * 8 + wireType);
    return this;
  }

  /** Seven bits a byte, the lowest first; the eighth bit says that more follow. */
  private varint(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.bytes.push((rest % 0x80) | 0x80);
    this.bytes.push(rest);
  }

  private raw(values: Uint8Array): this {
    for (const value of values) this.bytes.push(value);
    return this;
  }
}

/** Little endian, eight bytes each. */
function doubles(values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(8 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setFloat64(8 * i, value, true);
  return bytes;
}
