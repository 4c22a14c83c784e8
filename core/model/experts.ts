// SwiGLU experts (Shazeer 2020; Jiang et al. 2024): MoE(x) = Σ_k w_k·W_down(SiLU(W_gate x) ⊙ W_up x).

import type { ExpertsSaved, ExpertsShape, Routing } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { Parameter, ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';

/** Sizes of the experts of a layer. */
type ExpertsConfig = Omit<ExpertsShape, 'tokens'>;

/** One expert for all rows: a dense layer. */
export const SINGLE = { numExperts: 1, topK: 1, renormalise: false } as const;

export class Experts {
  /** [E,2F,C]: gate rows, then up rows, so that both are one product. */
  readonly gateUp: Parameter;
  /** [E,C,F] */
  readonly down: Parameter;
  private readonly config: ExpertsConfig;
  private lastShape: ExpertsShape | undefined;

  constructor(store: ParameterStore, name: string, config: ExpertsConfig) {
    const { numExperts: E, expertWidth: F, hiddenSize: C } = config;
    this.config = config;
    this.gateUp = store.declare(`${name}.gate_up`, 'expert', [E, 2 * F, C], [F, F]);
    this.down = store.declare(`${name}.down`, 'expert', [E, C, F]);
  }

  /** Buffers of the routed rows; the backward pass takes a second set as its scratch. */
  plan(arena: Arena, tokens: number): ExpertsSaved {
    const { topK, hiddenSize: C, expertWidth: F } = this.config;
    const routed = tokens * topK;
    return {
      gathered: arena.floats(routed * C),
      gateUp: arena.floats(routed * 2 * F),
      hidden: arena.floats(routed * F),
      output: arena.floats(routed * C),
    };
  }

  /** y [N,C] += the weighted experts of x [N,C]. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, routing: Routing, saved: ExpertsSaved): void {
    const { gateUp, down } = this;
    const shape = this.shape(pass);
    if (gateUp.bf16 && down.bf16) {
      pass.kernels.expertsBf16(y, saved, x, gateUp.bf16, down.bf16, routing, shape);
      return;
    }
    const halves = pass.mixed?.ofBoth(gateUp, down);
    if (halves) halves[0].kernels.experts(y, saved, x, halves[0].weights, halves[1].weights, routing, shape);
    else pass.kernels.experts(y, saved, x, gateUp.data, down.data, routing, shape);
  }

  /** dx [N,C] = and dWeights [N,K] = from dy [N,C]; the weights' gradients are added to. */
  backward(
    pass: Pass,
    dx: FloatArray,
    dWeights: FloatArray,
    dy: FloatArray,
    routing: Routing,
    saved: ExpertsSaved,
    scratch: ExpertsSaved,
  ): void {
    const { gateUp, down } = this;
    const halves = pass.mixed?.ofBoth(gateUp, down);
    const kernels = halves?.[0].kernels ?? pass.kernels;
    kernels.expertsBackward(
      dx,
      dWeights,
      gateUp.gradient,
      down.gradient,
      scratch,
      dy,
      saved,
      halves?.[0].weights ?? gateUp.data,
      halves?.[1].weights ?? down.data,
      routing,
      this.shape(pass),
    );
  }

  /** The shape of a pass; made anew only where it is another than before. */
  private shape({ rows: tokens }: Pass): ExpertsShape {
    if (this.lastShape?.tokens !== tokens) this.lastShape = { ...this.config, tokens };
    return this.lastShape;
  }
}

/** Every row to expert 0, with weight 1. */
export function routeToTheOnlyExpert(routing: Routing, rows: number): void {
  routing.experts.fill(0);
  routing.weights.fill(1);
  routing.offsets[0] = 0;
  routing.offsets[1] = rows;
  for (let n = 0; n < rows; n++) routing.rows[n] = routing.slots[n] = n;
}
