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
import type { Terminal } from './terminal.ts';

/** Weight of the newest step in what is shown smoothed. */
const SMOOTHING = 0.05;
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
  private readonly milliseconds = new RunningMean();
  private lastPlain = performance.now();

  /** @param onReport called when there is something new worth a report */
  constructor(terminal: Terminal, onReport: () => void) {
    this.terminal = terminal;
    this.onReport = onReport;
  }

  /** Before the plan: data are read, and steps may be timed. */
  preparing(): void {
    if (this.terminal.isInteractive) this.terminal.live('reading the data…');
  }

  planned(plan: RunPlan): void {
    this.plan = plan;
    for (const line of planLines(plan)) this.terminal.print(line);
    for (const note of plan.notes) this.terminal.print(`note: ${note}`);
    this.terminal.print();
  }

  record(record: RunRecord): void {
    if (record.kind === 'step') this.step(record);
    else if (record.kind === 'evaluation') {
      this.terminal.print(evaluationLine(record));
      this.onReport();
    } else if (record.kind === 'sample' && record.step < (this.plan?.steps ?? 0)) this.sample(record);
  }

  private step(record: StepRecord): void {
    if (record.skipped) this.skipped++;
    else this.loss.add(record.loss);
    this.milliseconds.add(record.milliseconds);
    if (this.terminal.isInteractive) return this.terminal.live(this.progress(record));
    const now = performance.now();
    if (now - this.lastPlain < PLAIN_INTERVAL * 1000) return;
    this.lastPlain = now;
    this.terminal.print(this.progress(record));
  }

  private progress(record: StepRecord): string {
    const { step, learningRate } = record;
    const { steps = step, tokensPerStep = 0 } = this.plan ?? {};
    if (step === steps && this.terminal.isInteractive) return `step ${step}/${steps}  validating on all held-out text…`;
    const rate = (1000 * tokensPerStep) / this.milliseconds.value;
    const left = ((steps - step) * this.milliseconds.value) / 1000;
    const parts = [
      `step ${step}/${steps}`,
      `loss ${this.loss.value.toFixed(3)}`,
      `lr ${learningRate.toExponential(1)}`,
      ...(this.skipped > 0 ? [`${this.skipped} skipped`] : []),
      ...routingParts(record),
      `${grouped(rate)} tokens/s`,
      `${duration(left)} left`,
    ];
    return parts.join('  ');
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
    ['', `optimizer ${bytes(memory.optimizer)}, activations ${bytes(memory.activations)}`],
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
    [
      'backend',
      `${backend.name}: ${backend.vendor} ${backend.version}, ${backend.instructionSet}, ${threads(backend.threads)}`,
    ],
    ['folder', plan.runDirectory],
  ];
  return table(rows, '');
}

/** What stands at the end of a finished run. */
export function summaryLines(summary: RunSummary, columns: number): string[] {
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
    [
      'trained',
      `${grouped(summary.tokens)} tokens in ${grouped(summary.steps)} steps; ${duration(summary.seconds)} in this process`,
    ],
  ];
  return [
    '',
    ...wrapped(printable(sample?.trim() ?? ''), Math.min(columns, 80) - 4).map((line) => `  | ${line}`),
    '',
    ...table(rows, ''),
  ];
}
