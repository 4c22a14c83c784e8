// The command line as a user meets it: results, messages, exit codes, where options come from.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { builtinBackends } from '../backends/index.ts';
import { openSafetensors } from '../core/formats/safetensors.ts';
import { commandLine, ENVIRONMENT, MAIN, type Outcome, SMALL_RUN } from './support/cli.ts';
import { FIXTURES, missingData, readJson, ROOT, SHARED_DATA, type Expected } from './support/golden.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-cli-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const { gemmoe, spawned, json } = commandLine(scratch);

const MIXTRAL = join(FIXTURES, 'hf', 'mixtral');
const text = join(scratch, 'text.txt');
writeFileSync(text, 'It was the best of times, it was the worst of times.\n'.repeat(80));

const TRAIN = ['train', '--data', text, ...SMALL_RUN];

describe('help', () => {
  test('without a command: the overview, and exit code 2', async () => {
    const { code, out } = await gemmoe([]);
    expect(code).toBe(2);
    expect(out).toMatch(/train .*\n.*generate/);
  });

  test.each(['train', 'generate', 'prepare', 'inspect'])('%s --help lists its options', async (command) => {
    const { code, out } = await gemmoe([command, '--help']);
    expect(code).toBe(0);
    expect(out).toContain(`gemmoe ${command}`);
    expect(out).toMatch(/\n\ngeneral\n( +.*\n)* {2}--json\n/);
    for (const line of out.split('\n')) if (!line.startsWith('  gemmoe')) expect(line.length).toBeLessThanOrEqual(110);
  });

  test('--version', () => expect(spawned(['--version']).out.trim()).toMatch(/^\d+\.\d+\.\d+$/));

  test('the list of options in the README is that of the program', async () => {
    const listed = (await gemmoe(['help', '--markdown'])).out.trim();
    expect(listed.split('\n').length).toBeGreaterThan(50);
    expect(readFileSync(join(ROOT, 'README.md'), 'utf8')).toContain(listed);
  });
});

describe('what cannot be understood exits with 2 and says what would be', () => {
  test.each([
    [['trian'], /there is no command "trian"\n.*did you mean "train"\?/],
    [['help', 'trian'], /there is no command "trian"\n.*did you mean "train"\?/],
    [['--jsn'], /there is no option --jsn\n.*did you mean --json\?/],
    [['train', '--stepz', '3'], /there is no option --stepz\n.*did you mean --steps\?/],
    [['train', '--prompt', 'x'], /there is no option --prompt for this command/],
    [['train', '--steps', 'many'], /--steps is "many"/],
    [['train', '--steps', 'NaN'], /--steps is "NaN"/],
    [['train', '--steps', '0x10'], /--steps is "0x10"/],
    [['train', '--steps', 'Infinity'], /--steps is "Infinity"/],
    [['train', '--steps', '1e999'], /--steps is Infinity/],
    [['train', '--steps', '0'], /--steps is 0/],
    [['train', '--steps', '1.5'], /--steps is 1.5/],
    [['train', '--steps='], /--steps is ""/],
    [['train', '--steps'], /steps/],
    [['train', '--steps', '3', '--steps', '4'], /--steps is given 2 times/],
    [['train', '--learning-rate', '-1'], /--learning-rate is -1/],
    [['train', '--preset', 'huge'], /--preset is "huge"/],
    [['train', '--duration', 'soon'], /--duration is "soon"/],
    [['train', 'extra'], /train does not know what "extra" is/],
    [['train', '--steps', '3', '--duration', '1m'], /--steps and --duration are both given/],
    [['train', '--vocab-size', '300'], /--vocab-size is for a bpe tokenizer/],
    [['prepare', '--out', 'x', '--special', 'a'], /--special is for a bpe tokenizer/],
    [['train', '--heads', '3'], /3 heads do not divide the hidden size/],
    [['train', '--kv-heads', '3'], /numHeads is 4, which numKvHeads 3 does not divide/],
    [['train', '--experts-per-token', '9'], /topK is 9 but there are only/],
    [['generate'], /no model is named/],
    [['generate', '--prompt', '--foo'], /prompt\n.*--option=-value/],
    [['logits', '--model', MIXTRAL], /no ids are named/],
    [['inspect'], /nothing to inspect is named/],
  ])('%j', async (args, message) => {
    const { code, out, err } = await gemmoe(args);
    expect(err).toMatch(message);
    expect(code).toBe(2);
    expect(err).not.toMatch(/\n\s+at /);
    expect(out).toBe('');
  });
});

describe('what cannot be done exits with 1', () => {
  test.each([
    [['train', '--out', join(MIXTRAL, 'config.json')], /cannot use .*config\.json as run folder/],
    [['train', '--out', join(MIXTRAL, 'config.json', 'x')], /cannot/],
    [['backends', '--plugin', './none.mjs'], /plugin \.\/none\.mjs was not found/],
  ])('%j', async (args, message) => {
    const { code, out, err } = await gemmoe(args);
    expect(err).toMatch(message);
    expect(code).toBe(1);
    expect(err).not.toMatch(/\n\s+at /);
    expect(out).toBe('');
  });

  test('a folder that cannot be made', async () => {
    expect((await gemmoe(['train', '--out', '/proc/no/such'])).err).toMatch(/cannot make the run folder/);
  });
});

describe('how errors are told', () => {
  test('--debug shows the stack', async () => expect((await gemmoe(['trian', '--debug'])).err).toMatch(/\n\s+at /));

  test('--debug may stand in the environment', async () => {
    expect((await gemmoe(['inspect', 'tinny'], { env: { GEMMOE_DEBUG: '1' } })).err).toMatch(/\n\s+at /);
  });

  test('--json may stand in the environment and the config file', async () => {
    const folder = mkdtempSync(join(scratch, 'config-'));
    writeFileSync(join(folder, 'gemmoe.config.json'), '{ "json": true }');
    for (const options of [{ cwd: folder }, { env: { GEMMOE_JSON: '1' } }]) {
      expect(JSON.parse((await gemmoe(['inspect', 'tiny'], options)).out)).toMatchObject({ name: 'tiny' });
      expect(JSON.parse((await gemmoe(['inspect', 'tinny'], options)).out)).toMatchObject({
        error: { code: 'not-found' },
      });
    }
  });

  test('--json puts the error on standard output as one object', async () => {
    const { out } = await gemmoe(['generate', '--json']);
    expect(JSON.parse(out)).toEqual({
      error: { code: 'usage', message: 'no model is named', hint: expect.any(String) },
    });
  });
});

describe('the program', () => {
  /** Starts it, calls `then` once it has written `sign`, and waits for its end. */
  async function started(args: string[], sign: string, then: (child: ChildProcess) => void): Promise<Outcome> {
    const child = spawn(process.execPath, [MAIN, ...args], { cwd: scratch, env: ENVIRONMENT });
    const written = { out: '', err: '' };
    let isTold = false;
    const listen = (stream: 'out' | 'err') => (chunk: Buffer) => {
      written[stream] += chunk.toString();
      if (isTold || !`${written.out}${written.err}`.includes(sign)) return;
      isTold = true;
      then(child);
    };
    child.stdout.on('data', listen('out'));
    child.stderr.on('data', listen('err'));
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { code, ...written };
  }

  test.each([
    [['inspect', 'tiny'], 0],
    [['inspect', 'tinny'], 1],
    [['inspect', '--stepz'], 2],
  ])('%j ends with %i', (args, code) => expect(spawned(args).code).toBe(code));

  test('a reader that goes away early is no error', async () => {
    const child = spawn(process.execPath, [MAIN, 'generate', '--model', MIXTRAL, '--prompt-ids', '1', '--ignore-eos'], {
      cwd: scratch,
      env: ENVIRONMENT,
    });
    child.stdout.destroy();
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0);
    expect(err).toBe('');
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s stops a run with a checkpoint, which goes on', async (signal) => {
    const folder = join(scratch, signal);
    const args = [...TRAIN, '--steps', '1000000', '--out', folder, '--json'];
    const { code, out, err } = await started(args, 'folder ', (child) => child.kill(signal));
    expect(code).toBe(130);
    expect(err).toMatch(/stopping; once more/);
    expect(err).toMatch(
      /stopped after step \d+, saved\. Go on with: gemmoe train --resume .*\n\(gemmoe is here: node .*main\.js\)/,
    );
    const { interrupted, steps } = JSON.parse(out) as { interrupted: boolean; steps: number };
    expect(interrupted).toBe(true);
    const more = await gemmoe(['train', '--resume', folder, '--steps', String(steps + 2)]);
    expect(more.out, more.err).toMatch(`going on after step ${steps}`);
  });

  test('Ctrl-C ends at once a command that has nothing to save', async () => {
    const child = spawn(process.execPath, [MAIN, 'prepare', '-', '--out', 'x', '--tokenizer', 'byte'], {
      cwd: mkdtempSync(join(scratch, 'waiting-')),
      env: ENVIRONMENT,
    });
    const timer = setTimeout(() => child.kill('SIGINT'), 1000);
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
      child.on('close', (...how) => resolve(how)),
    );
    clearTimeout(timer);
    expect([code, signal]).toEqual([null, 'SIGINT']);
  });
});

describe('an option’s value', () => {
  const where = mkdtempSync(join(scratch, 'config-'));
  const stepsOf = async (args: string[], env: Record<string, string> = {}) =>
    (await json<{ steps: number }>([...TRAIN, '--dry-run', ...args], { cwd: where, env })).steps;

  test('comes from flag over environment over file over default', async () => {
    writeFileSync(join(where, 'gemmoe.config.json'), '{ "steps": 11 }');
    expect(await stepsOf([])).toBe(11);
    expect(await stepsOf([], { GEMMOE_STEPS: '12' })).toBe(12);
    expect(await stepsOf(['--steps', '13'], { GEMMOE_STEPS: '12' })).toBe(13);
  });

  test.each([
    ['gemmoe.config.ts', 'const steps: number = 21;\nexport default { steps };'],
    ['gemmoe.config.js', 'export default { steps: 21 };'],
  ])('may stand in %s', async (name, content) => {
    const folder = mkdtempSync(join(scratch, 'config-'));
    writeFileSync(join(folder, name), content);
    expect((await json<{ steps: number }>([...TRAIN, '--dry-run'], { cwd: folder })).steps).toBe(21);
  });

  test.each([
    ['{ "stepz": 3 }', {}, /there is no option "stepz"\n.*did you mean "steps"/],
    ['{ "steps": "many" }', {}, /gemmoe\.config\.json: steps is "many"/],
    ['{}', { GEMMOE_STEPZ: '1' }, /the environment sets GEMMOE_STEPZ.*\n.*did you mean GEMMOE_STEPS\?/],
    ['{}', { GEMMOE_STEPS: 'x' }, /GEMMOE_STEPS is "x"/],
  ])('%s with %j is refused', async (content, env, message) => {
    const folder = mkdtempSync(join(scratch, 'config-'));
    writeFileSync(join(folder, 'gemmoe.config.json'), content);
    const { code, err } = await gemmoe([...TRAIN, '--dry-run'], { cwd: folder, env: env as Record<string, string> });
    expect(code).toBe(2);
    expect(err).toMatch(message);
  });
});

test('the bpe preset comes with a bpe tokenizer', async () => {
  const plan = await json<{ parameters: { byPart: { embedding: number } } }>([
    ...['train', '--data', text, '--backend', 'reference', '--preset', 'bpe', '--vocab-size', '290', '--dry-run'],
    ...['--steps', '5', '--batch-size', '1', '--sequence-length', '16'],
  ]);
  expect(plan.parameters.byPart.embedding / 256).toBeLessThanOrEqual(290);
  expect(plan.parameters.byPart.embedding / 256).toBeGreaterThan(257);
});

test('a dry run shows the cost and writes nothing', async () => {
  const folder = mkdtempSync(join(scratch, 'dry-'));
  const { code, out } = await gemmoe([...TRAIN, '--dry-run', '--steps', '5'], { cwd: folder });
  expect(code).toBe(0);
  for (const word of ['parameters', 'active', 'memory', 'FLOP', 'steps', 'tokens']) expect(out).toContain(word);
  expect(readdirSync(folder)).toEqual([]);
});

describe('a run', () => {
  const run = join(scratch, 'run');

  beforeAll(async () => {
    const { code, out, err } = await gemmoe([...TRAIN, '--steps', '30', '--out', run]);
    expect(code, err).toBe(0);
    expect(out).toMatch(/validation loss +\d\.\d{4}/);
    expect(out).toMatch(/bigram model/);
  });

  test('leaves model, metrics and report', async () => {
    expect(readdirSync(run).sort()).toEqual(['checkpoints', 'metrics.jsonl', 'model', 'report.html', 'run.json']);
  });

  test('writes text, the same for the same seed', async () => {
    interface Written {
      ids: number[];
      text: string;
      finishReason: string;
    }
    const write = (...more: string[]) =>
      json<Written>(['generate', '--model', run, '--prompt', 'It was', '--max-new-tokens', '20', ...more]);
    const first = await write();
    expect(first.ids.length).toBe(20);
    expect(first.text.length).toBe(20);
    expect((await write()).ids).toEqual(first.ids);
    expect((await write('--seed', '2')).ids).not.toEqual(first.ids);
    expect((await write('--sampler', 'greedy')).ids).toEqual((await write('--temperature', '0')).ids);
    expect((await gemmoe(['generate', '--model', run, '--prompt', 'It was', '--max-new-tokens', '20'])).out).toBe(
      `It was${first.text}\n`,
    );
  });

  test('is measured', async () => {
    const { loss, perplexity } = await json<{ loss: number; perplexity: number }>([
      'evaluate',
      '--model',
      run,
      '--data',
      text,
    ]);
    expect(perplexity).toBeCloseTo(Math.exp(loss), 8);
  });

  test('tokenizes', async () => {
    const { ids } = await json<{ ids: number[] }>(['tokenize', 'times', '--model', run]);
    expect(ids.length).toBe(5);
    expect((await gemmoe(['tokenize', '--decode', ids.join(','), '--model', run])).out).toBe('times\n');
    expect(spawned(['tokenize', '--model', run], { input: 'times' }).out.trim()).toBe(ids.join(' '));
    expect((await gemmoe(['tokenize', 'ß', '--model', run])).err).toMatch(/the character "ß" \(U\+00DF\) is not among/);
  });

  test('is not overwritten', async () => {
    const before = readFileSync(join(run, 'metrics.jsonl'));
    const { code, err } = await gemmoe([...TRAIN, '--steps', '5', '--out', run]);
    expect(code).toBe(1);
    expect(err).toMatch(/is not empty.*\n.*continue it with --resume/);
    expect(readFileSync(join(run, 'metrics.jsonl')).equals(before)).toBe(true);
  });

  test('goes on with --resume, further with --steps', async () => {
    const { code, out, err } = await gemmoe(['train', '--resume', run, '--steps', '33', '--backend', 'reference']);
    expect(code, err).toBe(0);
    expect(out).toMatch(/going on after step 30/);
  });

  test('keeps its settings: another value is refused by name, the backend is its own', async () => {
    const refused = await gemmoe(['train', '--resume', run, '--batch-size', '3']);
    expect(refused.code).toBe(2);
    expect(refused.err).toMatch(/--batch-size is 3, but the run .* was made with 2/);
    expect((await gemmoe(['train', '--resume', run, '--steps', '34'])).out).toMatch(/backend +reference/);
  });

  test('--resume auto takes the newest, or begins', async () => {
    const folder = mkdtempSync(join(scratch, 'auto-'));
    const args = [...TRAIN, '--steps', '4', '--resume', 'auto'];
    expect((await gemmoe(args, { cwd: folder })).code).toBe(0);
    const again = await gemmoe(args, { cwd: folder });
    expect(again.code, again.err).toBe(0);
    expect(readdirSync(join(folder, 'runs')).length).toBe(1);
  });

  test('starts from another model', async () => {
    const tuned = join(scratch, 'tuned');
    const args = [
      'train',
      '--data',
      text,
      '--backend',
      'reference',
      '--init-from',
      run,
      '--steps',
      '3',
      '--out',
      tuned,
    ];
    const { code, err } = await gemmoe(args);
    expect(code, err).toBe(0);
    expect((await gemmoe([...args, '--layers', '3'])).err).toMatch(/layers cannot be changed with --init-from/);
  });

  test('uses plugins: optimizer, schedule and sampler', async () => {
    const plugins = ['optimizer', 'schedule', 'sampler'].flatMap((name) => [
      '--plugin',
      join(FIXTURES, 'plugins', `${name}.mjs`),
    ]);
    const folder = join(scratch, 'plugged');
    const chosen = [
      '--optimizer',
      'signum:beta=0.8',
      '--schedule',
      'staircase:every=2',
      '--steps',
      '4',
      '--out',
      folder,
    ];
    const { code, err } = await gemmoe([...TRAIN, ...chosen, ...plugins]);
    expect(code, err).toBe(0);
    const listed = (await gemmoe(['plugins', ...plugins])).out;
    for (const name of ['signum', 'staircase', 'no-echo']) expect(listed).toContain(name);
    const { ids } = await json<{ ids: number[] }>([
      ...['generate', '--model', folder, '--prompt', 'It', '--sampler', 'no-echo;greedy', ...plugins],
    ]);
    for (let i = 1; i < ids.length; i++) expect(ids[i]).not.toBe(ids[i - 1]);
  });
});

describe('models from outside', () => {
  test('logits are those of transformers', async () => {
    const expected = readJson<Expected>(MIXTRAL, 'expected.json');
    const ids = join(scratch, 'ids.json');
    writeFileSync(ids, JSON.stringify(expected.ids));
    const result = await json<{ shape: number[]; logits: number[] }>(['logits', '--model', MIXTRAL, '--ids-file', ids]);
    expect(result.shape).toEqual(expected.shape);
    for (const [i, logit] of result.logits.entries()) expect(Math.abs(logit - expected.logits[i])).toBeLessThan(2e-5);
  });

  test('ids in, ids out: the greedy continuation of transformers', async () => {
    const { ids: rows, greedy } = readJson<Expected>(MIXTRAL, 'expected.json');
    const args = ['--prompt-ids', rows[0].slice(0, 8).join(','), '--sampler', 'greedy', '--ignore-eos'];
    const { ids } = await json<{ ids: number[] }>([
      ...['generate', '--model', MIXTRAL, '--max-new-tokens', String(greedy.length), ...args],
    ]);
    expect(ids).toEqual(greedy);
  });

  const missing = missingData('stories260k');
  test.skipIf(missing)(`stories260k tells its story${missing ? ` (skipped: ${missing})` : ''}`, async () => {
    const model = join(SHARED_DATA, 'stories260k');
    const expected = readJson<{ prompt: string; prompt_ids: number[]; greedy_ids: number[]; text: string }>(
      ...[model, 'expected.json'],
    );
    const result = await json<{ ids: number[]; text: string; promptIds: number[] }>([
      ...['generate', '--model', model, '--prompt', expected.prompt, '--sampler', 'greedy'],
      ...['--max-new-tokens', String(expected.greedy_ids.length)],
    ]);
    expect(result.promptIds).toEqual(expected.prompt_ids);
    expect(result.ids).toEqual(expected.greedy_ids);
    expect(expected.prompt + result.text).toBe(expected.text);
  });

  test.each([
    ['[[1, 2], [3]]', /row 1 has 1 ids, row 0 has 2/],
    ['[[1, 96]]', /token id 96/],
    ['[[1, "a"]]', /row 0 is \[1,"a"\]/],
    ['[]', /holds no rows/],
    ['{', /cannot be read as JSON/],
  ])('logits of %s are refused', async (content, message) => {
    const file = join(scratch, 'bad-ids.json');
    writeFileSync(file, content);
    const { code, err } = await gemmoe(['logits', '--model', MIXTRAL, '--ids-file', file]);
    expect(err).toMatch(message);
    expect([1, 2]).toContain(code);
  });

  test.each([
    [['--prompt', 'x'], /has no tokenizer\.json/],
    [['--prompt-ids', '1,x'], /is no list of ids/],
    [['--prompt-ids', '1', '--prompt', 'x'], /are both given/],
    [['--prompt-ids', '1,96'], /token id 96/],
    [
      ['--prompt-ids', Array.from({ length: 64 }, () => 1).join(',')],
      /prompt has 64 tokens, the model's context only 64/,
    ],
    [
      ['--prompt-ids', '1', '--sampler', 'greedy', '--temperature', '1'],
      /--temperature has no place in the chain "greedy"/,
    ],
    [['--prompt-ids', '1', '--sampler', 'gredy'], /there is no sampler named "gredy"/],
  ])('generate %j is refused', async (args, message) => {
    expect((await gemmoe(['generate', '--model', MIXTRAL, ...args])).err).toMatch(message);
  });

  test('inspect counts parameters', async () => {
    const { parameters } = await json<{ parameters: { total: number; active: number } }>(['inspect', 'default6_9b']);
    expect(parameters.total / 1e9).toBeCloseTo(6.88, 2);
    expect(parameters.active / 1e9).toBeCloseTo(1.79, 2);
    expect((await gemmoe(['inspect', MIXTRAL])).out).toMatch(/parameters/);
    expect((await gemmoe(['inspect', 'tinny'])).err).toMatch(/did you mean "tiny"\?/);
  });
});

test.skipIf(!builtinBackends.backends?.some(({ name, unavailable }) => name === 'accelerate' && !unavailable()))(
  'GEMMOE_ISA chooses the instruction set of the addon',
  () => {
    const env = { GEMMOE_ISA: process.arch === 'arm64' ? 'neon' : 'baseline', GEMMOE_JSON: '1' };
    const { backends } = JSON.parse(spawned(['backends'], { env }).out) as {
      backends: { name: string; bound: { instructionSet: string } }[];
    };
    expect(backends.find(({ name }) => name === 'accelerate')?.bound.instructionSet).toBe(env.GEMMOE_ISA);
  },
);

test('backends are listed with what they are bound to', async () => {
  const { backends } = await json<{
    backends: { name: string; usable: boolean; bound: { threads: number }; native: string[] }[];
  }>(['backends']);
  const reference = backends.find(({ name }) => name === 'reference');
  expect(reference).toMatchObject({ usable: true, native: ['gemm'], bound: { threads: 1 } });
});

describe('a tokenizer with more ids than the model has rows', () => {
  const folder = join(scratch, 'long-tokenizer');

  beforeAll(async () => {
    expect((await gemmoe(['init', folder, '--preset', 'tiny', '--tokenizer', 'byte'])).code).toBe(0);
    const path = join(folder, 'tokenizer.json');
    const tokenizer = readJson<{ added_tokens: object[] }>(path);
    const marker = { content: '<far>', special: true, single_word: false, lstrip: false, rstrip: false };
    tokenizer.added_tokens.push({ ...marker, normalized: false, id: 300 });
    writeFileSync(path, JSON.stringify(tokenizer));
  });

  test.each([['generate', '--prompt', 'no such id in it'], ['evaluate', '--data', text], ['chat']])(
    'is refused by %s before weights are read, with both numbers',
    async (...args) => {
      rmSync(join(folder, 'model.safetensors'), { force: true });
      const { code, err } = await gemmoe([...args, '--model', folder, '--backend', 'reference']);
      expect(code).toBe(1);
      expect(err).toMatch(/long-tokenizer\/tokenizer\.json has 301 ids, vocab_size in config\.json is only 257\n/);
    },
  );
});

describe('training only a part', () => {
  const weightsOf = (folder: string) => openSafetensors(join(folder, 'model', 'model.safetensors'));

  test('moves the routers and leaves the rest as it is, also when it is resumed', async () => {
    const [first, second] = [join(scratch, 'whole-model'), join(scratch, 'routers-only')];
    const made = await gemmoe([...TRAIN, '--steps', '2', '--out', first]);
    expect(made.code, made.err).toBe(0);
    const data = ['--data', text, '--backend', 'reference', '--sequence-length', '16', '--batch-size', '2'];
    const onlyRouters = ['train', ...data, '--init-from', first, '--train-only', 'router', '--out', second];
    const tuned = await gemmoe([...onlyRouters, '--steps', '3']);
    expect(tuned.code, tuned.err).toBe(0);
    const [before, after] = [weightsOf(first), weightsOf(second)];
    for (const name of before.tensors.keys()) {
      const isSame = Buffer.compare(before.readRaw(name), after.readRaw(name)) === 0;
      expect(isSame, name).toBe(!name.endsWith('block_sparse_moe.gate.weight'));
    }
    before.close();
    after.close();
    const other = await gemmoe(['train', '--resume', second, '--train-only', 'expert', '--steps', '3']);
    expect(other.err).toMatch(/--train-only is .*router/);
  });

  test.each([
    [['--train-only', 'routr'], /group routr matches no parameter.*roles: .*router/s],
    [['--train-only', 'router', '--optimizer', 'adamw:groups=head(rate=2)'], /stands beside groups of adamw/],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await gemmoe([...TRAIN, '--steps', '1', '--out', join(scratch, 'never'), ...args]);
    expect(code).not.toBe(0);
    expect(err).toMatch(message);
  });
});
