// What is said of a run before and while it trains: memory, time, utilisation, and the line that follows it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { totalmem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { liveLine, sparkline } from '../cli/live-line.ts';
import { memoryOfProcess } from '../cli/memory.ts';
import { TimeLeft } from '../cli/time-left.ts';
import { planLines } from '../cli/train-view.ts';
import type { RunObserver } from '../core/training/events.ts';
import { fits, refuseTooLarge } from '../core/training/memory-limit.ts';
import { readMetrics } from '../core/training/metrics-log.ts';
import { measurePeakRate } from '../core/training/peak-rate.ts';
import { planRun, resume, train } from '../core/training/run.ts';
import { commandLine } from './support/cli.ts';
import { refusal } from './support/refusal.ts';
import { referenceServices, smallSettings } from './support/runs.ts';

vi.setConfig({ testTimeout: 60_000 });
const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-view-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const services = referenceServices();
const quiet: RunObserver = { planned() {}, record() {} };
const MEBIBYTE = 2 ** 20;

describe('memory', () => {
  const parts = (total: number) => ({ weights: total, gradients: 0, optimizer: 0, activations: 0, total });

  test('is enough when the tensors and the process itself fit', () => {
    expect(fits(parts(100 * MEBIBYTE), 228 * MEBIBYTE)).toBe(true);
    expect(fits(parts(100 * MEBIBYTE), 228 * MEBIBYTE - 1)).toBe(false);
    refuseTooLarge(parts(100 * MEBIBYTE), 228 * MEBIBYTE);
    const { message, hint } = refusal(() => refuseTooLarge(parts(2 ** 30), 2 ** 30));
    expect(message).toMatch(/needs 1\.13 GiB.*weights 1\.00 GiB.*1\.00 GiB are there/);
    expect(hint).toMatch(/--force/);
  });

  test('that is not there refuses a run before its weights are made, and a resumed one', async () => {
    // a table of a hundred thousand million weights, which no machine could allocate
    const model = { ...smallSettings(scratch).model, hiddenSize: 2 ** 16, expertWidth: 2 ** 18 };
    const run = join(scratch, 'too-large');
    const huge = { ...smallSettings(scratch), model };
    await expect(train(huge, run, services, quiet, { memoryLimit: totalmem() })).rejects.toThrow(/GiB are there/);
    const plan = await planRun(huge, run, services, { memoryLimit: totalmem() });
    expect(plan.notes.join()).toMatch(/needs more memory/);
    const small = join(scratch, 'small');
    await train(smallSettings(scratch), small, services, quiet, { memoryLimit: 200 * MEBIBYTE });
    await expect(resume(small, services, quiet, { memoryLimit: 100 * MEBIBYTE })).rejects.toThrow(/GiB are there/);
  });

  test('of the process is that of the machine or less', () => {
    expect(memoryOfProcess()).toBeGreaterThan(0);
    expect(memoryOfProcess()).toBeLessThanOrEqual(totalmem());
  });
});

describe('utilisation', () => {
  test('is measured against the best of a few products', () => {
    const peak = measurePeakRate(services.kernels);
    expect(peak).toBeGreaterThan(1e7);
    expect(peak).toBeLessThan(1e13);
    // a backend that takes a millisecond more for each product is found slower
    const slow: typeof services.kernels.linear = (...args) => {
      for (const until = performance.now() + 30; performance.now() < until;);
      services.kernels.linear(...args);
    };
    expect(measurePeakRate({ linear: slow })).toBeLessThan((2 * 128 ** 3) / 0.03);
  });

  test('of a step is its operations a second over the peak', async () => {
    const run = join(scratch, 'used');
    let flops = 0;
    const observer: RunObserver = { planned: (plan) => void (flops = plan.flopsPerStep), record() {} };
    await train(smallSettings(scratch), run, services, observer, { peakRate: 1e9 });
    const steps = readMetrics(run).filter((record) => record.kind === 'step');
    for (const { mfu, milliseconds } of steps) expect(mfu).toBeCloseTo(flops / (milliseconds / 1000) / 1e9, 12);
    const other = join(scratch, 'unmeasured');
    await train(smallSettings(scratch), other, services, quiet);
    expect(readMetrics(other)[0]).toMatchObject({ kind: 'step', mfu: null });
  });
});

describe('the plan', () => {
  test('tells how long a run will take, by steps that are timed', async () => {
    const plan = await planRun(smallSettings(scratch, { steps: 1000 }), join(scratch, 'plan'), services);
    const longer = await planRun(smallSettings(scratch, { steps: 100_000 }), join(scratch, 'plan'), services);
    expect(plan.steps).toBe(1000);
    expect(plan.expectedSeconds).toBeGreaterThan(0.1);
    expect(longer.expectedSeconds! / plan.expectedSeconds!).toBeGreaterThan(10);
    expect(planLines({ ...plan, expectedSeconds: 75 }).join('\n')).toMatch(/time +about 1m15s/);
  });

  test('fits 80 columns', async () => {
    const plan = await planRun(smallSettings(scratch), 'run', services, { peakRate: 123.4e9, memoryLimit: 2 ** 34 });
    for (const line of planLines(plan)) expect(line.length).toBeLessThanOrEqual(80);
  });
});

describe('the time that is left', () => {
  const plan = { steps: 100, tokensPerStep: 10, validationTokens: 300, validationWindows: 50 };
  let now = 0;
  const started = (maxSeconds?: number) => {
    now = 1e6;
    return new TimeLeft(plan, maxSeconds, () => now);
  };
  const step = (left: TimeLeft, milliseconds: number, aside = 0) => {
    now += milliseconds;
    left.stepped(milliseconds);
    now += aside;
  };

  test('is that of the steps and of a validation as large as 30 forward passes', () => {
    const left = started();
    step(left, 1000);
    expect(left.seconds(1, 1000)).toBeCloseTo(99 + 10, 9);
  });

  test('grows by what happens beside the steps', () => {
    const left = started();
    for (let i = 0; i < 10; i++) step(left, 1000, 500);
    expect(left.seconds(10, 1000)).toBeCloseTo(90 * 1.5 + 10, 9);
  });

  test('knows what a validation takes once it has seen one', () => {
    const left = started();
    step(left, 1000);
    now += 2000;
    left.validated(5); // 0.4 s a window; the step and the validation took 3 s together
    expect(left.seconds(1, 1000)).toBeCloseTo(99 * 3 + 20, 9);
  });

  test('is no more than the limit leaves', () => {
    const left = started(60);
    step(left, 1000);
    expect(left.seconds(1, 1000)).toBe(59);
    now += 100_000;
    expect(left.seconds(1, 1000)).toBe(0);
  });
});

describe('the live line', () => {
  const pieces = [
    { text: 'step 1/9', importance: 9 },
    { text: 'lr 1e-3', importance: 1 },
    { text: 'loss 2.5', importance: 8 },
  ];

  test('drops what matters least when there is no room', () => {
    expect(liveLine(pieces, 80, [])).toBe('step 1/9  lr 1e-3  loss 2.5');
    expect(liveLine(pieces, 27, [])).toBe('step 1/9  lr 1e-3  loss 2.5');
    expect(liveLine(pieces, 26, [])).toBe('step 1/9  loss 2.5');
    expect(liveLine(pieces, 3, [])).toBe('step 1/9');
  });

  test('ends with a curve where there is room for one', () => {
    expect(liveLine(pieces, 35, [3, 2, 1, 1, 1, 1])).toBe('step 1/9  lr 1e-3  loss 2.5  █▅▁▁▁▁');
    expect(liveLine(pieces, 34, [3, 2, 1, 1, 1, 1])).toBe('step 1/9  lr 1e-3  loss 2.5');
    expect(
      liveLine(
        pieces,
        500,
        Array.from({ length: 900 }, (_, i) => i),
      ).length,
    ).toBe(27 + 2 + 30);
  });

  test('draws values as bars, means where there are too many', () => {
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)).toBe('▁▂▃▄▅▆▇█');
    expect(sparkline([0, 0, 7, 7], 2)).toBe('▁█');
    expect(sparkline([5, 5, 5], 8)).toBe('▁▁▁');
  });
});

test('a run that is piped writes whole lines, without what steers a terminal', async () => {
  const { gemmoe } = commandLine(scratch);
  const args = ['--preset', 'tiny', '--steps', '20', '--backend', 'reference', '--out', 'piped'];
  const { code, out } = await gemmoe(['train', ...args]);
  expect(code).toBe(0);
  // oxlint-disable-next-line no-control-regex
  expect(out).not.toMatch(/[\r\u001b]/);
  expect(out).toMatch(/peak +[\d.]+ [kMG]FLOP\/s/);
  expect(out).toMatch(/\d\.\d\d [▁▂▃▄▅▆▇█]+ \d\.\d\d\n/);
});

test('--force begins a run that needs more memory than there is, without it it is refused', async () => {
  const spy = vi.spyOn(process, 'constrainedMemory').mockReturnValue(100 * MEBIBYTE);
  try {
    const { gemmoe } = commandLine(scratch);
    const text = join(scratch, 'short.txt');
    writeFileSync(text, 'It was the best of times, it was the worst of times.\n'.repeat(80));
    const args = [
      'train',
      '--data',
      text,
      '--preset',
      'tiny',
      '--steps',
      '2',
      '--backend',
      'reference',
      '--out',
      'forced',
    ];
    const refused = await gemmoe(args);
    expect(refused).toMatchObject({ code: 1, err: expect.stringMatching(/0\.10 GiB are there/) });
    expect((await gemmoe([...args, '--force'])).code).toBe(0);
  } finally {
    spy.mockRestore();
  }
});
