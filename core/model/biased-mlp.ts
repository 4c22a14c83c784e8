// A dense SwiGLU layer whose three projections have biases: W_down(SiLU(W_gate x + b_gate) ⊙ (W_up x + b_up)) + b_down.

import type { ExpertsSaved } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { ModelConfig } from './config.ts';
import { Linear } from './linear.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** What the layer leaves for its backward pass. */
export type BiasedMlpSaved = Pick<ExpertsSaved, 'gateUp' | 'hidden'>;

export class BiasedMlp {
  /** [2F,C]: gate rows, then up rows. */
  private readonly gateUp: Linear;
  /** [C,F] */
  private readonly down: Linear;
  private readonly width: number;

  /** Parameters are named as those of `Experts`, without the dimension of experts. */
  constructor(store: ParameterStore, name: string, { hiddenSize: C, expertWidth: F }: ModelConfig) {
    this.width = F;
    this.gateUp = new Linear(store, `${name}.gate_up`, 'expert', C, 2 * F, { parts: [F, F], hasBias: true });
    this.down = new Linear(store, `${name}.down`, 'expert', F, C, { hasBias: true });
  }

  /** The backward pass takes a second set as its scratch. */
  plan(arena: Arena, rows: number): BiasedMlpSaved {
    return { gateUp: arena.floats(rows * 2 * this.width), hidden: arena.floats(rows * this.width) };
  }

  /** y [N,C] += the layer of x [N,C]. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, { gateUp, hidden }: BiasedMlpSaved): void {
    this.gateUp.forward(pass, gateUp, x);
    pass.kernels.swiglu(hidden, gateUp, pass.rows, this.width);
    this.down.forward(pass, y, hidden, true);
  }

  /** dx [N,C] = from dy [N,C] and x [N,C]; the parameters' gradients are added to. */
  backward(
    pass: Pass,
    dx: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    saved: BiasedMlpSaved,
    scratch: BiasedMlpSaved,
  ): void {
    this.down.backward(pass, scratch.hidden, dy, saved.hidden);
    pass.kernels.swigluBackward(scratch.gateUp, scratch.hidden, saved.gateUp, pass.rows, this.width);
    this.gateUp.backward(pass, dx, scratch.gateUp, x);
  }
}
