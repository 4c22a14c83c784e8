// A linear layer of the model by the name that Hugging Face gives it: what a low-rank adapter can be put on.

import type { ParameterRole } from './parameters.ts';

/** One matrix [rows, columns] of a parameter, or the `experts` matrices of a tensor that holds all experts of a layer. */
export interface LinearModule {
  /** `model.layers.0.self_attn.q_proj`; its tensor is called so with `.weight` behind. */
  readonly name: string;
  /** Name of the parameter that it is a part of. */
  readonly parameter: string;
  readonly role: ParameterRole;
  /** First element within the parameter. */
  readonly offset: number;
  /** Matrices that follow each other; null for a layer that is one matrix by itself. */
  readonly experts: number | null;
  /** Outputs of a matrix. */
  readonly rows: number;
  /** Its inputs. */
  readonly columns: number;
}
