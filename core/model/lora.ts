// Low-rank adaptation (Hu et al. 2021): a linear layer's weight becomes W + s·B·A, and only A [r,in] and B [out,r] are trained.
// The sum is written into the model's own weights, so that everything which computes with them needs no change; the gradients of
// A and B follow from that of the whole matrix: dA = s·Bᵀ·dW, dB = s·dW·Aᵀ.

import { GemmoeError } from '../errors.ts';
import { Random } from '../random.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { LinearModule } from './linear-module.ts';
import { type Parameter, ParameterStore } from './parameters.ts';
import type { Transformer } from './transformer.ts';

/** Size and strength of an adapter. */
export interface LoraOptions {
  /** r: rows of A, columns of B. */
  readonly rank: number;
  /** s = alpha/r, or alpha/√r with `rsLora`. */
  readonly alpha: number;
  /** Rank-stabilised scale (Kalajdzievski 2023); default false. */
  readonly rsLora?: boolean;
}

/** A layer with its two factors; those of several experts are stacked: A [E,r,in], B [E,out,r]. */
export interface LoraTarget {
  readonly module: LinearModule;
  /** The parameter of the model that the module is a part of. */
  readonly weight: Parameter;
  readonly a: Parameter;
  readonly b: Parameter;
}

/** An adapter on some linear layers of a model. It is zero, and does nothing, until it is initialised or read. */
export class LoraAdapter {
  readonly model: Transformer;
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  /** s */
  readonly scale: number;
  readonly targets: readonly LoraTarget[];
  /** A and B of every target: all that is trained. */
  readonly store: ParameterStore;
  /** The weights of each target without the adapter, while it is merged. */
  private base: FloatArray[] | undefined;
  private views: FloatArray[] | undefined;

  /** @throws GemmoeError for a model whose matrices are held as bfloat16 */
  constructor(model: Transformer, modules: readonly LinearModule[], { rank, alpha, rsLora = false }: LoraOptions) {
    this.model = model;
    this.rank = rank;
    this.alpha = alpha;
    this.rsLora = rsLora;
    this.scale = alpha / (rsLora ? Math.sqrt(rank) : rank);
    this.store = new ParameterStore(model.dtype);
    const isHalf = model.parameters.parameters.some(({ offset }) => offset < 0);
    if (isHalf) {
      throw new GemmoeError(
        'usage',
        'the weights are held in bfloat16, which is too coarse to add an adapter to',
        'load the model with its weights as floats, or merge the adapter into the files: gemmoe convert DIR OUT --merge-adapter ADAPTER',
      );
    }
    this.targets = modules.map((module) => {
      const { name, role, experts, rows, columns } = module;
      const stack = experts === null ? [] : [experts];
      const a = this.store.declare(`${name}.lora_A`, role, [...stack, rank, columns]);
      const b = this.store.declare(`${name}.lora_B`, role, [...stack, rows, rank]);
      return { module, weight: model.parameters.get(module.parameter), a, b };
    });
  }

  /** Elements of A and B. */
  get size(): number {
    return this.store.total;
  }

  /** Elements of the weights that it changes. */
  get targetSize(): number {
    return this.targets.reduce((sum, { module }) => sum + sizeOf(module), 0);
  }

  /** A as PEFT has it, uniform on ±1/√in (kaiming_uniform with a = √5), B zero: the model computes what it did before. */
  initialise(seed: number): void {
    const random = new Random(seed, 'lora');
    for (const [i, { module, a, b }] of this.targets.entries()) {
      const bound = 1 / Math.sqrt(module.columns);
      random.fillUniform(a.data, a.size, -bound, bound, i, 0);
      b.data.fill(0);
    }
  }

  get isMerged(): boolean {
    return this.base !== undefined;
  }

  /** Writes W + s·B·A of every target into the model; once more after A or B have changed. A copy of each W is kept. */
  merge(): void {
    if (this.base) for (let i = 0; i < this.base.length; i++) this.weights[i].set(this.base[i]);
    else this.base = this.weights.map((weight) => weight.slice());
    this.mergeForGood();
  }

  /** As `merge`, without the copies: it cannot be taken back. For a model that only runs. */
  mergeForGood(): void {
    this.model.releaseWeights();
    for (let i = 0; i < this.targets.length; i++) this.addProducts(this.weights[i], 0, this.targets[i]);
  }

  /** Gives the model the weights that it had before `merge`, to the bit; nothing where it is not merged. */
  unmerge(): void {
    if (!this.base) return;
    this.model.releaseWeights();
    for (const [i, weight] of this.weights.entries()) weight.set(this.base[i]);
    this.base = undefined;
  }

  /** Whether it changes any of the elements [first, first + length) of a parameter. */
  touches(parameter: string, first: number, length: number): boolean {
    return this.targets.some(({ module }) => isWithin(module, parameter, first, length));
  }

  /** Adds s·B·A to weights that are not in the model: elements [first, first + out.length) of a parameter, whole matrices. */
  addTo(out: FloatArray, parameter: string, first: number): void {
    for (const target of this.targets) {
      const { module } = target;
      if (isWithin(module, parameter, first, out.length)) this.addProducts(out, module.offset - first, target);
    }
  }

  /** Adds to the gradients of A and B what follows from those of the model's weights, all of which it leaves zero. */
  takeGradients(): void {
    this.store.ensureGradients();
    const { gemm } = this.model.kernels;
    const { rank: r, scale } = this;
    for (const { module, weight, a, b } of this.targets) {
      const { rows, columns, experts, offset } = module;
      const dW = weight.gradient;
      for (let e = 0; e < (experts ?? 1); e++) {
        const [w, atA, atB] = [offset + e * rows * columns, e * r * columns, e * rows * r];
        gemm(true, false, r, columns, rows, scale, b.data, atB, r, dW, w, columns, 1, a.gradient, atA, columns);
        gemm(false, true, rows, r, columns, scale, dW, w, columns, a.data, atA, columns, 1, b.gradient, atB, r);
      }
    }
    this.model.parameters.gradient.fill(0);
  }

  /** The model's weights of each target: views, made once. */
  private get weights(): FloatArray[] {
    return (this.views ??= this.targets.map(({ module, weight }) =>
      weight.data.subarray(module.offset, module.offset + sizeOf(module)),
    ));
  }

  /** out[at …] += s·B·A */
  private addProducts(out: FloatArray, at: number, { module, a, b }: LoraTarget): void {
    const { gemm } = this.model.kernels;
    const { rank: r, scale } = this;
    const { rows, columns, experts } = module;
    for (let e = 0; e < (experts ?? 1); e++) {
      const [w, atA, atB] = [at + e * rows * columns, e * r * columns, e * rows * r];
      gemm(false, false, rows, columns, r, scale, b.data, atB, r, a.data, atA, columns, 1, out, w, columns);
    }
  }
}

function sizeOf({ experts, rows, columns }: LinearModule): number {
  return (experts ?? 1) * rows * columns;
}

function isWithin(module: LinearModule, parameter: string, first: number, length: number): boolean {
  const { offset } = module;
  return module.parameter === parameter && offset >= first && offset + sizeOf(module) <= first + length;
}
