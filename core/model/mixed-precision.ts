// Mixed precision (Micikevicius et al. 2018): the products of chosen weights run on operands of 16 bits, everything else and the
// weights that the optimizer moves stay in float32.

import { GemmoeError } from '../errors.ts';
import type { Kernels, ProductKernels } from '../kernels.ts';
import { roundedProducts } from '../ops/rounded-products.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Parameter, ParameterStore } from './parameters.ts';

/** `bf16` has float32's range and 8 bits of significand; `fp16` has 11 bits and ends at 65504. */
export type HalfFormat = 'bf16' | 'fp16';

/** Parts of parameter names whose products stay in float32 unless told otherwise. */
export const KEPT_IN_F32: readonly string[] = ['final_norm', 'head', 'router'];

/** The kernels and the weights of a product on 16-bit operands. */
export interface HalfProduct {
  readonly kernels: ProductKernels;
  /** [size of the parameter] the weights as the kernels take them. */
  readonly weights: FloatArray;
}

export interface MixedPrecisionOptions {
  readonly format: HalfFormat;
  /** Parts of names of parameters that stay in float32; `head` and `lm_head` both mean the LM head, tied or not. */
  readonly keep?: readonly string[];
  /** Products that round their operands themselves; where absent, or for another format, operands are rounded before. */
  readonly native?: ProductKernels | undefined;
}

/** Which weights are multiplied in 16 bits, and their rounded copies. Norms, rope, softmax, attention and sums are not touched. */
export class MixedPrecision {
  private readonly kernels: Kernels;
  private readonly format: HalfFormat;
  private readonly keep: readonly string[];
  /** Rounds its operands itself. */
  private readonly native: ProductKernels | undefined;
  private readonly products: ProductKernels;
  /** What has been asked for so far; null is float32. */
  private readonly known = new Map<Parameter, HalfProduct | null>();

  /** @throws GemmoeError for a part of a name that is in none */
  constructor(store: ParameterStore, kernels: Kernels, { format, keep = KEPT_IN_F32, native }: MixedPrecisionOptions) {
    this.kernels = kernels;
    this.format = format;
    this.keep = keep;
    this.native = format === 'bf16' ? native : undefined;
    this.products = this.native ?? roundedProducts(kernels, (out, x, count) => this.round(out, x, count));
    refuseUnknown(store, keep);
  }

  /** How `weight` is multiplied; null in float32. */
  of(weight: Parameter): HalfProduct | null {
    let product = this.known.get(weight);
    if (product === undefined) {
      product = this.isKept(weight) ? null : { kernels: this.products, weights: this.copyOf(weight) };
      this.known.set(weight, product);
    }
    return product;
  }

  /** How both of two weights are multiplied; null where either stays in float32. */
  ofBoth(a: Parameter, b: Parameter): readonly [HalfProduct, HalfProduct] | null {
    const [first, second] = [this.of(a), this.of(b)];
    return first && second ? [first, second] : null;
  }

  /** Rounds the weights anew: once a step, before its first pass. */
  refresh(): void {
    for (const [{ data }, product] of this.known) {
      if (product && product.weights !== data) this.round(product.weights, data, data.length);
    }
  }

  /** Bytes of the rounded copies that `parameters` will have. */
  bytesFor(store: ParameterStore, isTied: boolean): number {
    if (this.native) return 0;
    let bytes = 0;
    for (const parameter of store.parameters) {
      const { role, shape } = parameter;
      const isMultiplied = role === 'embedding' ? isTied : role !== 'norm' && role !== 'bias';
      if (isMultiplied && !this.isKept(parameter)) bytes += 4 * shape.reduce((size, length) => size * length, 1);
    }
    return bytes;
  }

  private isKept(weight: Parameter): boolean {
    return this.keep.some((part) => namesOf(weight).some((name) => name.includes(part)));
  }

  private copyOf({ data }: Parameter): FloatArray {
    if (this.native) return data;
    const copy = data.slice();
    this.round(copy, data, data.length);
    return copy;
  }

  private round(out: FloatArray, x: FloatArray, count: number): void {
    if (this.format === 'bf16') this.kernels.roundToBf16(out, x, count);
    else this.kernels.roundToF16(out, x, count);
  }
}

/** What a pattern may name a parameter by; an embedding is multiplied only where it is the head. */
function namesOf({ name, role }: Parameter): readonly string[] {
  return role === 'head' || role === 'embedding' ? [name, 'lm_head'] : [name];
}

function refuseUnknown(store: ParameterStore, keep: readonly string[]): void {
  const names = store.parameters.flatMap(namesOf);
  // a dense model has no router: what is kept by default need not be there
  const unknown = keep.find((part) => !KEPT_IN_F32.includes(part) && !names.some((name) => name.includes(part)));
  if (unknown === undefined) return;
  const kinds = [...new Set(store.parameters.map(({ name }) => name.replace(/^layers\.\d+\./, '')))];
  throw new GemmoeError(
    'bad-config',
    `no parameter has ${JSON.stringify(unknown)} in its name, so it cannot be kept in float32`,
    `names are, behind layers.N: ${kinds.join(', ')}`,
  );
}
