// Loss scaling for gradients in float16 (Micikevicius et al. 2018): the loss is multiplied so that small gradients are not rounded
// to 0, and the update divides by the same number. What overflows is thrown away, the step with it.

import { GemmoeError } from '../errors.ts';

/** As PyTorch's GradScaler: doubled after 2000 steps without overflow, halved at each. */
const INITIAL = 65536;
const FACTOR = 2;
const WINDOW = 2000;
/** Below it the loss itself is not to blame: what overflows are weights or activations. */
const LEAST = 2 ** -14;
/** Steps in a row that a fixed scale may skip. */
const MOST_IN_A_ROW = 50;

/** What is kept of a scaler between steps. */
export interface LossScaleState {
  readonly scale: number;
  /** Steps since the last overflow or growth. */
  readonly goodSteps: number;
  /** Overflows in a row. */
  readonly badSteps: number;
}

/** The factor on the loss: fixed, or as large as the gradients allow. */
export class LossScaler {
  private readonly isDynamic: boolean;
  private state: LossScaleState;

  /** @param choice `dynamic`, or the fixed factor; 1 where nothing is to be scaled */
  constructor(choice: number | 'dynamic', state?: LossScaleState) {
    this.isDynamic = choice === 'dynamic';
    const scale = choice === 'dynamic' ? INITIAL : choice;
    this.state = state ?? { scale, goodSteps: 0, badSteps: 0 };
  }

  get scale(): number {
    return this.state.scale;
  }

  snapshot(): LossScaleState {
    return this.state;
  }

  /** The gradients were finite. */
  succeeded(): void {
    const goodSteps = this.state.goodSteps + 1;
    const grows = this.isDynamic && goodSteps >= WINDOW;
    this.state = grows
      ? { scale: this.scale * FACTOR, goodSteps: 0, badSteps: 0 }
      : { scale: this.scale, goodSteps, badSteps: 0 };
  }

  /** They were not. @throws GemmoeError when a smaller scale, or another step, would not help */
  overflowed(step: number): void {
    const badSteps = this.state.badSteps + 1;
    const scale = this.isDynamic ? this.scale / FACTOR : this.scale;
    if (scale < LEAST) {
      throw new GemmoeError(
        'diverged',
        `the loss scale fell below 2^-14 at step ${step}, after ${badSteps} overflows in a row`,
        'weights or activations leave the range of float16: use --precision bf16, or lower the learning rate',
      );
    }
    if (!this.isDynamic && badSteps >= MOST_IN_A_ROW) {
      throw new GemmoeError(
        'diverged',
        `${badSteps} steps in a row overflowed with the loss scaled by ${scale}, up to step ${step}`,
        'use a smaller --loss-scale, or dynamic; or --precision bf16',
      );
    }
    this.state = { scale, goodSteps: 0, badSteps };
  }
}
