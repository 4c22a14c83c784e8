// Q8_0: blocks of 32 elements, a float16 scale and 32 signed bytes; x = d·q.

import { fromF16, toF16 } from '../../ops/cast.ts';

const BLOCK = 32;
const BLOCK_BYTES = 34;

const scale = new Float32Array(1);
const scaleBits = new Uint16Array(1);

/** out = blocks of `values`, whose length is a multiple of 32; d = max|x|/127, q = x/d rounded half away from zero. */
export function toQ8(out: Uint8Array, values: Float32Array): void {
  for (let first = 0, at = 0; first < values.length; first += BLOCK, at += BLOCK_BYTES) {
    let largest = 0;
    for (let i = first; i < first + BLOCK; i++) largest = Math.max(largest, Math.abs(values[i]));
    // in float32, as ggml computes it: the last bit decides a rounding now and then
    const d = Math.fround(largest / 127);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    scale[0] = d;
    toF16(scaleBits, scale);
    out[at] = scaleBits[0] & 0xff;
    out[at + 1] = scaleBits[0] >>> 8;
    for (let i = 0; i < BLOCK; i++) {
      const x = Math.fround(values[first + i] * inverse);
      out[at + 2 + i] = Math.sign(x) * Math.round(Math.abs(x));
    }
  }
}

/** out = the values of blocks. */
export function fromQ8(out: Float32Array, blocks: Uint8Array): void {
  const signed = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.length);
  for (let first = 0, at = 0; first < out.length; first += BLOCK, at += BLOCK_BYTES) {
    scaleBits[0] = blocks[at] | (blocks[at + 1] << 8);
    fromF16(scale, scaleBits);
    for (let i = 0; i < BLOCK; i++) out[first + i] = scale[0] * signed[at + 2 + i];
  }
}
