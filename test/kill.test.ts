// A real process, killed at random moments and resumed, ends with the bits of one that was left alone.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readMetrics } from '../core/training/metrics-log.ts';
import { ROOT } from './support/golden.ts';
import { USABLE_BACKENDS } from './support/kernels.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-kill-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const text = join(scratch, 'text.txt');
writeFileSync(
  text,
  Array.from({ length: 900 }, (_, i) => `line ${i} of ${(i * 7919) % 1000}: the whale, the sea, and the ship.\n`).join(
    '',
  ),
);

const SHAPE = [
  ...['--preset', 'tiny', '--hidden-size', '32', '--heads', '2', '--expert-width', '32', '--sequence-length', '32'],
  ...['--batch-size', '4', '--eval-interval', '20', '--eval-windows', '8', '--sample-interval', '45'],
  ...['--save-interval', '7', '--keep-last', '2', '--optimizer', 'adamw', '--data', text],
];

/** Steps of a run: enough that a kill falls within it. */
const stepsOn = (backend: string) => (backend === 'accelerate' ? '1200' : '120');

function start(args: string[]): { child: ChildProcess; ended: Promise<number | null>; output: () => string } {
  const child = spawn(process.execPath, [join(ROOT, 'dist', 'cli', 'main.js'), 'train', ...args], { cwd: scratch });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += String(chunk)));
  child.stderr.on('data', (chunk: Buffer) => (output += String(chunk)));
  return { child, ended: new Promise((resolve) => child.on('close', (code) => resolve(code))), output: () => output };
}

/** Kills the process some time after it has begun to train; true when it was still running then. */
async function killSomewhere(args: string[], run: string, milliseconds: number): Promise<boolean> {
  const metrics = join(run, 'metrics.jsonl');
  const before = existsSync(metrics) ? statSync(metrics).mtimeMs : -1;
  const { child, ended } = start(args);
  let alive = true;
  void ended.then(() => (alive = false));
  while (alive && (!existsSync(metrics) || statSync(metrics).mtimeMs === before)) await sleep(5);
  await Promise.race([sleep(milliseconds), ended]);
  const killed = alive && child.kill('SIGKILL');
  await ended;
  return killed;
}

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe.each(USABLE_BACKENDS)('on %s', (backend) => {
  test('killed again and again, and resumed', { timeout: 120_000 }, async () => {
    const choice = ['--backend', backend];
    const shape = [...SHAPE, '--steps', stepsOn(backend)];
    const whole = join(scratch, `whole-${backend}`);
    const undisturbed = start([...shape, ...choice, '--out', whole]);
    expect(await undisturbed.ended, undisturbed.output()).toBe(0);

    const run = join(scratch, `killed-${backend}`);
    const delays: number[] = [];
    let kills = 0;
    for (let attempt = 0; attempt < 5; attempt++) {
      delays.push(Math.random() * 250);
      const args = existsSync(join(run, 'run.json')) ? ['--resume', run] : [...shape, '--out', run];
      if (await killSomewhere([...args, ...choice], run, delays[attempt])) kills++;
    }
    const last = start(['--resume', run, ...choice]);
    expect(await last.ended, last.output()).toBe(0);

    expect(kills, 'at least one kill came before the end').toBeGreaterThan(0);
    const weights = (directory: string) => readFileSync(join(directory, 'model', 'model.safetensors'));
    expect(weights(run).equals(weights(whole)), `killed after ${delays.map(Math.round).join(', ')} ms`).toBe(true);
    const timeless = (directory: string) =>
      readMetrics(directory).map((record) => ({ ...record, milliseconds: 0, mfu: null, dataMilliseconds: 0 }));
    expect(timeless(run)).toEqual(timeless(whole));
  });

  test('Ctrl-C saves, says how to go on, and exits with 130', { timeout: 60_000 }, async () => {
    const run = join(scratch, `interrupted-${backend}`);
    const { child, ended, output } = start([...SHAPE, '--steps', stepsOn(backend), '--backend', backend, '--out', run]);
    const metrics = join(run, 'metrics.jsonl');
    while (child.exitCode === null && (!existsSync(metrics) || statSync(metrics).size === 0)) await sleep(5);
    child.kill('SIGINT');
    expect(await ended, output()).toBe(130);
    expect(output()).toMatch(/stopped after step \d+, saved[\s\S]*train --resume/);
    const { step } = JSON.parse(readFileSync(join(run, 'checkpoints', latest(run), 'training_state.json'), 'utf8')) as {
      step: number;
    };
    expect(output()).toContain(`after step ${step}`);
  });
});

function latest(run: string): string {
  const step = Math.max(...readMetrics(run).map((record) => record.step));
  return `step-${String(step).padStart(8, '0')}`;
}
