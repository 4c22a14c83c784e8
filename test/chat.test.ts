// Conversations: templates, what the cache keeps between turns, and the command.

import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { byteTokenizer } from '../core/data/bpe-tokenizer.ts';
import { loadTokenizer } from '../core/data/tokenizers.ts';
import { loadModel, saveModel } from '../core/formats/hugging-face.ts';
import { initDirectory } from '../core/formats/init-directory.ts';
import { ChatSession } from '../core/generation/chat-session.ts';
import { ChatTemplate, findChatTemplate, specialTokensOf } from '../core/generation/chat-template.ts';
import { Generator } from '../core/generation/generator.ts';
import { PrefixCache } from '../core/generation/prefix-cache.ts';
import { createChain } from '../core/generation/sampler-chain.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import { Registry } from '../core/registry.ts';
import { greedy } from '../plugins/samplers/greedy.ts';
import { commandLine } from './support/cli.ts';
import { referenceKernels } from './support/kernels.ts';
import { refusal } from './support/refusal.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-chat-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let count = 0;
const fresh = () => join(scratch, `x${count++}`);

const kernels = referenceKernels();
const CONTEXT = 160;
const TEMPLATE =
  "{%- for m in messages %}\n    {{- '<' ~ m.role ~ '>' ~ m.content ~ eos_token }}\n{%- endfor %}\n" +
  "{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";

/** A small random model that reads bytes, with a template. */
const MODEL = fresh();
initDirectory(
  MODEL,
  new Transformer(
    { ...PRESETS['char-mini'].config, vocabSize: 257, numLayers: 2, maxSequenceLength: CONTEXT },
    kernels,
  ),
  { seed: 4, dtype: 'F32', tokenizer: byteTokenizer() },
);
writeFileSync(join(MODEL, 'chat_template.jinja'), TEMPLATE);

describe('a template', () => {
  const folder = (files: Record<string, unknown>) => {
    const directory = fresh();
    mkdirSync(directory);
    for (const [name, value] of Object.entries(files)) {
      writeFileSync(join(directory, name), typeof value === 'string' ? value : JSON.stringify(value));
    }
    return directory;
  };
  const hello = [{ role: 'user', content: 'hello' }] as const;

  test('is the file, then the setting, of several the default', () => {
    const settings = { chat_template: 'setting' };
    expect(findChatTemplate(folder({ 'chat_template.jinja': 'file', 'tokenizer_config.json': settings }))?.text).toBe(
      'file',
    );
    expect(findChatTemplate(folder({ 'tokenizer_config.json': settings }))?.text).toBe('setting');
    const several = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain' },
    ];
    expect(findChatTemplate(folder({ 'tokenizer_config.json': { chat_template: several } }))?.text).toBe('plain');
    expect(findChatTemplate(folder({ 'tokenizer_config.json': {} }))).toBeUndefined();
    expect(findChatTemplate(folder({}))).toBeUndefined();
  });

  test('sees messages and special tokens, and blocks leave no line behind', () => {
    const directory = folder({
      'special_tokens_map.json': { bos_token: '<old>', unk_token: '<unk>' },
      'tokenizer_config.json': { bos_token: { content: '<s>' }, eos_token: '</s>', model_max_length: 5 },
    });
    const tokens = specialTokensOf(directory);
    expect(tokens).toEqual({ bos_token: '<s>', unk_token: '<unk>', eos_token: '</s>' });
    const text = '{{ bos_token }}\n{% for m in messages %}\n{{ m.content | upper }}{{ eos_token }}\n{% endfor %}\nend';
    expect(new ChatTemplate({ path: 'x', text }, tokens).render(hello, false)).toBe('<s>\nHELLO</s>\nend');
  });

  test.each([
    ['{% for %}', /chat template in here.jinja cannot be read/],
    [
      '{{ raise_exception("no system please") }}',
      /chat template in here.jinja refuses the conversation: .*no system please/,
    ],
    ['{{ messages | nonsense }}', /chat template in here.jinja refuses/],
  ])('%s is an error that names the file', (text, message) => {
    expect(refusal(() => new ChatTemplate({ path: 'here.jinja', text }).render(hello, true)).message).toMatch(message);
  });
});

const { model } = loadModel(MODEL, kernels);
const tokenizer = loadTokenizer(MODEL);
const chain = () => createChain('greedy', new Registry('sampler', [greedy]), 1);

describe('a prefix cache', () => {
  test('changes no token, whatever was in it', async () => {
    const prefix = new PrefixCache(model);
    const generator = new Generator(model);
    const prompts = [
      [1, 2, 3, 4, 5],
      [1, 2, 3, 9, 9, 9, 9],
      [1, 2, 3],
      [7],
      [7, 8],
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    ];
    const idsOf = async (prompt: number[], cached?: PrefixCache) => {
      const ids: (number | null)[] = [];
      const options = { sampler: chain(), maxNewTokens: 9, prefix: cached };
      for await (const { id } of generator.generate(prompt, options)) ids.push(id);
      return ids;
    };
    for (const prompt of prompts) expect(await idsOf(prompt, prefix)).toEqual(await idsOf(prompt));
    const again = [...prompts[5], ...((await idsOf(prompts[5])) as number[])];
    // the last token of an answer was chosen, not read
    expect(prefix.reuse([...again, 0])).toBe(again.length - 1);
  });
});

describe('a session', () => {
  const session = (extra: object = {}) =>
    new ChatSession({
      ...{ model, tokenizer, sampler: chain, maxNewTokens: 12, stopIds: [256] },
      template: new ChatTemplate({ path: 'x', text: TEMPLATE }, { eos_token: '<|endoftext|>' }),
      ...extra,
    });

  async function say(chat: ChatSession, message: string, signal?: AbortSignal) {
    const pieces: string[] = [];
    const answer = chat.say(message, signal);
    let next = await answer.next();
    for (; !next.done; next = await answer.next()) pieces.push(next.value);
    expect(pieces.join('')).toBe(next.value.text);
    return next.value;
  }

  test('answers as a model would that reads the whole conversation anew, and reads only what is new', async () => {
    const chat = session({ system: 'be brief' });
    const first = await say(chat, 'hi');
    expect(first.cachedTokens).toBe(0);
    const second = await say(chat, 'and?');
    expect(second.cachedTokens).toBeGreaterThanOrEqual(first.promptTokens);
    const rendered = `<system>be brief<|endoftext|><user>hi<|endoftext|><assistant>${first.text}<|endoftext|><user>and?<|endoftext|><assistant>`;
    const prompt = tokenizer.encode(rendered);
    expect(second.promptTokens).toBe(prompt.length);
    let text = '';
    const options = { sampler: chain(), maxNewTokens: 12, stopIds: [256] };
    for await (const piece of new Generator(model, tokenizer).generate(prompt, options)) text += piece.text;
    expect(second.text).toBe(text);
    expect(chat.messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user', 'assistant']);
    chat.reset();
    expect(chat.messages).toEqual([{ role: 'system', content: 'be brief' }]);
    expect((await say(chat, 'hi')).text).toBe(first.text);
  });

  test('keeps what was written of an answer that is stopped', async () => {
    const chat = session();
    const controller = new AbortController();
    const answer = chat.say('hi', controller.signal);
    await answer.next();
    await answer.next();
    controller.abort();
    let next = await answer.next();
    while (!next.done) next = await answer.next();
    expect(next.value).toMatchObject({ finishReason: 'aborted', newTokens: 2 });
    expect(chat.messages.at(-1)).toEqual({ role: 'assistant', content: next.value.text });
  });

  test('leaves out the oldest turns when the context is full', async () => {
    const chat = session({ system: 'S' });
    let dropped = 0;
    for (let turn = 0; turn < 6; turn++) {
      const answer = await say(chat, `question number ${turn}`);
      dropped += answer.droppedMessages;
      expect(answer.promptTokens + 12).toBeLessThanOrEqual(CONTEXT);
    }
    expect(dropped).toBeGreaterThan(0);
    expect(dropped % 2).toBe(0);
    expect(chat.messages[0].role).toBe('system');
    expect(chat.messages[1].role).toBe('user');
  });

  test('refuses a message that fills the context, and goes on as before', async () => {
    const chat = session();
    await say(chat, 'hi');
    const before = chat.messages;
    await expect(say(chat, 'x'.repeat(CONTEXT))).rejects.toThrow(/the message takes \d+ tokens .* context is 160/);
    expect(chat.messages).toEqual(before);
    expect((await say(chat, 'and?')).newTokens).toBeGreaterThan(0);
  });
});

describe('the command', () => {
  const { gemmoe, spawned } = commandLine(scratch);

  test('answers lines that come through a pipe', () => {
    const args = ['chat', '--model', MODEL, '--temperature', '0', '--max-new-tokens', '5', '--json', '--system', 'S'];
    const { code, out, err } = spawned(args, { input: 'one\n\n/reset\n/what\ntwo \\\nlines\nthree\n' });
    expect(code, err).toBe(0);
    const { messages } = JSON.parse(out) as { messages: { role: string; content: string }[] };
    expect(messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user', 'assistant']);
    expect(messages[1].content).toBe('two \nlines');
    expect(err).toContain('there is no /what');
  });

  test('ends at /exit', () => {
    const { out } = spawned(['chat', '--model', MODEL, '--max-new-tokens', '2', '--json'], { input: 'a\n/exit\nb\n' });
    expect((JSON.parse(out) as { messages: object[] }).messages).toHaveLength(2);
  });

  test.each([
    [['--model', join(scratch, 'none')], /has no chat template .*\n.*--template FILE/],
    [['--model', MODEL, '--template', 'missing.jinja'], /there is no .*missing.jinja/],
    [['--model', MODEL, '--template', 'bad.jinja'], /chat template in .*bad.jinja cannot be read/],
    [['--model', MODEL, '--sampler', 'greedy', '--top-k', '3'], /--top-k has no place in the chain/],
    [['--model', join(scratch, 'silent')], /has no tokenizer.json/],
  ])('%j is refused', async (args, message) => {
    for (const name of ['none', 'silent']) {
      cpSync(MODEL, join(scratch, name), { recursive: true });
      rmSync(join(scratch, name, 'chat_template.jinja'), { force: true });
    }
    rmSync(join(scratch, 'silent', 'tokenizer.json'));
    writeFileSync(join(scratch, 'bad.jinja'), '{% if %}');
    const { code, err } = await gemmoe(['chat', ...args]);
    expect(err).toMatch(message);
    expect(code).not.toBe(0);
  });

  test('a template that throws ends it with its own words', () => {
    writeFileSync(join(scratch, 'throws.jinja'), '{{ raise_exception("only in French") }}');
    const { code, err } = spawned(['chat', '--model', MODEL, '--template', 'throws.jinja'], { input: 'hi\n' });
    expect(code).toBe(1);
    expect(err).toMatch(/throws.jinja refuses the conversation: .*only in French/);
  });
});

describe('what belongs to a tokenizer goes with it', () => {
  const SETTINGS = '{"eos_token": "<|endoftext|>",   "odd": [1]}';
  cpSync(MODEL, join(scratch, 'tuned'), { recursive: true });
  writeFileSync(join(scratch, 'tuned', 'tokenizer_config.json'), SETTINGS);
  mkdirSync(join(scratch, 'tuned', 'additional_chat_templates'));
  writeFileSync(join(scratch, 'tuned', 'additional_chat_templates', 'tool.jinja'), 'tools');

  function expectCompanions(directory: string): void {
    const read = (name: string) => readFileSync(join(directory, name), 'utf8');
    expect(read('tokenizer_config.json')).toBe(SETTINGS);
    expect(read('chat_template.jinja')).toBe(TEMPLATE);
    expect(read('additional_chat_templates/tool.jinja')).toBe('tools');
  }

  test('when a model is saved', () => {
    const out = fresh();
    saveModel(out, model, { tokenizer: loadTokenizer(join(scratch, 'tuned')) });
    expectCompanions(out);
  });

  test('through preparing data and training', async () => {
    const { gemmoe } = commandLine(scratch);
    writeFileSync(join(scratch, 'text.txt'), 'some words to learn from, again and again. '.repeat(60));
    const tokenizerFile = join(scratch, 'tuned', 'tokenizer.json');
    const prepared = await gemmoe(['prepare', 'text.txt', '--out', 'prepared', '--tokenizer', tokenizerFile]);
    expect(prepared.code, prepared.err).toBe(0);
    const trained = await gemmoe([
      ...['train', '--init-from', 'tuned', '--data', 'prepared', '--tokenizer', tokenizerFile, '--steps', '1'],
      ...['--sequence-length', '16', '--batch-size', '1', '--backend', 'reference', '--out', 'tuning'],
    ]);
    expect(trained.code, trained.err).toBe(0);
    expectCompanions(join(scratch, 'prepared'));
    expectCompanions(join(scratch, 'tuning', 'model'));
  });
});
