// `threads=auto`: the number of threads is measured, since one can win under load or on a machine whose cores are shared.

import type { NativeBackend } from './addon.ts';

/** A second thread has to save at least this share of the time. */
const WORTHWHILE = 0.9;
/** Repetitions of the trial; the fastest counts, as noise only adds. */
const TRIALS = 5;

/** Of 1, 2, 4, … and `most`, the number of threads on which a small layer runs fastest. */
export function fastestThreads(most: number, create: (threads: number) => NativeBackend): number {
  let best = 1;
  let bestTime = Number.POSITIVE_INFINITY;
  for (let count = 1; count <= most; count = count < most ? Math.min(2 * count, most) : most + 1) {
    const native = create(count);
    const time = trial(native);
    native.close();
    if (time < bestTime * WORTHWHILE) {
      best = count;
      bestTime = time;
    }
  }
  return best;
}

/** Milliseconds of a linear layer of a small model, forward and backward, with its norm. */
function trial(native: NativeBackend): number {
  const [N, I, O] = [256, 128, 512];
  const floats = (count: number) => new Float32Array(count).fill(0.5);
  const [x, w, y, dx, dw] = [floats(N * I), floats(O * I), floats(N * O), floats(N * I), floats(O * I)];
  const [normed, rstd, gamma] = [floats(N * I), floats(N), floats(I)];
  let fastest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < TRIALS; i++) {
    const start = performance.now();
    native.rmsNorm(normed, rstd, x, gamma, N, I, 1e-5);
    native.linear(y, normed, w, null, N, I, O, false);
    native.linearBackward(dx, dw, null, y, normed, w, N, I, O, false);
    fastest = Math.min(fastest, performance.now() - start);
  }
  return fastest;
}
