// Every optimizer a second time, in float64 and by its equations, on one parameter as a plain array: no kernels, no runs, no
// packed matrices. Each is the algorithm as its paper or PyTorch's documentation states it.

import { orthogonalised } from './muon.ts';

/** Updates p from g at step t. */
export type Update = (p: Float64Array, g: Float64Array, t: number, learningRate: number) => void;

/** Zeros, the length of what is updated. */
function memory(): (p: Float64Array) => Float64Array {
  let kept: Float64Array | undefined;
  return (p) => (kept ??= new Float64Array(p.length));
}

export function adamw(beta1: number, beta2: number, eps: number, decay: number): Update {
  const [ms, vs] = [memory(), memory()];
  return (p, g, t, learningRate) => {
    const [m, v] = [ms(p), vs(p)];
    for (let i = 0; i < p.length; i++) {
      p[i] -= learningRate * decay * p[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g[i];
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2;
      p[i] -= (learningRate * (m[i] / (1 - beta1 ** t))) / (Math.sqrt(v[i] / (1 - beta2 ** t)) + eps);
    }
  };
}

export function adam(beta1: number, beta2: number, eps: number, decay: number, amsgrad: boolean): Update {
  const [ms, vs, tops] = [memory(), memory(), memory()];
  return (p, g, t, learningRate) => {
    const [m, v, top] = [ms(p), vs(p), tops(p)];
    for (let i = 0; i < p.length; i++) {
      const gradient = g[i] + decay * p[i];
      m[i] = beta1 * m[i] + (1 - beta1) * gradient;
      v[i] = beta2 * v[i] + (1 - beta2) * gradient ** 2;
      top[i] = Math.max(top[i], v[i]);
      const second = (amsgrad ? top[i] : v[i]) / (1 - beta2 ** t);
      p[i] -= (learningRate * (m[i] / (1 - beta1 ** t))) / (Math.sqrt(second) + eps);
    }
  };
}

export function sgd(momentum: number, dampening: number, nesterov: boolean, decay: number): Update {
  const buffers = memory();
  return (p, g, t, learningRate) => {
    const b = buffers(p);
    for (let i = 0; i < p.length; i++) {
      const gradient = g[i] + decay * p[i];
      b[i] = t === 1 ? gradient : momentum * b[i] + (1 - dampening) * gradient;
      p[i] -= learningRate * (nesterov ? gradient + momentum * b[i] : momentum > 0 ? b[i] : gradient);
    }
  };
}

export function lion(beta1: number, beta2: number, decay: number): Update {
  const ms = memory();
  return (p, g, _, learningRate) => {
    const m = ms(p);
    for (let i = 0; i < p.length; i++) {
      p[i] *= 1 - learningRate * decay;
      p[i] -= learningRate * Math.sign(beta1 * m[i] + (1 - beta1) * g[i]);
      m[i] = beta2 * m[i] + (1 - beta2) * g[i];
    }
  };
}

/** As in the documentation of torch.optim.Adafactor; `columns` 0 for a vector. */
export function adafactor(columns: number, decay: number, clip: number, relative: boolean): Update {
  const [eps1, eps2] = [1.1920928955078125e-7, 1e-3];
  let [row, column, whole]: number[][] = [[], [], []];
  const rms = (values: ArrayLike<number>) => Math.hypot(...Array.from(values)) / Math.sqrt(values.length);
  const lerp = (old: number[], now: number[], fresh: number) =>
    now.map((v, i) => (old[i] ?? 0) * (1 - fresh) + v * fresh);
  return (p, g, t, learningRate) => {
    const fresh = t ** -0.8;
    const rows = columns === 0 ? 0 : p.length / columns;
    const squares = Array.from(g, (value) => value ** 2);
    const at = (r: number, c: number) => squares[r * columns + c];
    const indices = (count: number) => Array.from({ length: count }, (_, i) => i);
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    row = lerp(
      row,
      indices(rows).map((r) => mean(indices(columns).map((c) => at(r, c)))),
      fresh,
    );
    column = lerp(
      column,
      indices(columns).map((c) => mean(indices(rows).map((r) => at(r, c)))),
      fresh,
    );
    whole = lerp(whole, squares, fresh);
    const second = (i: number) =>
      columns === 0 ? whole[i] : (row[Math.floor(i / columns)] * column[i % columns]) / Math.max(mean(row), eps1);
    const update = g.map((value, i) => value / Math.sqrt(Math.max(second(i), eps1 ** 2)));
    const alpha = relative ? Math.max(eps2, rms(p)) * Math.min(learningRate, 1 / Math.sqrt(t)) : learningRate;
    const bound = Math.max(1, rms(update) / clip);
    update.forEach((u, i) => (p[i] = p[i] * (1 - learningRate * decay) - (alpha * u) / bound));
  };
}

export interface MuonEquation {
  readonly coefficients: Float64Array;
  readonly size: number;
  readonly decay: number;
  readonly nesterov: boolean;
  readonly cautious: boolean;
  /** NorMuon's memory; 0 without. */
  readonly beta2: number;
  readonly momentumAt: (t: number) => number;
}

export function muon(rows: number, columns: number, options: MuonEquation): Update {
  const { coefficients, size, decay, nesterov, cautious, beta2, momentumAt } = options;
  const [buffers, seconds] = [memory(), memory()];
  return (p, g, t, learningRate) => {
    const [b, second] = [buffers(p), seconds(p)];
    const mu = momentumAt(t);
    b.forEach((value, i) => (b[i] = mu * value + (1 - mu) * g[i]));
    const direction = nesterov ? g.map((value, i) => (1 - mu) * value + mu * b[i]) : b.slice();
    let step = orthogonalised(direction, rows, columns, coefficients);
    if (beta2 > 0) {
      const norm = Math.hypot(...step);
      for (let r = 0; r < rows; r++) {
        const meanSquare = Math.hypot(...step.subarray(r * columns, (r + 1) * columns)) ** 2 / columns;
        second[r] = beta2 * second[r] + (1 - beta2) * meanSquare;
      }
      const even = step.map((value, i) => value / (Math.sqrt(second[Math.floor(i / columns)]) + 1e-8));
      step = even.map((value) => (value * norm) / Math.hypot(...even));
    }
    step.forEach((u, i) => {
      const shrink = cautious && u * p[i] < 0 ? 1 : 1 - learningRate * decay;
      p[i] = p[i] * shrink - learningRate * size * u;
    });
  };
}

/** The form of the authors' program, which keeps y and z only; x = y + (z - y)(1 - 1/β₁) is theirs for evaluation. */
export function scheduleFree(beta1: number, beta2: number, eps: number, decay: number, power: number) {
  const [zs, vs] = [memory(), memory()];
  let [weights, largest] = [0, 0];
  const update: Update = (y, g, t, learningRate) => {
    const [z, v] = [zs(y), vs(y)];
    if (t === 1) z.set(y);
    largest = Math.max(largest, learningRate);
    const weight = t ** power * largest ** 2;
    weights += weight;
    const c = weight / weights;
    for (let i = 0; i < y.length; i++) {
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2;
      const step = g[i] / (Math.sqrt(v[i] / (1 - beta2 ** t)) + eps) + decay * y[i];
      y[i] = y[i] + c * (z[i] - y[i]) + learningRate * (beta1 * (1 - c) - 1) * step;
      z[i] -= learningRate * step;
    }
  };
  return { update, average: (y: Float64Array) => y.map((value, i) => value + (zs(y)[i] - value) * (1 - 1 / beta1)) };
}
