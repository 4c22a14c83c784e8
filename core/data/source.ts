// The contract of a stream of tokens that batches are cut from, in memory or on disk.

/** A fixed sequence of token ids with random access. */
export interface TokenSource {
  /** Number of tokens. */
  readonly length: number;
  /** Bytes of text the tokens stand for; undefined where it is not known. */
  readonly textBytes: number | undefined;
  /** Copies tokens [start, start + count) to out[outOffset …]. @throws RangeError outside the sequence */
  read(start: number, out: Int32Array, outOffset: number, count: number): void;
  /** Whether tokens are still being made: `length` is then an estimate, and reading waits. Default false. */
  readonly isStreamed?: boolean;
  /** Of a stream: waits until there are `count` tokens; false when there will never be so many. */
  ensure?(count: number): boolean;
  /** Whether some tokens are not to be learned; default false. */
  readonly isMasked?: boolean;
  /** As `read`, with IGNORE_INDEX for tokens that are not to be learned; absent where all are. */
  readTargets?(start: number, out: Int32Array, outOffset: number, count: number): void;
  /** A hash of the content: a resumed run must see the same. */
  readonly fingerprint: string;
  close(): void;
}

/** Tokens [start, start + count) as targets. */
export function readTargets(
  source: TokenSource,
  start: number,
  out: Int32Array,
  outOffset: number,
  count: number,
): void {
  if (source.readTargets) source.readTargets(start, out, outOffset, count);
  else source.read(start, out, outOffset, count);
}
