// Copies of a call's arguments in float64, and which arrays a call wrote.

type Numbers = Float32Array | Float64Array | Int32Array | Uint16Array;

const isArray = (value: unknown): value is Numbers => ArrayBuffer.isView(value);

/** A copy whose floats are float64; views of one buffer stay views of one copy, as outputs may be inputs. */
export function copyArguments(values: readonly unknown[]): unknown[] {
  const wholes = new Map<ArrayBufferLike, Map<string, Numbers>>();
  const copyArray = (array: Numbers): Numbers => {
    if (array instanceof Int32Array || array instanceof Uint16Array || array instanceof Float64Array)
      return array.slice();
    // calls pass views that are equal or apart: equal ones get one copy
    const key = `${array.byteOffset}:${array.length}`;
    const known = wholes.get(array.buffer) ?? new Map<string, Numbers>();
    wholes.set(array.buffer, known);
    const copy = known.get(key) ?? Float64Array.from(array);
    known.set(key, copy);
    return copy;
  };
  const copy = (value: unknown): unknown => {
    if (isArray(value)) return copyArray(value);
    if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, copy(part)]));
  };
  return values.map(copy);
}

/** An array of the call and its copy, after both ran. */
export interface Pair {
  readonly place: string;
  readonly ours: Numbers;
  readonly theirs: Numbers;
}

/** Every array of the arguments beside its copy: those that were only read are equal. */
export function writtenArrays(values: readonly unknown[], copies: readonly unknown[]): Pair[] {
  return values.flatMap((value, i) => {
    const copy = copies[i];
    if (isArray(value)) return [{ place: `argument ${i + 1}`, ours: value, theirs: copy as Numbers }];
    if (value === null || typeof value !== 'object') return [];
    return Object.entries(value).flatMap(([key, part]) =>
      isArray(part)
        ? [{ place: `${key} of argument ${i + 1}`, ours: part, theirs: (copy as Record<string, Numbers>)[key] }]
        : [],
    );
  });
}
