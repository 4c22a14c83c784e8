// What a person sees of a training run: one live line, and above it validations, samples and checkpoints.

import type {
  EvaluationRecord,
  RunObserver,
  RunPlan,
  RunRecord,
  RunSummary,
  SampleRecord,
  StepRecord,
} from '../core/training/events.ts';
import { bytes, duration, grouped, printable, scaled, shortRate, table, wrapped } from './format.ts';
import { liveLine, type Piece, sparkline } from './live-line.ts';
import { Thinned } from './report/thinned.ts';
import { TimeLeft } from './time-left.ts';
import type { Terminal } from './terminal.ts';

/** Weight of the newest step in what is shown smoothed. */
const SMOOTHING = 0.05;
/** Points of the curve of losses, up to twice as many. */
const CURVE_POINTS = 60;
/** Seconds between plain lines where nothing can be rewritten. */
const PLAIN_INTERVAL = 10;

/** Mean that forgets: of early values as of late ones, none counts for more than it should. */
class RunningMean {
  private sum = 0;
  private weight = 0;

  add(value: number): void {
    this.sum += SMOOTHING * (value - this.sum);
    this.weight += SMOOTHING * (1 - this.weight);
  }

  get value(): number {
    return this.sum / this.weight;
  }
}

/** Follows a run on a terminal. */
export class TrainView implements RunObserver {
  private readonly terminal: Terminal;
  private readonly onReport: () => void;
  private plan: RunPlan | undefined;
  private readonly loss = new RunningMean();
  private skipped = 0;
  private milliseconds = new RunningMean();
  private stepsSeen = 0;
  private validation: number | undefined;
  private readonly losses = new Thinned(CURVE_POINTS);
  private timeLeft: TimeLeft | undefined;
  private readonly maxSeconds: number | undefined;
  private lastPlain = performance.now();

  /**
   * @param onReport called when there is something new worth a report
   * @param maxSeconds wall time that the run ends within
   */
  constructor(terminal: Terminal, onReport: () => void, maxSeconds?: number) {
    this.maxSeconds = maxSeconds;
    this.terminal = terminal;
    this.onReport = onReport;
  }

  /** Before the plan: data are read, and steps may be timed. */
  preparing(): void {
    if (this.terminal.isInteractive) this.terminal.live('reading the data…');
  }

  planned(plan: RunPlan): void {
    this.plan = plan;
    this.timeLeft = new TimeLeft(plan, this.maxSeconds);
    for (const line of planLines(plan)) this.terminal.print(line);
    for (const note of plan.notes) this.terminal.print(`note: ${note}`);
    this.terminal.print();
  }

  record(record: RunRecord): void {
    if (record.kind === 'step') this.step(record);
    else if (record.kind === 'evaluation') {
      this.timeLeft?.validated(record.windows);
      this.validation = record.loss;
      this.terminal.print(evaluationLine(record));
      this.onReport();
    } else if (record.kind === 'sample' && record.step < (this.plan?.steps ?? 0)) this.sample(record);
  }

  private step(record: StepRecord): void {
    if (record.skipped) this.skipped++;
    else {
      this.loss.add(record.loss);
      this.losses.add([record.loss]);
    }
    // the first step also compiles the kernels
    if (++this.stepsSeen === 2) this.milliseconds = new RunningMean();
    this.milliseconds.add(record.milliseconds);
    this.timeLeft?.stepped(record.milliseconds);
    if (this.terminal.isInteractive) return this.terminal.live(this.progress(record, this.terminal.columns - 1));
    const now = performance.now();
    if (now - this.lastPlain < PLAIN_INTERVAL * 1000) return;
    this.lastPlain = now;
    this.terminal.print(this.progress(record, Infinity));
  }

  /** Training losses so far, oldest first, in bounded number. */
  curve(): number[] {
    return this.losses.column(0, 5);
  }

  private progress(record: StepRecord, columns: number): string {
    const { step, learningRate } = record;
    const { steps = step, tokensPerStep = 0 } = this.plan ?? {};
    if (step === steps && this.terminal.isInteractive) return `step ${step}/${steps}  validating on all held-out text…`;
    const milliseconds = this.milliseconds.value;
    const left = this.timeLeft?.seconds(step, milliseconds) ?? 0;
    const pieces = [
      { text: `step ${step}/${steps}`, importance: 9 },
      { text: `loss ${this.loss.value.toFixed(3)}`, importance: 8 },
      ...(this.validation === undefined ? [] : [{ text: `val ${this.validation.toFixed(3)}`, importance: 5 }]),
      { text: `lr ${learningRate.toExponential(1)}`, importance: 1 },
      ...(this.skipped > 0 ? [{ text: `${this.skipped} skipped`, importance: 4 }] : []),
      ...routingParts(record).map((text, i) => ({ text, importance: i === 0 ? 2 : 3 })),
      { text: `${grouped((1000 * tokensPerStep) / milliseconds)} tokens/s`, importance: 6 },
      ...this.utilisation(milliseconds),
      { text: `${duration(left)} left`, importance: 7 },
    ];
    return liveLine(pieces, columns, columns === Infinity ? [] : this.curve());
  }

  private utilisation(milliseconds: number): Piece[] {
    const { peakRate = null, flopsPerStep = 0 } = this.plan ?? {};
    if (peakRate === null) return [];
    const share = (1000 * flopsPerStep) / milliseconds / peakRate;
    return [{ text: `MFU ${(100 * share).toFixed(0)}%`, importance: 5 }];
  }

  private sample({ prompt, text }: SampleRecord): void {
    const whole = `${prompt ?? ''}${text}`;
    for (const line of wrapped(printable(whole.trim()), this.terminal.columns - 4)) this.terminal.print(`  | ${line}`);
  }
}

/** How the experts share the work: the largest load of any layer as a multiple of an even one, and what goes wrong. */
export function routingParts({ expertLoad, deadExperts, droppedRows }: StepRecord): string[] {
  if (expertLoad.length === 0) return [];
  const largest = Math.max(...expertLoad.map((load) => Math.max(...load) * load.length));
  const dead = deadExperts.reduce((sum, count) => sum + count, 0);
  const dropped = droppedRows.reduce((sum, share) => sum + share, 0) / droppedRows.length;
  return [
    `load ${largest.toFixed(1)}x`,
    ...(dead > 0 ? [`${dead} dead`] : []),
    ...(dropped > 0 ? [`${(100 * dropped).toFixed(1)}% dropped`] : []),
  ];
}

function evaluationLine({ step, loss, perplexity, bitsPerByte, best }: EvaluationRecord): string {
  const bits = bitsPerByte === null ? '' : `  ${bitsPerByte.toFixed(3)} bits/byte`;
  return `step ${step}  validation loss ${loss.toFixed(4)}  perplexity ${perplexity.toFixed(2)}${bits}${best ? '  best' : ''}`;
}

function threads(count: number): string {
  return count === 1 ? '1 thread' : `${count} threads`;
}

/** The plan as --dry-run and the start of a run show it. */
export function planLines(plan: RunPlan): string[] {
  const { parameters, memory, backend } = plan;
  const rows = [
    ['model', `${grouped(parameters.total)} parameters, ${grouped(parameters.active)} active`],
    ['memory', `${bytes(memory.total)}: weights ${bytes(memory.weights)}, gradients ${bytes(memory.gradients)},`],
    [
      '',
      `optimizer ${bytes(memory.optimizer)}, activations ${bytes(memory.activations)}` +
        (plan.memoryLimit === null ? '' : `; ${bytes(plan.memoryLimit)} there`),
    ],
    ['data', `${grouped(plan.trainingTokens)} tokens to train on, ${grouped(plan.validationTokens)} held out`],
    [
      'steps',
      `${grouped(plan.steps)} of ${grouped(plan.tokensPerStep)} tokens: ${grouped(plan.tokens)} tokens, ${plan.epochs.toFixed(2)} epochs${plan.resumedAt > 0 ? `; going on after step ${plan.resumedAt}` : ''}`,
    ],
    [
      'recipe',
      `${plan.recipe.optimizer}, ${plan.recipe.schedule}, learning rate ${shortRate(plan.recipe.learningRate)}`,
    ],
    ['cost', `${scaled(plan.flopsPerStep, 'G')}FLOP a step, ${scaled(plan.flopsPerStep * plan.steps, 'G')}FLOP in all`],
    ...(plan.expectedSeconds === null
      ? []
      : [['time', `about ${duration(plan.expectedSeconds)}, by steps that were timed; last validation included`]]),
    ...(plan.peakRate === null
      ? []
      : [['peak', `${scaled(plan.peakRate, 'G')}FLOP/s in products, measured; MFU is a step’s share of it`]]),
    [
      'backend',
      `${backend.name}: ${backend.vendor} ${backend.version}, ${backend.instructionSet}, ${threads(backend.threads)}`,
    ],
    ['folder', plan.runDirectory],
  ];
  return table(rows, '');
}

/** Share of a run that waiting for data takes before it is worth a line. */
const NOTABLE_WAIT = 0.01;

/** What stands at the end of a finished run. */
export function summaryLines(summary: RunSummary, columns: number, curve: readonly number[] = []): string[] {
  const { validation, bestValidation, sample, trainingLoss } = summary;
  if (!validation) return [];
  const best = bestValidation && bestValidation.step !== validation.step ? bestValidation : null;
  const rows = [
    ['validation loss', `${validation.loss.toFixed(4)} nats per token, all ${grouped(validation.windows)} windows`],
    ['perplexity', validation.perplexity.toFixed(3)],
    ...(validation.bitsPerByte === null ? [] : [['bits per byte', validation.bitsPerByte.toFixed(3)]]),
    ...(best ? [['best at interval', `${best.loss.toFixed(4)} at step ${best.step}, kept under checkpoints/`]] : []),
    ...(summary.bigramLoss === null ? [] : [['bigram model', `${summary.bigramLoss.toFixed(4)} on the same split`]]),
    ...(summary.skipped > 0 ? [['overflowed', `${grouped(summary.skipped)} steps, skipped`]] : []),
    ...(summary.spikes > 0 ? [['spikes', `${grouped(summary.spikes)} steps, skipped`]] : []),
    ['training loss', `${trainingLoss?.toFixed(4)} over the last steps`],
    ...(curve.length > 1 ? [['', `${curve[0].toFixed(2)} ${sparkline(curve, 40)} ${curve.at(-1)?.toFixed(2)}`]] : []),
    [
      'trained',
      `${grouped(summary.tokens)} tokens in ${grouped(summary.steps)} steps; ${duration(summary.seconds)} in this process`,
    ],
    ...(summary.dataSeconds > NOTABLE_WAIT * summary.seconds
      ? [['waited for data', `${duration(summary.dataSeconds)} of it`]]
      : []),
  ];
  return [
    '',
    ...wrapped(printable(sample?.trim() ?? ''), Math.min(columns, 80) - 4).map((line) => `  | ${line}`),
    '',
    ...table(rows, ''),
  ];
}
