// How long a run still takes, by what it took so far.

import type { RunPlan } from '../core/training/events.ts';

/** A forward pass as a share of a training step, while no validation has been measured. */
const FORWARD = 1 / 3;

/** Follows a run with a clock. */
export class TimeLeft {
  private readonly plan: Pick<RunPlan, 'steps' | 'tokensPerStep' | 'validationTokens' | 'validationWindows'>;
  private readonly maxSeconds: number;
  private readonly now: () => number;
  private readonly started: number;
  /** When the first step began, and what all steps took since. */
  private firstStep: number | undefined;
  private stepping = 0;
  private lastRecord = 0;
  private windowCost: number | undefined;

  /** @param maxSeconds the run's limit @param now milliseconds */
  constructor(plan: TimeLeft['plan'], maxSeconds = Infinity, now: () => number = () => performance.now()) {
    this.plan = plan;
    this.maxSeconds = maxSeconds;
    this.now = now;
    this.started = now();
  }

  /** A step has ended that took so many milliseconds. */
  stepped(milliseconds: number): void {
    this.lastRecord = this.now();
    this.firstStep ??= this.lastRecord - milliseconds;
    this.stepping += milliseconds;
  }

  /** A validation of so many windows has ended. */
  validated(windows: number): void {
    if (windows > 0) this.windowCost = (this.now() - this.lastRecord) / windows;
  }

  /**
   * Seconds to the end of the run, its last validation included.
   * @param stepMilliseconds what a step takes now
   */
  seconds(step: number, stepMilliseconds: number): number {
    const { steps, tokensPerStep, validationTokens, validationWindows } = this.plan;
    const elapsed = this.now() - (this.firstStep ?? this.now());
    // validations at intervals, samples, checkpoints and whoever watches take their share of what is left as they did so far
    const overhead = this.stepping > 0 ? Math.max(1, elapsed / this.stepping) : 1;
    const guess = (validationTokens / tokensPerStep) * stepMilliseconds * FORWARD;
    const validation = this.windowCost === undefined ? guess : validationWindows * this.windowCost;
    const left = ((steps - step) * stepMilliseconds * overhead + validation) / 1000;
    return Math.max(0, Math.min(left, this.maxSeconds - (this.now() - this.started) / 1000));
  }
}
