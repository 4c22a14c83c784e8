// Instruction data: rows that are conversations, their rendering, and the loss on the answers alone.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BatchSampler } from '../core/data/batches.ts';
import { byteTokenizer } from '../core/data/bpe-tokenizer.ts';
import { chatRenderer, type LossOn } from '../core/data/chat-rendering.ts';
import { messagesOf } from '../core/data/conversations.ts';
import { type CorpusOptions, openCorpus } from '../core/data/corpus.ts';
import { readTargets, type TokenSource } from '../core/data/source.ts';
import { MemorySource } from '../core/data/sources.ts';
import type { ChatMessage } from '../core/generation/chat-template.ts';
import { IGNORE_INDEX } from '../core/kernels.ts';
import { smallSettings, traceOf, trainAndResume } from './support/runs.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-chats-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function rows(name: string, values: readonly unknown[]): string {
  const path = join(scratch, name);
  writeFileSync(path, values.map((value) => `${JSON.stringify(value)}\n`).join(''));
  return path;
}

const open = (data: string[], changes: Partial<CorpusOptions> = {}) =>
  openCorpus({ data, tokenizer: 'character', bpeVocabSize: 300, validationFraction: 0.3, ...changes });

const CHAT: readonly ChatMessage[] = [
  { role: 'system', content: 'be brief' },
  { role: 'user', content: 'hi' },
  { role: 'assistant', content: 'hello' },
  { role: 'user', content: 'bye' },
  { role: 'assistant', content: 'see you' },
];
const answers = (question: string, answer: string): ChatMessage[] => [
  { role: 'user', content: question },
  { role: 'assistant', content: answer },
];

/** The text of the tokens, and of those among them that are targets. */
function shown(source: TokenSource, decode: (ids: number[]) => string): { all: string; learned: string } {
  const [ids, targets] = [new Int32Array(source.length), new Int32Array(source.length)];
  source.read(0, ids, 0, source.length);
  readTargets(source, 0, targets, 0, source.length);
  return { all: decode([...ids]), learned: decode([...targets].filter((id) => id !== IGNORE_INDEX)) };
}

describe('a row', () => {
  test.each<[string, Record<string, unknown>]>([
    ['messages', { messages: answers('q', 'a') }],
    [
      'ShareGPT',
      {
        conversations: [
          { from: 'human', value: 'q' },
          { from: 'gpt', value: 'a' },
        ],
      },
    ],
    ['prompt and response', { prompt: 'q', response: 'a' }],
    ['prompt and completion', { prompt: 'q', completion: 'a' }],
    ['Alpaca', { instruction: 'q', input: '', output: 'a' }],
  ])('of %s is a question and its answer', (_, row) => {
    expect(messagesOf(row)).toEqual(answers('q', 'a'));
  });

  test('of Alpaca with an input asks about it; one of no form is none', () => {
    expect(messagesOf({ instruction: 'sum', input: '1 2', output: '3' })).toEqual(answers('sum\n\n1 2', '3'));
    expect(messagesOf({ question: 'q' })).toBeUndefined();
  });

  test.each<[string, unknown, RegExp]>([
    ['role', { messages: [{ role: 'robot', content: 'x' }] }, /line 1 messages\.0\.role/],
    ['answer', { messages: [{ role: 'user', content: 'x' }] }, /line 1 messages holds no answer/],
    ['number', { prompt: 'q', response: 3 }, /line 1 prompt\.1\.content/],
    ['form', { question: 'q' }, /line 1 has no text in field "text", and no conversation/],
  ])('with a wrong %s is refused by line', async (name, row, message) => {
    await expect(open([rows(`${name}.jsonl`, [row])])).rejects.toThrow(message);
  });
});

describe('a conversation', () => {
  const pieces = (lossOn: LossOn, tokenizer = byteTokenizer()) => chatRenderer(tokenizer, lossOn)(CHAT);

  test('is plain text where there is no template, its answers and their ends learned', () => {
    expect(pieces('answers')).toEqual([
      { text: 'system: be brief\nuser: hi\nassistant:', learned: false },
      { text: ' hello<|endoftext|>', learned: true },
      { text: '\nuser: bye\nassistant:', learned: false },
      { text: ' see you<|endoftext|>', learned: true },
    ]);
    const whole = pieces('answers').map(({ text }) => text);
    expect(pieces('all')).toEqual([{ text: whole.join(''), learned: true }]);
  });

  test('is written by the tokenizer’s template, with its special tokens', () => {
    const tokenizer = byteTokenizer();
    const template =
      "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<s>assistant\n{% endif %}";
    tokenizer.companions = { 'tokenizer_config.json': JSON.stringify({ chat_template: template, eos_token: '</s>' }) };
    const [first, second] = pieces('answers', tokenizer);
    expect(first).toEqual({ text: '<s>system\nbe brief</s><s>user\nhi</s><s>assistant\n', learned: false });
    expect(second).toEqual({ text: 'hello</s>', learned: true });
  });

  test('whose template writes answers otherwise than it asks for them is refused', () => {
    const tokenizer = byteTokenizer();
    tokenizer.companions = {
      'chat_template.jinja':
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}",
    };
    expect(() => pieces('answers', tokenizer)).toThrow(/chat_template\.jinja writes message 3 in another way/);
  });
});

describe('a corpus of conversations', () => {
  const data = rows('chats.jsonl', [
    ...['one', 'two', 'three', 'four'].map((word) => ({ prompt: `say ${word}`, response: word })),
    { text: 'plain text among them' },
    { messages: CHAT },
  ]);

  test.each(['character', 'byte', 'bpe'])(
    'has answers, their ends and plain text for targets (%s)',
    async (tokenizer) => {
      const corpus = await open([data], { tokenizer, validationFraction: 0.6 });
      const decode = (ids: number[]) => corpus.tokenizer.decode(ids, { specialTokens: true });
      const train = shown(corpus.train, decode);
      expect(train.all).toMatch(
        /^user: say one\nassistant: one<\|endoftext\|>user: say two\nassistant: two<\|endoftext\|>/,
      );
      expect(train.learned).toMatch(/^ one<\|endoftext\|> two<\|endoftext\|>/);
      const validation = shown(corpus.validation, decode);
      expect(validation.learned).toMatch(
        /plain text among them<\|endoftext\|> hello<\|endoftext\|> see you<\|endoftext\|>$/,
      );
      expect(`${train.all}${validation.all}`.match(/user:/g)).toHaveLength(6); // no conversation is cut
      expect(corpus.train.isMasked).toBe(true);
      expect(corpus.train.textBytes).toBeUndefined();
    },
  );

  test('learns everything when told, with another fingerprint', async () => {
    const [some, all] = [await open([data]), await open([data], { lossOn: 'all' })];
    const { all: read, learned } = shown(all.train, (ids) => all.tokenizer.decode(ids));
    expect(learned).toBe(read);
    expect(all.fingerprint).not.toBe(some.fingerprint);
  });

  test('a batch of prompts alone is passed over for one with something to learn', () => {
    const ignored = new Uint8Array(400).fill(1);
    ignored.fill(0, 380, 390);
    const source = new MemorySource(
      Uint32Array.from({ length: 400 }, (_, i) => i),
      undefined,
      ignored,
    );
    const sampler = () => new BatchSampler(source, { batchSize: 1, sequenceLength: 8, order: 'shuffle', seed: 1 });
    const [ids, targets, again] = [new Int32Array(8), new Int32Array(8), new Int32Array(8)];
    for (let step = 1; step <= 20; step++) {
      sampler().fill(step, ids, targets);
      expect(targets.some((target) => target !== IGNORE_INDEX)).toBe(true);
      for (let t = 0; t < 8; t++) expect(targets[t]).toBe(ids[t] >= 379 && ids[t] < 389 ? ids[t] + 1 : IGNORE_INDEX);
      sampler().fill(step, again, targets);
      expect(again).toEqual(ids);
    }
  });
});

describe('a run on conversations', () => {
  const data = rows(
    'run.jsonl',
    Array.from({ length: 60 }, (_, i) => ({ prompt: `what is ${i} plus one`, response: `it is ${i + 1}` })),
  );

  test('counts answers’ tokens, goes on exactly, and leaves a model with its chat template', async () => {
    const settings = smallSettings(scratch, { data: [data], batchSize: 4 });
    const [whole, parts] = [join(scratch, 'whole'), join(scratch, 'parts')];
    const { validation } = await trainAndResume(settings, whole);
    await trainAndResume(settings, parts, 5);
    const trace = traceOf(whole);
    expect(traceOf(parts)).toEqual(trace);
    const last = trace.metrics.filter((record) => record.kind === 'step').at(-1);
    expect(last?.tokens).toBeLessThan(8 * 4 * 16 * 0.6);
    expect(validation?.bitsPerByte).toBeNull();
    const template = readFileSync(join(whole, 'model', 'chat_template.jinja'), 'utf8');
    expect(template).toContain('<|endoftext|>');
    // a tokenizer with a template of its own keeps it
    const folder = join(scratch, 'own');
    cpSync(join(whole, 'model'), folder, { recursive: true });
    const changed = template.replaceAll(': ', ' = ').replaceAll('assistant:', 'assistant =');
    writeFileSync(join(folder, 'chat_template.jinja'), changed);
    // its '=' is a character that the tokenizer does not know: so the template is used, and named
    await expect(open([data], { tokenizer: join(folder, 'tokenizer.json') })).rejects.toThrow(/"="/);
    const corpus = await open([data], { tokenizer: 'byte' });
    expect(corpus.tokenizer.companions?.['chat_template.jinja']).toBe(template);
  });
});
