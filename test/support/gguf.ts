// Model directories that become GGUF files in tests.

import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CharacterTokenizer } from '../../core/data/character-tokenizer.ts';
import { FIXTURES, readJson } from './golden.ts';

/** Families whose fixtures llama.cpp computes as transformers does. */
export const GGUF_FAMILIES = [
  ...['llama', 'llama3', 'llama_yarn', 'llama_linear', 'mixtral', 'mixtral_mqa', 'qwen2', 'qwen3', 'qwen3_moe'],
  ...['olmoe', 'granitemoe', 'granitemoeshared'],
];

/** Characters that need escapes or several bytes, before printable ones. */
const AWKWARD = ['\n', '\t', '\\', 'é', '—', '𝄞'];

/** Copies a fixture and gives it a tokenizer of characters, one for each row of its table. */
export function withCharacters(family: string, directory: string): CharacterTokenizer {
  cpSync(join(FIXTURES, 'hf', family), directory, { recursive: true });
  const { vocab_size: size } = readJson<{ vocab_size: number }>(directory, 'config.json');
  const printable = Array.from({ length: 300 }, (_, i) => String.fromCharCode(32 + i)).filter(
    (c) => !AWKWARD.includes(c),
  );
  const tokenizer = new CharacterTokenizer([...AWKWARD, ...printable].slice(0, size));
  writeFileSync(join(directory, 'tokenizer.json'), JSON.stringify(tokenizer.toJSON()));
  return tokenizer;
}
