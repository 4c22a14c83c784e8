// Chat templates: Jinja that turns messages into the text a model was tuned on.
// https://huggingface.co/docs/transformers/chat_templating

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { GemmoeError, messageOf } from '../errors.ts';
import { readJsonObject } from '../formats/json-files.ts';

/** One turn of a conversation. */
export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** The text of a template and the file that it stands in. */
export interface TemplateSource {
  readonly path: string;
  readonly text: string;
}

const TEMPLATE_FILE = 'chat_template.jinja';
const SETTINGS_FILE = 'tokenizer_config.json';

/**
 * The template of a model directory: chat_template.jinja, failing that the one in tokenizer_config.json, of several the one
 * called "default"; undefined where there is none.
 */
export function findChatTemplate(directory: string): TemplateSource | undefined {
  const file = join(directory, TEMPLATE_FILE);
  if (existsSync(file)) return { path: file, text: readFileSync(file, 'utf8') };
  const path = join(directory, SETTINGS_FILE);
  const named = existsSync(path) ? readJsonObject(path)['chat_template'] : undefined;
  const text = templateIn(named);
  return text === undefined ? undefined : { path, text };
}

/** The template that `chat_template` of a tokenizer_config.json means: it, or of several the one called "default". */
export function templateIn(named: unknown): string | undefined {
  if (typeof named === 'string') return named;
  if (!Array.isArray(named)) return undefined;
  const templates = named as readonly { readonly name?: unknown; readonly template?: unknown }[];
  const chosen = templates.find(({ name }) => name === 'default') ?? templates[0];
  return typeof chosen?.template === 'string' ? chosen.template : undefined;
}

/** The special tokens of a model directory by the names that templates call them: `bos_token`, `eos_token`, … */
export function specialTokensOf(directory: string): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const file of ['special_tokens_map.json', SETTINGS_FILE]) {
    const path = join(directory, file);
    Object.assign(tokens, specialTokensIn(existsSync(path) ? readJsonObject(path) : {}));
  }
  return tokens;
}

/** Those that one of its files names: values of keys that end in `_token`. */
export function specialTokensIn(file: Record<string, unknown>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(file)) {
    const content = typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value;
    if (key.endsWith('_token') && typeof content === 'string') tokens[key] = content;
  }
  return tokens;
}

/** A parsed template. */
export class ChatTemplate {
  readonly path: string;
  private readonly template: Template;
  private readonly variables: Readonly<Record<string, unknown>>;

  /**
   * @param variables what the template may read beside the messages: special tokens, settings of its own
   * @throws GemmoeError naming the file when it is no template
   */
  constructor({ path, text }: TemplateSource, variables: Readonly<Record<string, unknown>> = {}) {
    this.path = path;
    this.variables = variables;
    try {
      this.template = new Template(text);
    } catch (error) {
      throw new GemmoeError(
        'bad-data',
        `the chat template in ${path} cannot be read: ${messageOf(error)}`,
        'correct it, or name another: --template FILE',
        { cause: error },
      );
    }
  }

  /**
   * The text of a conversation; it is encoded without adding special tokens, since the template writes them.
   * @param answer whether the beginning of the model's answer is added
   * @throws GemmoeError naming the file and what the template says
   */
  render(messages: readonly ChatMessage[], answer: boolean): string {
    try {
      return this.template.render({ ...this.variables, messages, add_generation_prompt: answer });
    } catch (error) {
      throw new GemmoeError(
        'bad-data',
        `the chat template in ${this.path} refuses the conversation: ${messageOf(error)}`,
        'say it otherwise, leave out --system, or name another template: --template FILE',
        { cause: error },
      );
    }
  }
}
