// Steps whose loss or gradient stands far out of the last ones are not taken: one broken document can undo hours. The rule and its
// constants are those of OLMo-core's SkipStepOptimizer; llm.c's outlier detector is the same idea with a z-score for each.

/** Steps that are looked back on. */
const WINDOW = 128;
/** Steps that are needed before anything is called a spike. */
const LEAST = 64;

/** What is kept of a detector between steps. */
export interface SpikeState {
  /** Of the last steps, oldest first, those that were skipped included. */
  readonly losses: readonly number[];
  readonly gradientNorms: readonly number[];
  /** Spikes so far. */
  readonly count: number;
}

/** Says of every step whether its loss or its gradient norm lies more than `deviations` standard deviations above their means. */
export class SpikeDetector {
  private readonly deviations: number;
  private readonly losses: number[];
  private readonly gradientNorms: number[];
  private found: number;

  constructor(deviations: number, state?: SpikeState) {
    this.deviations = deviations;
    this.losses = [...(state?.losses ?? [])];
    this.gradientNorms = [...(state?.gradientNorms ?? [])];
    this.found = state?.count ?? 0;
  }

  /** Spikes so far. */
  get count(): number {
    return this.found;
  }

  snapshot(): SpikeState {
    return { losses: [...this.losses], gradientNorms: [...this.gradientNorms], count: this.found };
  }

  /**
   * Takes note of a step's finite loss and gradient norm. A spike enters the window too: where the level has changed for good,
   * a few steps are lost and not all that follow.
   */
  isSpike(loss: number, gradientNorm: number): boolean {
    const isOut =
      this.losses.length >= LEAST &&
      (standsOut(loss, this.losses, this.deviations) || standsOut(gradientNorm, this.gradientNorms, this.deviations));
    push(this.losses, loss);
    push(this.gradientNorms, gradientNorm);
    if (isOut) this.found++;
    return isOut;
  }
}

/** value > mean + deviations·σ, σ with n - 1. */
function standsOut(value: number, window: readonly number[], deviations: number): boolean {
  const mean = window.reduce((sum, x) => sum + x, 0) / window.length;
  const squares = window.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return value - mean > deviations * Math.sqrt(squares / (window.length - 1));
}

function push(window: number[], value: number): void {
  window.push(value);
  if (window.length > WINDOW) window.shift();
}
