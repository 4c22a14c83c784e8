// How text is cut into words before merges: a tokenizer.json's rules as the names that llama.cpp knows them by.

import { GemmoeError } from '../../errors.ts';

/** A step of a tokenizer.json's pre_tokenizer. */
export interface PreTokenizer {
  readonly type: string;
  readonly pretokenizers?: readonly PreTokenizer[];
  readonly pattern?: { readonly Regex?: string; readonly String?: string };
  readonly individual_digits?: boolean;
  readonly add_prefix_space?: boolean;
  readonly use_regex?: boolean;
}

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const REST = '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const QWEN2 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${REST}`;
const LLAMA3 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}${REST}`;
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const GPT4O =
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${CONTRACTIONS}?|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${CONTRACTIONS}?` +
  '|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/** How a tokenizer behaves beside its rules. */
interface Habits {
  /** Whether a word that is a token is taken whole, merges or not. */
  readonly ignoreMerges: boolean;
  /** Whether decoding takes away spaces before punctuation. */
  readonly cleansSpaces: boolean;
}

/**
 * The name of the rules for `tokenizer.ggml.pre`. llama.cpp ties habits to these names, so that of several names with the
 * same rules the one is chosen whose habits fit; `trillion` is GPT-2's rules without the cleaning of spaces.
 * @throws GemmoeError for rules that llama.cpp has no name for
 */
export function preTokenizerName(step: PreTokenizer | null | undefined, habits: Habits): string {
  const steps = step?.pretokenizers ?? (step ? [step] : []);
  const last = steps.at(-1);
  if (last?.type === 'ByteLevel' && !last.add_prefix_space) {
    const before = steps.slice(0, -1);
    const name = last.use_regex === false ? ownRules(before, habits) : gpt2Rules(before, habits);
    if (name) return name;
  }
  throw new GemmoeError(
    'unavailable',
    `tokenizer.json cuts text by rules that llama.cpp has no name for: ${JSON.stringify(step)?.slice(0, 200)}`,
    'known are those of GPT-2 (also with single digits), Qwen 2, Llama 3 and GPT-4o; without tokenizer.json the model is written for ids alone',
  );
}

function gpt2Rules(before: readonly PreTokenizer[], { cleansSpaces }: Habits): string | undefined {
  if (before.length === 0) return cleansSpaces ? 'gpt-2' : 'trillion';
  const isDigits = before.length === 1 && before[0].type === 'Digits' && before[0].individual_digits;
  return isDigits ? (cleansSpaces ? 'refact' : 'smollm') : undefined;
}

function ownRules(before: readonly PreTokenizer[], { ignoreMerges }: Habits): string | undefined {
  const [rule] = before;
  if (before.length !== 1 || rule.type !== 'Split') return undefined;
  const pattern = rule.pattern?.Regex;
  if (pattern === QWEN2 && !ignoreMerges) return 'qwen2';
  if (pattern === LLAMA3) return ignoreMerges ? 'llama-bpe' : 'smaug-bpe';
  return pattern === GPT4O && !ignoreMerges ? 'gpt-4o' : undefined;
}
