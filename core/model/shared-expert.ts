// An expert that every token passes beside the chosen ones: its output is added as it is (Dai et al. 2024), or times
// sigmoid(x·g), g a learned vector (Qwen 2 MoE).

import type { ExpertsSaved, Routing } from '../kernels.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import { Experts, routeToTheOnlyExpert, SINGLE } from './experts.ts';
import { Linear } from './linear.ts';
import type { ParameterStore } from './parameters.ts';
import type { Pass } from './pass.ts';
import { planRouting } from './router.ts';

/** What the shared expert leaves for its backward pass. */
export interface SharedExpertActivations {
  /** Every row to the one expert; its weights [N] are the gate's. */
  readonly routing: Routing;
  readonly saved: ExpertsSaved;
  /** [N] */
  readonly logits: FloatArray;
}

/** Buffers that only the backward pass needs. */
export interface SharedExpertScratch {
  readonly saved: ExpertsSaved;
  readonly dx: FloatArray;
  readonly dWeights: FloatArray;
}

export class SharedExpert {
  private readonly expert: Experts;
  /** g [1,C]; null where the output is added as it is. */
  private readonly gate: Linear | null;
  private readonly hiddenSize: number;

  constructor(store: ParameterStore, name: string, hiddenSize: number, width: number, isGated: boolean) {
    this.hiddenSize = hiddenSize;
    this.expert = new Experts(store, `${name}.shared_expert`, { ...SINGLE, hiddenSize, expertWidth: width });
    this.gate = isGated ? new Linear(store, `${name}.shared_router`, 'router', hiddenSize, 1) : null;
  }

  plan(arena: Arena, rows: number): SharedExpertActivations {
    return {
      routing: planRouting(arena, rows, SINGLE),
      saved: this.expert.plan(arena, rows),
      logits: arena.floats(this.gate ? rows : 0),
    };
  }

  planBackward(arena: Arena, rows: number): SharedExpertScratch {
    return {
      saved: this.expert.plan(arena, rows),
      dx: arena.floats(rows * this.hiddenSize),
      dWeights: arena.floats(rows),
    };
  }

  /** y [N,C] += the expert of x [N,C]. */
  forward(pass: Pass, y: FloatArray, x: FloatArray, { routing, saved, logits }: SharedExpertActivations): void {
    routeToTheOnlyExpert(routing, pass.rows);
    if (this.gate) {
      this.gate.forward(pass, logits, x);
      for (let n = 0; n < pass.rows; n++) routing.weights[n] = 1 / (1 + Math.exp(-logits[n]));
    }
    this.expert.forward(pass, y, x, routing, saved);
  }

  /** dx [N,C] += the gradient with respect to x. */
  backward(
    pass: Pass,
    dx: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    { routing, saved }: SharedExpertActivations,
    scratch: SharedExpertScratch,
  ): void {
    const { dWeights } = scratch;
    this.expert.backward(pass, scratch.dx, dWeights, dy, routing, saved, scratch.saved);
    pass.kernels.add(dx, scratch.dx, pass.rows * this.hiddenSize);
    if (!this.gate) return;
    // from here on dWeights is the gradient of the logits: σ' = σ·(1 - σ)
    for (let n = 0; n < pass.rows; n++) dWeights[n] *= routing.weights[n] * (1 - routing.weights[n]);
    this.gate.backward(pass, dx, dWeights, x, true);
  }
}
