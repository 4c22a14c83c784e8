// The one error type a user sees: what was asked, what exists, and the next thing to do.

/** `usage` errors end the CLI with exit code 2, all others with 1. */
export type ErrorCode =
  | 'usage' // a flag, option or config value that cannot be
  | 'not-found' // a name or path that does not exist
  | 'bad-data' // a file or corpus whose content is wrong
  | 'bad-config' // a model or run configuration that contradicts itself
  | 'unavailable' // a backend or capability this machine lacks
  | 'plugin' // a plugin that cannot be loaded or that threw
  | 'exists' // refusing to overwrite
  | 'diverged' // the loss became NaN or infinite
  | 'internal'; // a broken contract between our own parts

/** Every refusal of gemmoe: a code for programs, a message that names the thing, and a hint with the next step. */
export class GemmoeError extends Error {
  override readonly name = 'GemmoeError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, hint?: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.hint = hint;
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The candidate closest to `asked` by edit distance, or undefined when none is near enough to be a typing slip. */
export function nearestName(asked: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(asked.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(asked.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Levenshtein distance: insertions, deletions and substitutions that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(previous[j] + 1, current[j - 1] + 1, substitution));
    }
    previous = current;
  }
  return previous[b.length];
}
