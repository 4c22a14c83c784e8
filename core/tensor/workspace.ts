// The arena that a step's buffers come from: planned once per shape, sliced from one allocation, used again at every step.

import { type ComputeType, type FloatArray, newFloats } from './dtype.ts';

/** Hands out buffers while a plan is made. Their content is undefined. */
export interface Arena {
  floats(length: number): FloatArray;
  ints(length: number): Int32Array;
  /** Buffers of several plans of which only one is in use at any time: they lie on the same memory. */
  shared<T>(plans: readonly ((arena: Arena) => T)[]): T[];
}

/** Elements between two float buffers' starts are multiples of this: 64 bytes of float32, a cache line. */
const ALIGNMENT = 16;

/**
 * Buffers by plan. A plan is a pure function from an arena to a record of buffers; plans of different keys share one
 * allocation, so the buffers of one are garbage after another was used.
 */
export class Workspace {
  readonly dtype: ComputeType;
  private floats: FloatArray;
  private ints = new Int32Array(0);
  private readonly plans = new Map<string, unknown>();

  constructor(dtype: ComputeType) {
    this.dtype = dtype;
    this.floats = newFloats(dtype, 0);
  }

  /** Bytes held. */
  get bytes(): number {
    return this.floats.byteLength + this.ints.byteLength;
  }

  /** The buffers of `key`; `build` runs only when the key is new, or when a larger plan has moved the arena. */
  plan<T>(key: string, build: (arena: Arena) => T): T {
    const known = this.plans.get(key);
    if (known !== undefined) return known as T;
    const size = measurePlan(build);
    if (size.floats > this.floats.length || size.ints > this.ints.length) {
      this.plans.clear(); // their views keep the old allocation alive
      if (size.floats > this.floats.length) this.floats = newFloats(this.dtype, size.floats);
      if (size.ints > this.ints.length) this.ints = new Int32Array(size.ints);
    }
    const made = sliceArena(this.floats, this.ints, build);
    this.plans.set(key, made);
    return made;
  }
}

/** Elements that a plan takes. */
export function measurePlan(build: (arena: Arena) => unknown): { floats: number; ints: number } {
  const empty = new Float32Array(0);
  const emptyInts = new Int32Array(0);
  return layOut(
    build,
    () => empty,
    () => emptyInts,
  ).size;
}

function sliceArena<T>(floats: FloatArray, ints: Int32Array, build: (arena: Arena) => T): T {
  return layOut(
    build,
    (start, end) => floats.subarray(start, end),
    (start, end) => ints.subarray(start, end),
  ).made;
}

/** Runs a plan over an arena whose buffers are what `floatsAt` and `intsAt` give for ranges of elements. */
function layOut<T>(
  build: (arena: Arena) => T,
  floatsAt: (start: number, end: number) => FloatArray,
  intsAt: (start: number, end: number) => Int32Array,
): { made: T; size: { floats: number; ints: number } } {
  let next = { floats: 0, ints: 0 };
  const arena: Arena = {
    floats(length) {
      const start = next.floats;
      next.floats += roundUp(length);
      return floatsAt(start, start + length);
    },
    ints(length) {
      const start = next.ints;
      next.ints += roundUp(length);
      return intsAt(start, start + length);
    },
    shared(plans) {
      const start = next;
      let end = start;
      const made = plans.map((plan) => {
        next = { ...start };
        const buffers = plan(arena);
        end = { floats: Math.max(end.floats, next.floats), ints: Math.max(end.ints, next.ints) };
        return buffers;
      });
      next = { ...end };
      return made;
    },
  };
  const made = build(arena);
  return { made, size: next };
}

function roundUp(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}
