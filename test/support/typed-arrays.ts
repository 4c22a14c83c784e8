// Counting the typed arrays that a piece of work makes.

const NAMES = ['Float32Array', 'Float64Array', 'Int32Array', 'Uint8Array', 'Uint16Array', 'Uint32Array'] as const;
const originals = NAMES.map((name) => [name, globalThis[name]] as const);
const typedArray = Object.getPrototypeOf(Int32Array.prototype) as { subarray: unknown; slice: unknown };
const { subarray, slice } = typedArray;

/** Typed arrays that `work` makes, by constructor, `subarray` or `slice`. */
export function typedArraysMadeBy(work: () => void): number {
  let made = 0;
  for (const [name, original] of originals) {
    const counting: typeof original = new Proxy(original, {
      construct(target, args, newTarget): object {
        made++;
        return Reflect.construct(target, args, newTarget === counting ? target : newTarget) as object;
      },
    });
    Object.assign(globalThis, { [name]: counting });
  }
  for (const [name, original] of [
    ['subarray', subarray],
    ['slice', slice],
  ] as const) {
    typedArray[name] = function counted(this: unknown, ...args: unknown[]) {
      made++;
      return (original as (...args: unknown[]) => unknown).apply(this, args);
    };
  }
  try {
    work();
  } finally {
    Object.assign(globalThis, Object.fromEntries(originals));
    Object.assign(typedArray, { subarray, slice });
  }
  return made;
}
