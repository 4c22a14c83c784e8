// Tokens that stand for themselves in text and are cut out before anything else is done with it.

/** Special tokens by their text. */
export class SpecialTokens {
  readonly ids: ReadonlyMap<string, number>;
  private readonly values: ReadonlySet<number>;
  private readonly pattern: RegExp | undefined;

  constructor(ids: ReadonlyMap<string, number>) {
    this.ids = ids;
    this.values = new Set(ids.values());
    if (ids.size === 0) return;
    // alternatives are tried in order: of two that begin alike, the longer one counts
    const longestFirst = [...ids.keys()].sort((a, b) => b.length - a.length);
    this.pattern = new RegExp(`(${longestFirst.map(escapePattern).join('|')})`);
  }

  has(id: number): boolean {
    return this.values.has(id);
  }

  /** The text between special tokens, and their ids, in order. */
  split(text: string): (string | number)[] {
    if (!this.pattern) return [text];
    return text
      .split(this.pattern)
      .map((piece, i) => (i % 2 === 1 ? (this.ids.get(piece) as number) : piece))
      .filter((piece) => piece !== '');
  }

  /** The `added_tokens` of a tokenizer.json. */
  toJSON(): Record<string, unknown>[] {
    return [...this.ids].map(([content, id]) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    }));
  }
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
