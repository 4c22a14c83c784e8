// Event files for TensorBoard: the frames and messages against bytes worked out by hand, whole files through a reader of our own.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { Message } from '../core/formats/protobuf.ts';
import { crc32c, framed, maskedCrc32c } from '../core/formats/tfrecord.ts';
import type { EvaluationRecord, RunObserver } from '../core/training/events.ts';
import { readMetrics } from '../core/training/metrics-log.ts';
import { allOf } from '../core/training/observers.ts';
import { resume, train } from '../core/training/run.ts';
import { TensorBoardLog, tensorBoardFolder } from '../core/training/tensorboard.ts';
import { barsValue, fileVersionEvent, scalarValue, summaryEvent } from '../core/training/tensorboard-events.ts';
import { referenceServices, smallSettings } from './support/runs.ts';
import { eventsIn, type ReadEvent } from './support/tensorboard.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-tensorboard-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

vi.setConfig({ testTimeout: 60_000 });

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const ascii = (text: string) => Buffer.from(text, 'latin1');

describe('checksums', () => {
  // RFC 3720, B.4, and the check value of the catalogue of CRCs
  test.each([
    ['32 zeros', new Uint8Array(32), 0x8a9136aa],
    ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['0 to 31', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ['31 to 0', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
    ['123456789', ascii('123456789'), 0xe3069283],
    ['nothing', new Uint8Array(0), 0],
  ])('CRC-32C of %s', (_, data, crc) => expect(crc32c(data)).toBe(crc));

  test('are rotated by 15 bits and shifted by a constant', () => {
    // e3069283 >>> 15 is 1c60d, its low 15 bits, 1283, go to the top: 2506 0000 + 1c60d = 2507c60d; + a282ead8 = c78ab0e5
    expect(maskedCrc32c(ascii('123456789'))).toBe(0xc78ab0e5);
  });

  test('frame a record', () => {
    const frame = framed(ascii('123456789'));
    const view = new DataView(frame.buffer);
    expect(frame.length).toBe(8 + 4 + 9 + 4);
    expect(Buffer.from(frame.subarray(0, 8))).toEqual(Buffer.from([9, 0, 0, 0, 0, 0, 0, 0]));
    expect(view.getUint32(8, true)).toBe(maskedCrc32c(frame.subarray(0, 8)));
    expect(Buffer.from(frame.subarray(12, 21)).toString()).toBe('123456789');
    expect(view.getUint32(21, true)).toBe(0xc78ab0e5);
  });
});

describe('messages, byte by byte', () => {
  test('whole numbers take seven bits a byte', () => {
    // key 2·8 + 0
    expect(new Message().integer(2, 0).finish()).toEqual(bytes('10 00'));
    expect(new Message().integer(2, 127).finish()).toEqual(bytes('10 7f'));
    expect(new Message().integer(2, 300).finish()).toEqual(bytes('10 ac02'));
    expect(new Message().integer(2, 2 ** 40).finish()).toEqual(bytes('10 808080808020'));
  });

  test('a file begins with its version', () => {
    // 1.0 is 3ff0000000000000; key 3·8 + 2, 13 characters
    expect(fileVersionEvent(1)).toEqual(bytes(`09 000000000000f03f 1a 0d ${ascii('brain.Event:2').toString('hex')}`));
  });

  test('a scalar', () => {
    // value: tag 0a 04 "loss", simple_value 15 and 1.5 = 3fc00000: 11 bytes; summary 0a 0b …: 13; event field 5: 2a 0d
    expect(summaryEvent({ wallTime: 1, step: 300 }, [scalarValue('loss', 1.5)])).toEqual(
      bytes(`09 000000000000f03f 10 ac02 2a 0d 0a 0b 0a 04 ${ascii('loss').toString('hex')} 15 0000c03f`),
    );
  });

  test('a histogram', () => {
    const one = '000000000000f03f';
    const zero = '0000000000000000';
    // one bar of height 1 from 0 to 1: num 1, sum 0.5, squares 0.25; the ends 0 and 1, the heights 0 and 1
    const half = '000000000000e03f';
    const quarter = '000000000000d03f';
    const histogram = `09${zero} 11${one} 19${one} 21${half} 29${quarter} 32 10 ${zero}${one} 3a 10 ${zero}${one}`;
    expect(barsValue('e', [1]).finish()).toEqual(bytes(`0a 01 65 2a 51 ${histogram}`));
  });
});

describe('the event files of a run', () => {
  const settings = smallSettings(scratch, { sampleInterval: 4, samplePrompts: ['the dog '] });
  const run = join(scratch, 'run');
  const quiet: RunObserver = { planned() {}, record() {} };
  const filesOf = () => readdirSync(tensorBoardFolder(run)).sort();
  const read = (file: string) => eventsIn(readFileSync(join(tensorBoardFolder(run), file)));
  const curve = (events: readonly ReadEvent[], tag: string) =>
    events.flatMap(({ step, values }) =>
      values.filter((value) => value.tag === tag && value.scalar !== undefined).map(({ scalar }) => [step, scalar]),
    );

  test('hold every step, validation, expert load and sample', async () => {
    using services = referenceServices();
    using log = new TensorBoardLog(() => 1_700_000_000_000);
    await train(settings, run, services, allOf([quiet, log]));
    expect(filesOf()).toEqual(['events.out.tfevents.1700000000.gemmoe']);
    const events = read(filesOf()[0]);
    expect(events[0]).toMatchObject({ fileVersion: 'brain.Event:2', wallTime: 1.7e9 });
    const metrics = readMetrics(run);
    const steps = metrics.filter((record) => record.kind === 'step');
    expect(curve(events, 'train/loss')).toEqual(steps.map(({ step, loss }) => [step, Math.fround(loss)]));
    expect(curve(events, 'train/learning_rate').length).toBe(8);
    expect(curve(events, 'train/z_loss')).toEqual([]); // it has no weight
    const evaluations = metrics.filter((record): record is EvaluationRecord => record.kind === 'evaluation');
    expect(curve(events, 'validation/loss')).toEqual(evaluations.map(({ step, loss }) => [step, Math.fround(loss)]));
    const bars = events.flatMap(({ values }) => values.filter(({ tag }) => tag === 'experts/layer-2/load'));
    expect(bars.map(({ histogram }) => histogram!.buckets)).toEqual(
      steps.map(({ expertLoad }) => [0, ...expertLoad[2]]),
    );
    const texts = events.flatMap(({ values }) => values.filter(({ text }) => text !== undefined));
    expect(texts.map(({ tag }) => tag)).toEqual(['sample/the dog', 'sample/the dog']);
    expect(texts[0].text).toMatch(/^ {4}the dog /);
  });

  test('those of a resumed run take back what was written behind its checkpoint', async () => {
    using services = referenceServices();
    using log = new TensorBoardLog(() => 1_700_000_000_000); // within the same second
    await resume(run, services, log, { steps: 10 });
    expect(filesOf().length).toBe(2);
    const [version, start, ...events] = read(filesOf()[1]);
    expect(version.fileVersion).toBe('brain.Event:2');
    expect(start).toMatchObject({ step: 9, sessionStart: true });
    expect(curve(events, 'train/loss').map(([step]) => step)).toEqual([9, 10]);
  });

  test('a run that nobody asked for them has none', async () => {
    using services = referenceServices();
    const plain = join(scratch, 'plain');
    await train({ ...settings, steps: 1 }, plain, services, quiet);
    expect(existsSync(tensorBoardFolder(plain))).toBe(false);
  });

  test('a damaged byte is seen by the reader of these tests', () => {
    const file = readFileSync(join(tensorBoardFolder(run), filesOf()[0]));
    file[40] ^= 1;
    expect(() => eventsIn(file)).toThrow(/checksum/);
  });
});
