// Conversations as text to train on, each piece of it marked: the answers are learned, the rest is only read.

import { type ChatMessage, ChatTemplate, specialTokensIn, templateIn } from '../generation/chat-template.ts';
import { END_OF_TEXT } from './bpe-tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A piece of a conversation's text, which is tokenised by itself: so a model is asked and answers, too. */
export interface ChatPiece {
  readonly text: string;
  readonly learned: boolean;
}

/** Turns a conversation into its pieces. @throws Error saying what does not fit */
export type ChatRenderer = (messages: readonly ChatMessage[]) => ChatPiece[];

/** Which parts of a conversation are learned. */
export const LOSS_ON = ['answers', 'all'] as const;
export type LossOn = (typeof LOSS_ON)[number];

const TEMPLATE_FILE = 'chat_template.jinja';
const SETTINGS_FILE = 'tokenizer_config.json';

/** Where a model has no template of its own: roles before colons, answers ended by the end of a text. */
function plainTemplate(endOfText: string): string {
  return (
    "{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}{{ message['role'] }}: " +
    `{{ message['content'] | trim }}{% if message['role'] == 'assistant' %}{{ ${JSON.stringify(endOfText)} }}{% endif %}` +
    "{% endfor %}{% if add_generation_prompt %}{{ '\\nassistant:' }}{% endif %}"
  );
}

/** The renderer for a tokenizer that is still to be made of the data: plain, with END_OF_TEXT. */
export function plainRenderer(lossOn: LossOn): ChatRenderer {
  return rendererOf(new ChatTemplate({ path: 'the plain template', text: plainTemplate(END_OF_TEXT) }), lossOn);
}

/** The renderer for a tokenizer: the template that came with it, failing that the plain one. */
export function chatRenderer(tokenizer: Tokenizer, lossOn: LossOn): ChatRenderer {
  const files = tokenizer.companions ?? {};
  const own = ownTemplate(files);
  if (!own) return rendererOf(new ChatTemplate({ path: 'the plain template', text: plainOf(tokenizer) }), lossOn);
  const tokens = Object.assign(
    {},
    ...['special_tokens_map.json', SETTINGS_FILE].map((name) => specialTokensIn(jsonOf(files[name]))),
  ) as Record<string, string>;
  return rendererOf(new ChatTemplate({ path: own.name, text: own.text }, tokens), lossOn);
}

/** Sees to it that a model which learns conversations is written with the template they were rendered with. */
export function addPlainTemplate(tokenizer: Tokenizer): void {
  const files = tokenizer.companions ?? {};
  if (!ownTemplate(files)) tokenizer.companions = { ...files, [TEMPLATE_FILE]: plainOf(tokenizer) };
}

function plainOf(tokenizer: Tokenizer): string {
  const { endOfText } = tokenizer;
  return plainTemplate(endOfText === undefined ? '' : tokenizer.decode([endOfText], { specialTokens: true }));
}

function ownTemplate(files: Readonly<Record<string, string>>): { name: string; text: string } | undefined {
  if (files[TEMPLATE_FILE] !== undefined) return { name: TEMPLATE_FILE, text: files[TEMPLATE_FILE] };
  const text = templateIn(jsonOf(files[SETTINGS_FILE])['chat_template']);
  return text === undefined ? undefined : { name: SETTINGS_FILE, text };
}

function jsonOf(text: string | undefined): Record<string, unknown> {
  return text === undefined ? {} : (JSON.parse(text) as Record<string, unknown>);
}

/**
 * An answer is what the template writes for an assistant's message behind the beginning of an answer, which is what the model
 * will be asked with: so the marks that end it are learned too.
 */
function rendererOf(template: ChatTemplate, lossOn: LossOn): ChatRenderer {
  return (messages) => {
    const whole = template.render(messages, false);
    if (lossOn === 'all') return [{ text: whole, learned: true }];
    const pieces: ChatPiece[] = [];
    let at = 0;
    for (const [i, { role }] of messages.entries()) {
      if (role !== 'assistant') continue;
      const asked = template.render(messages.slice(0, i), true);
      const answered = template.render(messages.slice(0, i + 1), false);
      if (asked.length < at || !answered.startsWith(asked) || !whole.startsWith(answered)) {
        throw new Error(
          `the chat template in ${template.path} writes message ${i + 1} in another way than it begins an answer, so the answer cannot be told from the rest`,
        );
      }
      pieces.push({ text: whole.slice(at, asked.length), learned: false });
      pieces.push({ text: whole.slice(asked.length, answered.length), learned: true });
      at = answered.length;
    }
    pieces.push({ text: whole.slice(at), learned: false });
    return pieces.filter(({ text }) => text !== '');
  };
}
