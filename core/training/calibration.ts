// How long steps take, found by taking a few that are thrown away, and what follows from it for a whole run.

/** Steps that are timed at most; fewer when they take more than a share of the run. */
const CALIBRATION_STEPS = 20;
const CALIBRATION_SHARE = 0.05;
/** Share of the time that is kept for training, however long validation takes. */
const LEAST_TRAINING = 0.3;
/** A forward pass takes about this share of a training step. */
export const FORWARD_SHARE = 1 / 3;
/** What validations at intervals, samples and checkpoints take, as a share of training. */
const OVERHEAD = 0.1;

/** Milliseconds of a step: the median of a few. @param seconds of the run: no more than a share of it is spent on this */
export function timeSteps(step: (number: number) => void, seconds: number): number {
  const times: number[] = [];
  const begin = performance.now();
  for (let number = 1; number <= CALIBRATION_STEPS; number++) {
    const start = performance.now();
    step(number);
    times.push(performance.now() - start);
    if (performance.now() - begin > CALIBRATION_SHARE * seconds * 1000) break;
  }
  // the first ones also compile the kernels
  const warm = times.slice(Math.floor(times.length / 2)).sort((a, b) => a - b);
  return warm[Math.floor(warm.length / 2)];
}

/** Steps that fit `seconds` with the last validation behind them; times of a step and of that validation in milliseconds. */
export function stepsThatFit(seconds: number, step: number, validation: number): number {
  const budget = Math.max(LEAST_TRAINING * seconds * 1000, seconds * 1000 - validation) * (1 - OVERHEAD);
  return Math.max(10, Math.floor(budget / step / 10) * 10);
}

/** Seconds of a run, the other way round. */
export function expectedSeconds(steps: number, step: number, validation: number): number {
  return ((steps * step) / (1 - OVERHEAD) + validation) / 1000;
}
