// The framing of TFRecord files, which TensorBoard reads: length (8 bytes), its checksum (4), the record, its checksum (4), all little
// endian. Checksums are CRC-32C, masked so that a checksum of data that holds checksums stays a good one
// (tensorflow/core/lib/io/record_writer.h and lib/hash/crc32c.h).

/** CRC-32C (Castagnoli), the polynomial 0x1EDC6F41 with its bits reversed. */
const POLYNOMIAL = 0x82f63b78;
const MASK_DELTA = 0xa282ead8;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
  return rest;
});

/** CRC-32C of `bytes`, from 0 to 2^32 - 1. */
export function crc32c(bytes: Uint8Array): number {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = (rest >>> 8) ^ TABLE[(rest ^ byte) & 0xff];
  return ~rest >>> 0;
}

/** The checksum rotated right by 15 bits, plus a constant. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}

/** A record with its frame. */
export function framed(record: Uint8Array): Uint8Array {
  const frame = new Uint8Array(record.length + 16);
  const view = new DataView(frame.buffer);
  view.setBigUint64(0, BigInt(record.length), true);
  view.setUint32(8, maskedCrc32c(frame.subarray(0, 8)), true);
  frame.set(record, 12);
  view.setUint32(12 + record.length, maskedCrc32c(record), true);
  return frame;
}
