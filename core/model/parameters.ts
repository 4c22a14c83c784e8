// Where the weights live: one flat array of values, one of gradients, and named views into both.

import { GemmoeError } from '../errors.ts';
import { type ComputeType, ELEMENT_BYTES, type FloatArray, newFloats } from '../tensor/dtype.ts';

/** What a parameter is for; optimizers and initialisation choose by it. */
export type ParameterRole = 'embedding' | 'norm' | 'attention' | 'router' | 'expert' | 'head' | 'bias';

/** How the weights of a model are held: as its element type, or the matrices as bfloat16, which cannot be trained. */
export type WeightFormat = 'floats' | 'bf16';

/** Roles of the matrices that `bf16` holds in half the memory; routers and norms stay floats. */
const HELD_AS_BF16: readonly ParameterRole[] = ['embedding', 'attention', 'expert', 'head'];

/** A named weight tensor, row-major. */
export interface Parameter {
  /** Name in our own storage: `layers.0.attention.qkv`, … Files carry Hugging Face's names instead. */
  readonly name: string;
  readonly role: ParameterRole;
  readonly shape: readonly number[];
  /** Rows of each matrix that is packed into this one, top to bottom: queries, keys and values, or gate and up. */
  readonly parts: readonly number[];
  /** First element in the flat arrays; -1 where the tensor is not in them. */
  readonly offset: number;
  /** Elements. */
  readonly size: number;
  /** Bits of bfloat16 in place of `data` where the weights are held so. */
  readonly bf16: Uint16Array | null;
  /** @throws GemmoeError where the tensor is held as bfloat16 */
  readonly data: FloatArray;
  /** Allocated with all others at the first backward pass. @throws GemmoeError before that */
  readonly gradient: FloatArray;
}

/** A named tensor that belongs to the model and its files but is not trained: no optimizer sees it, it has no gradient. */
export interface ModelBuffer {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: FloatArray;
}

/** Tensors are declared first; the first look at their values allocates all of them, as zeros. */
export class ParameterStore {
  readonly dtype: ComputeType;
  readonly parameters: Parameter[] = [];
  readonly buffers: ModelBuffer[] = [];
  private values: FloatArray | undefined;
  private gradientValues: FloatArray | undefined;
  private length = 0;
  private readonly format: WeightFormat;

  constructor(dtype: ComputeType, format: WeightFormat = 'floats') {
    this.dtype = dtype;
    this.format = format;
  }

  /** Reserves the next `shape` elements of the flat storage; `parts` are the packed matrices, one by default. */
  declare(name: string, role: ParameterRole, shape: readonly number[], parts?: readonly number[]): Parameter {
    if (this.values) throw new GemmoeError('internal', `parameter ${name} declared after allocation`);
    const isHalf = this.format === 'bf16' && shape.length > 1 && HELD_AS_BF16.includes(role);
    const offset = isHalf ? -1 : this.length;
    const parameter = new StoredParameter(this, name, role, shape, parts ?? [shape.at(-2) ?? 1], offset);
    if (!isHalf) this.length += parameter.size;
    this.parameters.push(parameter);
    return parameter;
  }

  /** A tensor of zeros apart from the flat storage. */
  declareBuffer(name: string, shape: readonly number[]): ModelBuffer {
    const size = shape.reduce((product, length) => product * length, 1);
    const buffer = { name, shape, data: newFloats(this.dtype, size) };
    this.buffers.push(buffer);
    return buffer;
  }

  /** All values, in order of declaration. */
  get data(): FloatArray {
    return (this.values ??= newFloats(this.dtype, this.length));
  }

  /** All gradients, in the same order. @throws GemmoeError before the first backward pass */
  get gradient(): FloatArray {
    if (!this.gradientValues) throw new GemmoeError('internal', 'gradients read before the first backward pass');
    return this.gradientValues;
  }

  get hasGradients(): boolean {
    return this.gradientValues !== undefined;
  }

  /** Makes the gradients exist; zero when they are new, untouched when not. */
  ensureGradients(): void {
    if (this.format === 'bf16') {
      throw new GemmoeError(
        'usage',
        'the weights are held in bfloat16, which is too coarse to be trained',
        'load the model with its weights as floats; to train with products in bfloat16 there is precision bf16',
      );
    }
    this.gradientValues ??= newFloats(this.dtype, this.length);
  }

  /** Takes over the values and buffers of a store of the same tensors. */
  copyFrom(other: ParameterStore): void {
    this.data.set(other.data);
    for (const [i, { data }] of this.buffers.entries()) data.set(other.buffers[i].data);
  }

  /** Number of parameters in all. */
  get total(): number {
    return this.parameters.reduce((sum, { size }) => sum + size, 0);
  }

  /** Bytes that the weights take. */
  get bytes(): number {
    const floats = this.length * ELEMENT_BYTES[this.dtype];
    return this.parameters.reduce((sum, { size, offset }) => sum + (offset < 0 ? 2 * size : 0), floats);
  }

  get(name: string): Parameter {
    const found = this.parameters.find((parameter) => parameter.name === name);
    if (!found) throw new GemmoeError('internal', `there is no parameter named ${name}`);
    return found;
  }
}

class StoredParameter implements Parameter {
  readonly name: string;
  readonly role: ParameterRole;
  readonly shape: readonly number[];
  readonly parts: readonly number[];
  readonly offset: number;
  readonly size: number;
  private readonly store: ParameterStore;
  private dataView: FloatArray | undefined;
  private gradientView: FloatArray | undefined;
  private bits: Uint16Array | undefined;

  constructor(
    store: ParameterStore,
    name: string,
    role: ParameterRole,
    shape: readonly number[],
    parts: readonly number[],
    offset: number,
  ) {
    this.store = store;
    this.name = name;
    this.role = role;
    this.shape = shape;
    this.parts = parts;
    this.offset = offset;
    this.size = shape.reduce((product, length) => product * length, 1);
  }

  get bf16(): Uint16Array | null {
    return this.offset < 0 ? (this.bits ??= new Uint16Array(this.size)) : null;
  }

  get data(): FloatArray {
    if (this.offset < 0) throw new GemmoeError('internal', `${this.name} is held as bfloat16, not as floats`);
    return (this.dataView ??= this.store.data.subarray(this.offset, this.offset + this.size));
  }

  get gradient(): FloatArray {
    return (this.gradientView ??= this.store.gradient.subarray(this.offset, this.offset + this.size));
  }
}
