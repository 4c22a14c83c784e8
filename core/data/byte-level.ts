// GPT-2's byte-level alphabet and splitting (Radford et al. 2019): every byte has a printable character, and text is cut into
// words before merges.

/** Character of each byte: printable Latin-1 stands for itself, the others take code points from 256 on. */
export const BYTE_CHARACTERS: readonly string[] = byteCharacters();

/** Byte of each of those characters. */
export const CHARACTER_BYTES: ReadonlyMap<string, number> = new Map(BYTE_CHARACTERS.map((c, byte) => [c, byte]));

function byteCharacters(): string[] {
  const isPrintable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** White space as Unicode defines it, which is what the other implementations split on; JavaScript's \s differs. */
const SPLIT =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** The words that merges stay inside of. */
export function splitWords(text: string): string[] {
  return text.match(SPLIT) ?? [];
}

/**
 * The last place at which text may be cut so that both parts are split as the whole is: before white space that follows
 * something else; 0 where there is none.
 */
export function lastSafeCut(text: string): number {
  for (let i = text.length - 1; i > 0; i--) {
    if (/\p{White_Space}/u.test(text[i]) && !/\p{White_Space}/u.test(text[i - 1])) return i;
  }
  return 0;
}
