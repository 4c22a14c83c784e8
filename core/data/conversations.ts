// Rows of instruction data: conversations, in the forms that data sets on the Hugging Face Hub have.

import { z } from 'zod';
import type { ChatMessage } from '../generation/chat-template.ts';

const content = z.string();
const message = z.object({ role: z.enum(['system', 'user', 'assistant']), content });
const turn = z.object({ from: z.enum(['system', 'human', 'user', 'gpt', 'assistant']), value: content });

const ROLES = { system: 'system', human: 'user', user: 'user', gpt: 'assistant', assistant: 'assistant' } as const;

/** Each form: the keys that tell it, and its messages. */
const FORMS: readonly {
  readonly keys: readonly string[];
  readonly read: (row: Record<string, unknown>) => ChatMessage[];
}[] = [
  { keys: ['messages'], read: (row) => z.array(message).parse(row['messages']) },
  {
    keys: ['conversations'],
    read: (row) =>
      z
        .array(turn)
        .parse(row['conversations'])
        .map(({ from, value }) => ({ role: ROLES[from], content: value })),
  },
  { keys: ['prompt', 'response'], read: (row) => exchange(row['prompt'], row['response']) },
  { keys: ['prompt', 'completion'], read: (row) => exchange(row['prompt'], row['completion']) },
  { keys: ['instruction', 'output'], read: (row) => exchange(instruction(row), row['output']) },
];

/** What rows may hold instead of text, for messages. */
export const CONVERSATION_KEYS = FORMS.map(({ keys }) => keys.join(' and ')).join('; ');

/**
 * The messages of a row: `messages` (role, content), `conversations` (from, value), `prompt` with `response` or `completion`,
 * or `instruction` (and `input`) with `output`; undefined for a row of no such form.
 * @throws Error saying what is wrong with a row that has the keys
 */
export function messagesOf(row: Record<string, unknown>): ChatMessage[] | undefined {
  const form = FORMS.find(({ keys }) => keys.every((key) => key in row));
  if (!form) return undefined;
  let messages: ChatMessage[];
  try {
    messages = form.read(row);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    const { path, message: said } = error.issues[0];
    throw new Error(`${[form.keys[0], ...path].join('.')}: ${said}`);
  }
  if (messages.some(({ role, content: text }) => role === 'assistant' && text.trim() !== '')) return messages;
  throw new Error(`${form.keys[0]} holds no answer to learn from`);
}

function exchange(prompt: unknown, answer: unknown): ChatMessage[] {
  return z.array(message).parse([
    { role: 'user', content: prompt },
    { role: 'assistant', content: answer },
  ]);
}

/** Alpaca's form: the instruction, and what it is about where there is something. */
function instruction(row: Record<string, unknown>): unknown {
  const { instruction: task, input } = row;
  return typeof input === 'string' && input !== '' ? `${String(task)}\n\n${input}` : task;
}
