// gemmoe chat: a conversation with a model in the terminal, by the model's own template.

import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { GemmoeError } from '../../core/errors.ts';
import { ChatSession } from '../../core/generation/chat-session.ts';
import {
  ChatTemplate,
  findChatTemplate,
  specialTokensOf,
  type TemplateSource,
} from '../../core/generation/chat-template.ts';
import { ChatInput } from '../chat-input.ts';
import type { Command, CommandContext, ExitCode } from '../command.ts';
import { chooseSampler, refuseUnreadOptions, SAMPLER_OPTIONS, stopIds } from '../sampling.ts';
import { backendLine, backendOf, openModel, startServices } from '../services.ts';
import type { Terminal } from '../terminal.ts';

const PROMPT = '> ';

const HELP = [
  '/reset   forget the conversation',
  '/exit    leave (also Ctrl-D)',
  '/help    this',
  'A line that ends in a backslash goes on with the next. Ctrl-C stops an answer.',
];

function templateOf({ options, cwd }: CommandContext, directory: string): TemplateSource {
  if (options.template !== undefined) {
    const path = resolve(cwd, options.template);
    if (!existsSync(path))
      throw new GemmoeError('not-found', `there is no ${path}`, 'name a Jinja file: --template FILE');
    return { path, text: readFileSync(path, 'utf8') };
  }
  const found = findChatTemplate(directory);
  if (found) return found;
  throw new GemmoeError(
    'not-found',
    `${directory} has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)`,
    'a model that was not tuned for conversation writes on from a text: `gemmoe generate`; or name a template: --template FILE',
  );
}

/** Who is speaking, and what Ctrl-C means now. */
class Conversation {
  readonly input: ChatInput;
  isInterrupted = false;
  private readonly session: ChatSession;
  private readonly terminal: Terminal;
  private answering: AbortController | undefined;
  private isWarned = false;

  constructor(session: ChatSession, terminal: Terminal) {
    this.session = session;
    this.terminal = terminal;
    this.input = new ChatInput(process.stdin, terminal.stream, () => this.interrupt());
  }

  /** Ctrl-C: ends the answer; else what is typed; else, the second time, the program. */
  readonly interrupt = (): void => {
    if (this.answering) {
      this.answering.abort();
      return;
    }
    if (this.isWarned && this.input.typed === '') {
      this.isInterrupted = true;
      this.input.end();
      return;
    }
    this.input.clear();
    this.terminal.print();
    this.terminal.note('Ctrl-C once more leaves');
    this.isWarned = true;
    this.input.show(PROMPT);
  };

  /** Talks until the lines end or one says so. */
  async run(): Promise<void> {
    for (;;) {
      const line = await this.input.next(PROMPT);
      if (line === null) return;
      this.isWarned = false;
      const text = line.trim();
      if (text === '/exit') return;
      if (text === '/reset') {
        this.session.reset();
        this.terminal.note('the conversation is forgotten');
      } else if (text === '/help') for (const row of HELP) this.terminal.note(row);
      else if (/^\/\w+$/.test(text)) this.terminal.note(`there is no ${text}; /help lists what there is`);
      else if (text !== '') await this.answer(line);
    }
  }

  private async answer(message: string): Promise<void> {
    this.answering = new AbortController();
    try {
      const answer = this.session.say(message, this.answering.signal);
      let next = await answer.next();
      while (!next.done) {
        this.terminal.write(next.value);
        next = await answer.next();
      }
      this.terminal.print();
      const { finishReason, droppedMessages } = next.value;
      if (droppedMessages > 0)
        this.terminal.note(`(the context is full: the first ${droppedMessages} messages were left out)`);
      if (finishReason === 'aborted') this.terminal.note('(stopped)');
      else if (finishReason !== 'stop') this.terminal.note(`(ended by ${finishReason})`);
    } finally {
      this.answering = undefined;
    }
  }
}

export const chat: Command = {
  name: 'chat',
  summary: 'talk with a model that has a chat template',
  options: [
    'model',
    'adapter',
    'system',
    'template',
    'maxNewTokens',
    ...SAMPLER_OPTIONS,
    'seed',
    'weights',
    'backend',
    'plugin',
  ],
  examples: [
    'gemmoe chat --model DIR',
    'gemmoe chat --model DIR --system "Answer briefly." --temperature 0.6',
    'gemmoe chat --model DIR < questions.txt',
  ],
  async run(context): Promise<ExitCode> {
    const { options, terminal } = context;
    refuseUnreadOptions(context);
    using services = await startServices(context);
    const { model, tokenizer, directory, generation, original } = openModel(context, services.kernels);
    if (!tokenizer) {
      throw new GemmoeError(
        'not-found',
        `${directory} has no tokenizer.json`,
        'a conversation is text: name another model',
      );
    }
    const ends = [
      ...stopIds(generation, original, tokenizer),
      ...(tokenizer.endOfText === undefined ? [] : [tokenizer.endOfText]),
    ];
    const chain = chooseSampler(context, services, { model, generation, tokenizer, stopIds: ends });
    const session = new ChatSession({
      ...{ model, tokenizer, system: options.system, sampler: chain, maxNewTokens: options.maxNewTokens },
      template: new ChatTemplate(templateOf(context, directory), specialTokensOf(directory)),
      stopIds: ends,
    });
    if (process.stdin.isTTY) {
      terminal.note(`${directory}; ${chain(0).description}; ${backendLine(services)}; /help for help`);
    }
    const conversation = new Conversation(session, terminal);
    process.on('SIGINT', conversation.interrupt);
    try {
      await conversation.run();
    } finally {
      process.off('SIGINT', conversation.interrupt);
      conversation.input.end();
    }
    terminal.result({ messages: session.messages, model: directory, seed: options.seed, backend: backendOf(services) });
    return conversation.isInterrupted ? 130 : 0;
  },
};
