// Low-rank adapters (Hu et al. 2021): each chosen matrix W becomes W + s·B·A, of which only A and B are trained.
//
// The sum is put in W's place before a step, so that every kernel and backend runs it as any other weight. The gradients follow
// from W's own, dA = s·Bᵀ·dW and dB = s·dW·Aᵀ: exact, at the price of all of dW.

import { GemmoeError } from '../errors.ts';
import type { Kernels } from '../kernels.ts';
import { Random } from '../random.ts';
import { type ComputeType, type FloatArray, newFloats } from '../tensor/dtype.ts';
import { type Parameter, ParameterStore } from './parameters.ts';

/** The matrix [outputs,inputs] of a linear layer: elements of a parameter from `offset` on. */
export interface LinearPlace {
  /** Name of the layer in Hugging Face's model: `model.layers.0.self_attn.q_proj`. */
  readonly module: string;
  readonly parameter: Parameter;
  readonly offset: number;
  readonly outputs: number;
  readonly inputs: number;
}

export interface LoraOptions {
  /** r: columns of B and rows of A. */
  readonly rank: number;
  /** s = alpha / r. */
  readonly alpha: number;
  /** s = alpha / √r instead (Kalajdzievski 2023). */
  readonly rankStabilised?: boolean;
}

/** A place with its A [r,inputs] and B [outputs,r]. */
interface Adapted {
  readonly place: LinearPlace;
  readonly a: Parameter;
  readonly b: Parameter;
  /** First element among the saved matrices. */
  readonly saved: number;
}

/** The adapters of a model, at first without effect: B is zero. */
export class LoraAdapter {
  readonly options: LoraOptions;
  /** All A and B: what an optimizer moves. */
  readonly store: ParameterStore;
  readonly layers: readonly Adapted[];
  private readonly kernels: Kernels;
  private readonly dtype: ComputeType;
  private readonly scale: number;
  private saved: FloatArray | undefined;

  /** @throws GemmoeError for a rank that is none, weights that are held as bfloat16, and no place at all */
  constructor(places: readonly LinearPlace[], kernels: Kernels, dtype: ComputeType, options: LoraOptions) {
    const { rank, alpha, rankStabilised = false } = options;
    if (!(Number.isInteger(rank) && rank >= 1) || !(alpha > 0 && alpha < Infinity)) {
      throw new GemmoeError(
        'bad-config',
        `an adapter of rank ${rank} with alpha ${alpha} cannot be`,
        'rank is a whole number from 1, alpha a number above 0',
      );
    }
    if (places.length === 0) throw new GemmoeError('bad-config', 'an adapter needs a linear layer', 'name one');
    const held = places.find(({ parameter }) => parameter.offset < 0);
    if (held) {
      throw new GemmoeError(
        'usage',
        `the weights of ${held.module} are held in bfloat16: an adapter cannot be added to them`,
        'load the model with its weights as floats',
      );
    }
    this.options = options;
    this.kernels = kernels;
    this.dtype = dtype;
    this.scale = alpha / (rankStabilised ? Math.sqrt(rank) : rank);
    this.store = new ParameterStore(dtype);
    let saved = 0;
    this.layers = places.map((place) => {
      const { module, inputs, outputs } = place;
      const { role } = place.parameter;
      const a = this.store.declare(`${module}.lora_A`, role, [rank, inputs]);
      const b = this.store.declare(`${module}.lora_B`, role, [outputs, rank]);
      const layer = { place, a, b, saved };
      saved += inputs * outputs;
      return layer;
    });
  }

  /** Elements of all matrices that are adapted. */
  get adaptedSize(): number {
    return this.layers.reduce((sum, { place }) => sum + place.inputs * place.outputs, 0);
  }

  /** The matrices as they were before the first merge, one behind the other. */
  get base(): FloatArray {
    if (!this.saved) {
      this.saved = newFloats(this.dtype, this.adaptedSize);
      for (const layer of this.layers) this.saved.set(weightsOf(layer.place), layer.saved);
    }
    return this.saved;
  }

  /** A uniform on ±1/√inputs, as PEFT has it, and B zero. */
  initialise(seed: number): void {
    const random = new Random(seed, 'lora');
    for (const [i, { place, a, b }] of this.layers.entries()) {
      const bound = 1 / Math.sqrt(place.inputs);
      random.fillUniform(a.data, a.size, -bound, bound, i, 0);
      b.data.fill(0);
    }
  }

  /** W = base + s·B·A in every place. */
  merge(): void {
    const { rank: r } = this.options;
    const { base, kernels, scale } = this;
    for (const { place, a, b, saved } of this.layers) {
      const { inputs: I, outputs: O, offset } = place;
      const w = place.parameter.data;
      w.set(base.subarray(saved, saved + O * I), offset);
      kernels.gemm(false, false, O, I, r, scale, b.data, 0, r, a.data, 0, I, 1, w, offset, I);
    }
  }

  /** W = base, to the bit. */
  unmerge(): void {
    const { base } = this;
    for (const { place, saved } of this.layers) {
      place.parameter.data.set(base.subarray(saved, saved + place.inputs * place.outputs), place.offset);
    }
  }

  /** The gradients of A and B from those of the model; the flat array of `store`. */
  gradients(): FloatArray {
    const { rank: r } = this.options;
    const { kernels, scale } = this;
    this.store.ensureGradients();
    for (const { place, a, b } of this.layers) {
      const { inputs: I, outputs: O, offset } = place;
      const dw = place.parameter.gradient;
      kernels.gemm(true, false, r, I, O, scale, b.data, 0, r, dw, offset, I, 0, a.gradient, 0, I);
      kernels.gemm(false, true, O, r, I, scale, dw, offset, I, a.data, 0, I, 0, b.gradient, 0, r);
    }
    return this.store.gradient;
  }
}

function weightsOf({ parameter, offset, inputs, outputs }: LinearPlace): FloatArray {
  return parameter.data.subarray(offset, offset + inputs * outputs);
}
