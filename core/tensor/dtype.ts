// Element types: what the arrays of a model may be, and what a file may hold.

/** Arrays that kernels compute on: float32 in use, float64 when gradients are checked by finite differences. */
export type FloatArray = Float32Array | Float64Array;

/** Element type of a model's arrays. */
export type ComputeType = 'f32' | 'f64';

/** Bytes of an element. */
export const ELEMENT_BYTES: Readonly<Record<ComputeType, number>> = { f32: 4, f64: 8 };

/** A zeroed float array of a compute type. */
export function newFloats(type: ComputeType, length: number): FloatArray {
  return type === 'f32' ? new Float32Array(length) : new Float64Array(length);
}
