// A wall time that a run ends within: it stops taking steps while what comes behind the last one still fits.

/** A forward pass as a share of a training step, while nothing has been measured: on the safe side. */
const FORWARD = 1 / 2;
/** Shares of the limit: that the last validation may take at most, that the last sample takes at most, and that is kept spare. */
const VALIDATION_SHARE = 0.25;
const SAMPLE_SHARE = 0.05;
const SPARE_SHARE = 0.03;
/** The last sample takes no longer than this, seconds. */
const LONGEST_SAMPLE = 10;
/** Checkpoints and the model that are written after the last step. */
const LAST_WRITES = 3;
/** Bytes a second that a disk takes, while nothing has been measured. */
const DISK = 100e6;

/** What the ends of a run cost, in milliseconds; what was not measured is undefined. */
interface Costs {
  step: number;
  window: number | undefined;
  save: number | undefined;
}

/** Decides when a run has to stop. Without a limit it never does, and everything fits. */
export class Deadline {
  private readonly limit: number;
  private readonly now: () => number;
  private readonly started: number;
  private readonly costs: Costs = { step: 0, window: undefined, save: undefined };

  /** @param now milliseconds of a clock that does not jump; the time runs from this call */
  constructor(seconds?: number, now: () => number = () => performance.now()) {
    this.limit = seconds === undefined ? Infinity : seconds * 1000;
    this.now = now;
    this.started = now();
  }

  /** Seconds since the beginning. */
  get elapsed(): number {
    return (this.now() - this.started) / 1000;
  }

  private get left(): number {
    return this.limit - (this.now() - this.started);
  }

  /** Takes note of what a training step took; the slowest of late counts most. */
  stepTook(milliseconds: number): void {
    this.costs.step = Math.max(milliseconds, 0.9 * this.costs.step);
  }

  /** Runs `validate`, which reads `windows` windows, and takes note of its time. */
  async validating<R extends { readonly windows: number }>(validate: () => Promise<R>): Promise<R> {
    const start = this.now();
    const result = await validate();
    this.costs.window = (this.now() - start) / Math.max(1, result.windows);
    return result;
  }

  saved(milliseconds: number): void {
    this.costs.save = milliseconds;
  }

  /**
   * True when another step would leave too little for the last checkpoint, validation, sample and model.
   * @param windows of the whole validation split @param sequences of a step @param bytes of a checkpoint
   */
  isNear(windows: number, sequences: number, bytes: number): boolean {
    if (this.limit === Infinity) return false;
    const validation = Math.min(windows * this.windowCost(sequences), VALIDATION_SHARE * this.limit);
    const writes = LAST_WRITES * (this.costs.save ?? (1000 * bytes) / DISK);
    return this.left < 1.25 * this.costs.step + validation + writes + this.sampleTime + SPARE_SHARE * this.limit;
  }

  /** Windows of the last validation that fit: at least one, 0 for all. */
  windowsThatFit(windows: number, sequences: number): number {
    if (this.limit === Infinity) return 0;
    const writes = 2 * (this.costs.save ?? 0);
    const time = this.left - this.sampleTime - writes - (SPARE_SHARE / 2) * this.limit;
    const fitting = Math.floor(time / Math.max(this.windowCost(sequences), 1e-6));
    return fitting >= windows ? 0 : Math.max(1, fitting);
  }

  /** What tells that one of `count` samples, which begins now, has to end. */
  sampleLimit(count: number): () => boolean {
    if (this.limit === Infinity) return () => false;
    const until = this.now() + Math.max(0, Math.min(this.sampleTime, this.left)) / count;
    return () => this.now() >= until;
  }

  private get sampleTime(): number {
    return Math.min(SAMPLE_SHARE * this.limit, LONGEST_SAMPLE * 1000);
  }

  private windowCost(sequences: number): number {
    return this.costs.window ?? (FORWARD * this.costs.step) / sequences;
  }
}
