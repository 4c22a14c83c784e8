// The files beside a tokenizer.json that belong to it: settings, and the chat templates a model was tuned with.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const NAMES = ['tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja'];
const TEMPLATES = 'additional_chat_templates';

/** Their texts by name, a template's with its folder. */
export function readCompanions(directory: string): Record<string, string> {
  const folder = join(directory, TEMPLATES);
  const templates = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.jinja')) : [];
  const names = [...NAMES, ...templates.map((name) => `${TEMPLATES}/${name}`)];
  const there = names.filter((name) => existsSync(join(directory, name)));
  return Object.fromEntries(there.map((name) => [name, readFileSync(join(directory, name), 'utf8')]));
}

/** Writes them as they were. */
export function writeCompanions(directory: string, companions: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(companions)) {
    const path = join(directory, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}
