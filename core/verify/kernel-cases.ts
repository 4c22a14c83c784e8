// Calls of every kernel, as data: run by a backend in float32 and by the portable kernels over the reference in float64.

import {
  type AttentionShape,
  type ExpertsSaved,
  IGNORE_INDEX,
  type Kernels,
  newtonSchulzScratch,
  type Routing,
} from '../kernels.ts';
import { toBf16 } from '../ops/cast.ts';
import { Random } from '../random.ts';
import { type ComputeType, type FloatArray, newFloats } from '../tensor/dtype.ts';

/** What a call wrote. */
export type Written = readonly (FloatArray | Int32Array | Uint16Array)[];

/** A call of one kernel: makes its arguments, runs it, and gives the arrays it wrote (and its number, if any). */
export type KernelCase = (kernels: Kernels, draw: Draw) => Written;

/** Random arrays, the same for every backend and element type. */
export interface Draw {
  normal(length: number): FloatArray;
  /** Filled with values that must be overwritten or added to, and watched on both sides. */
  output(length: number): FloatArray;
  /** Whether something was written before or behind an output. */
  strayed(): boolean;
}

const GUARD_LENGTH = 24;
const GUARD = -7.75;

/** Arrays of an element type with the values of float32: what is compared is the arithmetic, not the input. */
export function drawing(type: ComputeType): Draw {
  const random = new Random(5, 'conformance');
  const guarded: FloatArray[] = [];
  let step = 0;
  const fill = (target: FloatArray) => {
    const values = new Float32Array(target.length);
    random.fillNormal(values, 0, 1, step++);
    target.set(values);
  };
  return {
    normal(length) {
      const values = newFloats(type, length);
      fill(values);
      return values;
    },
    output(length) {
      const whole = newFloats(type, length + 2 * GUARD_LENGTH).fill(GUARD);
      guarded.push(whole);
      const values = whole.subarray(GUARD_LENGTH, GUARD_LENGTH + length);
      fill(values);
      return values;
    },
    strayed() {
      const isTouched = (value: number) => value !== GUARD;
      return guarded.some(
        (whole) => whole.subarray(0, GUARD_LENGTH).some(isTouched) || whole.subarray(-GUARD_LENGTH).some(isTouched),
      );
    },
  };
}

/** Sizes of a set of cases, by the letters of core/kernels.ts; D and V are those of attention and of the loss. */
interface Sizes {
  readonly N: number;
  readonly E: number;
  readonly K: number;
  readonly C: number;
  readonly F: number;
  readonly D: number;
  readonly V: number;
}

/** Odd ones, those around vectors, and those of a small model. */
export const SIZES: readonly Sizes[] = [
  { N: 7, E: 5, K: 2, C: 6, F: 3, D: 6, V: 5 },
  { N: 1, E: 8, K: 1, C: 17, F: 31, D: 2, V: 257 },
  { N: 33, E: 8, K: 2, C: 64, F: 100, D: 16, V: 65 },
  { N: 130, E: 4, K: 2, C: 96, F: 172, D: 80, V: 1000 },
];

/** Cases of every kernel but gemm, of all sizes. */
export function kernelCases(): Record<Exclude<keyof Kernels, 'gemm'>, readonly KernelCase[]> {
  const all = SIZES.map(casesOf);
  const names = Object.keys(all[0]) as Exclude<keyof Kernels, 'gemm'>[];
  return Object.fromEntries(names.map((name) => [name, all.flatMap((cases) => cases[name])])) as never;
}

/** Offsets of E experts over M rows, uneven, with one that has none. */
function unevenOffsets(E: number, M: number): Int32Array {
  const offsets = Int32Array.from({ length: E + 1 }, (_, e) => Math.floor(M * (e / E) ** 2));
  if (E > 2) offsets[2] = offsets[1];
  return offsets;
}

function casesOf({ N, E, K, C, F, D, V }: Sizes): Record<Exclude<keyof Kernels, 'gemm'>, readonly KernelCase[]> {
  const M = N * K;
  const OFFSETS = unevenOffsets(E, M);
  const picks = Int32Array.from({ length: N }, (_, n) => (n * 3) % E);

  function routing(kernels: Kernels, draw: Draw, smallestSum?: number) {
    const options = { numExperts: E, topK: K, renormalise: true, smallestSum };
    const probabilities = draw.output(N * E);
    const made: Routing = {
      experts: new Int32Array(N * K),
      weights: draw.output(N * K),
      offsets: new Int32Array(E + 1),
      rows: new Int32Array(N * K),
      slots: new Int32Array(N * K),
    };
    kernels.router(probabilities, made.weights, made.experts, draw.normal(N * E), N, options);
    kernels.dispatch(made, N, options);
    return { options, probabilities, made };
  }

  /** A sparsemixer's choice, so wide that several experts are near. */
  function mixed(kernels: Kernels, draw: Draw) {
    const options = { numExperts: E, jitter: 0.3 };
    const [probabilities, weights, experts] = [draw.output(N * E), draw.output(N * 2), new Int32Array(N * 2)];
    const logits = draw.normal(N * E);
    kernels.sparseMixer(probabilities, weights, experts, logits, N, options);
    return { probabilities, weights, experts, logits, options };
  }

  /** With `documents`, each sequence holds several that end every so many tokens, the second sequence's earlier. */
  function attentionCase(
    queries: number,
    starts: number[],
    window: number,
    backward: boolean,
    documents = 0,
  ): KernelCase {
    return (kernels, draw) => {
      const [batch, heads, kvHeads] = [starts.length, 4, D === 16 ? 1 : 2];
      const width = (heads + 2 * kvHeads) * D;
      const capacity = Math.max(...starts) + queries;
      const shape: AttentionShape = {
        ...{ batch, queries, heads, kvHeads, headDim: D, scale: D ** -0.5, window },
        ...{ queryStride: width, keyStride: width, keyBatchStride: capacity * width },
        ...(documents > 0 && {
          firstKeys: Int32Array.from({ length: batch * queries }, (_, i) => {
            const [b, t] = [Math.floor(i / queries), i % queries];
            return Math.max(0, t - ((t + b) % documents));
          }),
        }),
      };
      const qkv = draw.normal(batch * capacity * width);
      const [out, logSumExp] = [draw.output(batch * queries * heads * D), draw.output(batch * heads * queries)];
      const [k, v] = [heads * D, (heads + kvHeads) * D];
      kernels.attention(out, logSumExp, qkv, 0, qkv, k, qkv, v, Int32Array.from(starts), shape);
      if (!backward) return [out, logSumExp];
      const d = draw.output(qkv.length);
      kernels.attentionBackward(d, d, d, draw.normal(out.length), out, logSumExp, qkv, 0, qkv, k, qkv, v, shape);
      return [d];
    };
  }

  function expertsCase(backward: boolean): KernelCase {
    return (kernels, draw) => {
      const shape = { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F };
      const { made } = routing(kernels, draw);
      const buffers = (): ExpertsSaved => ({
        ...{ gathered: draw.output(M * C), gateUp: draw.output(M * 2 * F) },
        ...{ hidden: draw.output(M * F), output: draw.output(M * C) },
      });
      const [x, wGateUp, wDown] = [draw.normal(N * C), draw.normal(E * 2 * F * C), draw.normal(E * C * F)];
      const [saved, y] = [buffers(), draw.output(N * C)];
      kernels.experts(y, saved, x, wGateUp, wDown, made, shape);
      if (!backward) return [y];
      const written = [
        draw.output(N * C),
        draw.output(N * K),
        draw.output(wGateUp.length),
        draw.output(wDown.length),
      ] as const;
      kernels.expertsBackward(...written, buffers(), draw.normal(N * C), saved, wGateUp, wDown, made, shape);
      return written;
    };
  }

  /** Coefficients of Muon (Jordan et al. 2024), for two steps: more would enlarge differences of rounding. */
  const NEWTON_SCHULZ = Float64Array.of(3.4445, -4.775, 2.0315, 3.4445, -4.775, 2.0315);

  function newtonSchulzCase(rows: number, columns: number): KernelCase {
    return (kernels, draw) => {
      const x = draw.normal(2 * rows * columns + 5);
      const batch = { offsets: Float64Array.of(3 + rows * columns, 1), rows, columns };
      kernels.newtonSchulz(x, batch, NEWTON_SCHULZ, draw.output(newtonSchulzScratch(rows, columns)));
      return [x];
    };
  }

  /** A matrix, or a vector where there is one column. */
  function adafactorCase(rows: number, columns: number, relative: boolean): KernelCase {
    return (kernels, draw) => {
      const [p, g] = [draw.normal(rows * columns + 3), draw.normal(rows * columns + 3)];
      const [row, column] = [draw.normal(rows + 2).map(Math.abs), draw.normal(columns + 2).map(Math.abs)];
      kernels.adafactor(p, g, row, 1, columns > 1 ? column : null, 1, 2, rows, columns, {
        ...{ learningRate: 0.1, step: 3, decayRate: 0.8, eps1: 1e-7, eps2: 1e-3, clip: 0.8, relative },
        ...{ weightDecay: 0.1, gradientScale: 0.5 },
      });
      return [p, g, row, column];
    };
  }

  /** A case or more for every kernel. */
  return {
    linear: [false, true].map((accumulate) => (kernels, draw) => {
      const y = draw.output(N * F);
      kernels.linear(y, draw.normal(N * C), draw.normal(F * C), draw.normal(F), N, C, F, accumulate);
      return [y];
    }),
    holdWeights: [1, E].map((groups) => (kernels, draw) => {
      const w = draw.normal(groups * F * C);
      const x = draw.normal(N * C);
      const release = kernels.holdWeights(w, groups, F, C);
      // few rows and all, one matrix and each group's
      const outputs = [Math.min(N, 5), N].map((rows) => {
        const y = draw.output(rows * F);
        kernels.linear(y, x, w.subarray((groups - 1) * F * C), null, rows, C, F, false);
        return y;
      });
      const grouped = draw.output(N * F);
      kernels.groupedLinear(grouped, x, w, unevenOffsets(groups, N), groups, C, F);
      release();
      w.fill(0);
      const after = draw.output(N * F);
      kernels.linear(after, x, w, null, N, C, F, false);
      return [...outputs, grouped, after];
    }),
    linearBf16: [false, true].flatMap((accumulate) =>
      // few rows, as in decoding, and many
      [Math.min(N, 3), N].map((rows) => (kernels: Kernels, draw: Draw) => {
        const y = draw.output(rows * F);
        const [x, w] = [draw.normal(rows * C), bitsOf(draw.normal(F * C))];
        kernels.linearBf16(y, x, w, accumulate ? draw.normal(F) : null, rows, C, F, accumulate);
        return [y];
      }),
    ),
    linearBackward: [false, true].map((accumulate) => (kernels, draw) => {
      const [dx, dw, db] = [draw.output(N * C), draw.output(F * C), draw.output(F)];
      kernels.linearBackward(
        dx,
        dw,
        db,
        draw.normal(N * F),
        draw.normal(N * C),
        draw.normal(F * C),
        N,
        C,
        F,
        accumulate,
      );
      return [dx, dw, db];
    }),
    groupedLinear: [
      (kernels, draw) => {
        const y = draw.output(M * F);
        kernels.groupedLinear(y, draw.normal(M * C), draw.normal(E * F * C), OFFSETS, E, C, F);
        return [y];
      },
    ],
    groupedLinearBackward: [
      (kernels, draw) => {
        const [dx, dw] = [draw.output(M * C), draw.output(E * F * C)];
        const [dy, x, w] = [draw.normal(M * F), draw.normal(M * C), draw.normal(E * F * C)];
        kernels.groupedLinearBackward(dx, dw, dy, x, w, OFFSETS, E, C, F);
        return [dx, dw];
      },
    ],
    embedding: [
      (kernels, draw) => {
        const y = draw.output(N * C);
        kernels.embedding(y, draw.normal(E * C), picks, N, C);
        return [y];
      },
    ],
    embeddingBf16: [
      (kernels, draw) => {
        const y = draw.output(N * C);
        kernels.embeddingBf16(y, bitsOf(draw.normal(E * C)), picks, N, C);
        return [y];
      },
    ],
    embeddingBackward: [
      (kernels, draw) => {
        const d = draw.output(E * C);
        kernels.embeddingBackward(d, draw.normal(N * C), picks, N, C);
        return [d];
      },
    ],
    add: [
      (kernels, draw) => {
        const y = draw.output(N + 2);
        kernels.add(y, draw.normal(N + 2), N);
        return [y];
      },
    ],
    scale: [
      (kernels, draw) => {
        const y = draw.output(N + 2);
        kernels.scale(y, draw.normal(N + 2), 0.3, N);
        return [y];
      },
    ],
    clamp: [
      (kernels, draw) => {
        const y = draw.output(N + 2);
        kernels.clamp(y, draw.normal(N + 2), 0.5, N);
        return [y];
      },
    ],
    clampBackward: [
      (kernels, draw) => {
        const d = draw.output(N + 2);
        kernels.clampBackward(d, draw.normal(N + 2), draw.normal(N + 2), 0.5, N);
        return [d];
      },
    ],
    layerNorm: [
      (kernels, draw) => {
        const [y, mean, rstd] = [draw.output(N * C), draw.output(N), draw.output(N)];
        kernels.layerNorm(y, mean, rstd, draw.normal(N * C), draw.normal(C), draw.normal(C), N, C, 1e-5);
        return [y, mean, rstd];
      },
    ],
    layerNormBackward: [
      (kernels, draw) => {
        const [y, mean, rstd] = [draw.output(N * C), draw.output(N), draw.output(N)];
        const [x, gamma] = [draw.normal(N * C), draw.normal(C)];
        kernels.layerNorm(y, mean, rstd, x, gamma, draw.normal(C), N, C, 1e-5);
        const [dx, dGamma, dBeta] = [draw.output(N * C), draw.output(C), draw.output(C)];
        kernels.layerNormBackward(dx, dGamma, dBeta, draw.normal(N * C), x, gamma, mean, rstd, N, C);
        return [dx, dGamma, dBeta];
      },
    ],
    rmsNorm: [
      (kernels, draw) => {
        const [y, rstd] = [draw.output(N * C), draw.output(N)];
        kernels.rmsNorm(y, rstd, draw.normal(N * C), draw.normal(C), N, C, 1e-5);
        return [y, rstd];
      },
    ],
    rmsNormBackward: [
      (kernels, draw) => {
        const [x, gamma, y, rstd] = [draw.normal(N * C), draw.normal(C), draw.output(N * C), draw.output(N)];
        kernels.rmsNorm(y, rstd, x, gamma, N, C, 1e-5);
        const [dx, dGamma] = [draw.output(N * C), draw.output(C)];
        kernels.rmsNormBackward(dx, dGamma, draw.normal(N * C), x, gamma, rstd, N, C);
        return [dx, dGamma];
      },
    ],
    rope: [false, true].map((inverse) => (kernels, draw) => {
      const x = draw.normal(3 * 11 + 2);
      kernels.rope(x, 2, 11, draw.normal(8 * 2), draw.normal(8 * 2), Int32Array.of(0, 7, 3), 3, 2, 4, inverse);
      return [x];
    }),
    ropeInterleaved: [false, true].map((inverse) => (kernels, draw) => {
      const [x, cos, sin] = [draw.normal(3 * 11 + 2), draw.normal(8 * 2), draw.normal(8 * 2)];
      kernels.ropeInterleaved(x, 2, 11, cos, sin, Int32Array.of(0, 7, 3), 3, 2, 4, inverse);
      return [x];
    }),
    softmax: [
      (kernels, draw) => {
        const y = draw.output(N * E);
        kernels.softmax(y, draw.normal(N * E), N, E);
        return [y];
      },
    ],
    swiglu: [
      (kernels, draw) => {
        const h = draw.output(M * F);
        kernels.swiglu(h, draw.normal(M * 2 * F), M, F);
        return [h];
      },
    ],
    swigluBackward: [
      (kernels, draw) => {
        const d = draw.output(M * 2 * F);
        kernels.swigluBackward(d, draw.normal(M * F), draw.normal(M * 2 * F), M, F);
        return [d];
      },
    ],
    attention: [
      attentionCase(9, [0, 0], 0, false),
      attentionCase(70, [0], 0, false),
      attentionCase(1, [5, 2], 0, false),
      attentionCase(3, [4, 1], 0, false),
      attentionCase(9, [0, 0], 4, false),
      attentionCase(9, [0, 0], 0, false, 4),
      attentionCase(70, [0, 0], 0, false, 33),
      attentionCase(70, [0], 20, false, 33),
      attentionCase(3, [0, 0], 0, false, 2),
    ],
    attentionBackward: [
      attentionCase(9, [0, 0], 0, true),
      attentionCase(70, [0], 0, true),
      attentionCase(9, [0], 4, true),
      attentionCase(9, [0, 0], 0, true, 4),
      attentionCase(70, [0, 0], 0, true, 33),
      attentionCase(70, [0], 20, true, 33),
    ],
    router: [
      (kernels, draw) => {
        const { probabilities, made } = routing(kernels, draw);
        return [probabilities, made.weights, made.experts];
      },
      (kernels, draw) => {
        const { probabilities, made } = routing(kernels, draw, 0.4);
        return [probabilities, made.weights, made.experts];
      },
    ],
    chooseExperts: [undefined, 0.4].map((smallestSum) => (kernels, draw) => {
      const { probabilities, made, options } = routing(kernels, draw, smallestSum);
      kernels.chooseExperts(made.weights, made.experts, probabilities, draw.normal(E), N, options);
      return [made.weights, made.experts];
    }),
    sparseMixer: [
      (kernels, draw) => {
        const { probabilities, weights, experts } = mixed(kernels, draw);
        return [probabilities, weights, experts];
      },
    ],
    sparseMixerBackward: [
      (kernels, draw) => {
        const { probabilities, experts, logits, options } = mixed(kernels, draw);
        const d = draw.output(N * E);
        const [dWeights, dProbabilities] = [draw.normal(N * 2), draw.normal(E)];
        kernels.sparseMixerBackward(d, dWeights, dProbabilities, probabilities, logits, experts, N, options);
        return [d];
      },
    ],
    zLoss: [true, false].map((hasGradient) => (kernels, draw) => {
      const d = draw.output(N * E);
      return [Float32Array.of(kernels.zLoss(hasGradient ? d : null, draw.normal(N * E), N, E, 0.3)), d];
    }),
    routerBackward: [undefined, 0.4].map((smallestSum) => (kernels, draw) => {
      const { probabilities, made, options } = routing(kernels, draw, smallestSum);
      const d = draw.output(N * E);
      kernels.routerBackward(
        d,
        draw.normal(N * K),
        draw.normal(E),
        probabilities,
        made.weights,
        made.experts,
        N,
        options,
      );
      return [d];
    }),
    dispatch: [
      (kernels, draw) => {
        const { made } = routing(kernels, draw);
        return [made.offsets, made.rows, made.slots];
      },
    ],
    gather: [
      (kernels, draw) => {
        const y = draw.output(M * C);
        kernels.gather(y, draw.normal(N * C), routing(kernels, draw).made.rows, M, C);
        return [y];
      },
    ],
    gatherBackward: [
      (kernels, draw) => {
        const d = draw.output(N * C);
        kernels.gatherBackward(d, draw.normal(M * C), routing(kernels, draw).made.slots, N, K, C);
        return [d];
      },
    ],
    combine: [
      (kernels, draw) => {
        const { made } = routing(kernels, draw);
        const y = draw.output(N * C);
        kernels.combine(y, draw.normal(M * C), made.weights, made.slots, N, K, C);
        return [y];
      },
    ],
    combineBackward: [
      (kernels, draw) => {
        const { made } = routing(kernels, draw);
        const [dx, dWeights] = [draw.output(M * C), draw.output(N * K)];
        kernels.combineBackward(
          dx,
          dWeights,
          draw.normal(N * C),
          draw.normal(M * C),
          made.weights,
          made.slots,
          N,
          K,
          C,
        );
        return [dx, dWeights];
      },
    ],
    experts: [expertsCase(false)],
    expertsBf16: [
      (kernels, draw) => {
        const shape = { tokens: N, hiddenSize: C, numExperts: E, topK: K, expertWidth: F };
        const { made } = routing(kernels, draw);
        const saved = {
          ...{ gathered: draw.output(M * C), gateUp: draw.output(M * 2 * F) },
          ...{ hidden: draw.output(M * F), output: draw.output(M * C) },
        };
        const [wGateUp, wDown] = [bitsOf(draw.normal(E * 2 * F * C)), bitsOf(draw.normal(E * C * F))];
        const y = draw.output(N * C);
        kernels.expertsBf16(y, saved, draw.normal(N * C), wGateUp, wDown, made, shape);
        return [y];
      },
    ],
    expertsBackward: [expertsCase(true)],
    crossEntropy: [
      (kernels, draw) => {
        const gradient = draw.output(3 * V);
        const targets = Int32Array.of(V - 1, IGNORE_INDEX, 0);
        const loss = kernels.crossEntropy(gradient, draw.normal(3 * V), targets, 3, V, 0.5);
        return [gradient, Float32Array.of(loss)];
      },
    ],
    sumOfSquares: [0, 1, 5, 131].map((length) => (kernels, draw) => [
      Float32Array.of(kernels.sumOfSquares(draw.normal(length))),
    ]),
    adamw: [
      (kernels, draw) => {
        const [p, g, m] = [draw.normal(N + 3), draw.normal(N + 3), draw.normal(N + 3)];
        const v = draw.normal(N + 3).map(Math.abs);
        kernels.adamw(p, g, m, v, 2, N, 0.1, 0.9, 0.99, 1e-8, 0.1, 3, 0.5);
        return [p, g, m, v];
      },
    ],
    sgd: [null, 1, 2].map((step) => (kernels, draw) => {
      const [p, g] = [draw.normal(N + 3), draw.normal(N + 3)];
      const velocity = step === null ? null : draw.normal(N + 3);
      kernels.sgd(p, g, velocity, 2, N, 0.1, 0.9, step === 2, 0.1, step ?? 1, 0.5);
      return velocity ? [p, g, velocity] : [p, g];
    }),
    adam: [false, true].map((amsgrad) => (kernels, draw) => {
      const [p, g, m] = [draw.normal(N + 3), draw.normal(N + 3), draw.normal(N + 3)];
      const [v, vMax] = [draw.normal(N + 3).map(Math.abs), draw.normal(N + 3).map(Math.abs)];
      kernels.adam(p, g, m, v, amsgrad ? vMax : null, 2, N, 0.1, 0.9, 0.99, 1e-8, 0.1, 3, 0.5);
      return [p, g, m, v, vMax];
    }),
    adafactor: [adafactorCase(3, 2, true), adafactorCase(3, 2, false), adafactorCase(4, 1, true)],
    scheduleFree: [
      (kernels, draw) => {
        const [p, g, z, x] = [draw.normal(N + 3), draw.normal(N + 3), draw.normal(N + 3), draw.normal(N + 3)];
        const v = draw.normal(N + 3).map(Math.abs);
        kernels.scheduleFree(p, g, z, x, v, 2, N, 0.1, 0.9, 0.99, 1e-8, 0.1, 0.3, 3, 0.5);
        return [p, g, z, x, v];
      },
    ],
    lion: [
      (kernels, draw) => {
        const [p, g, m] = [draw.normal(N + 3), draw.normal(N + 3), draw.normal(N + 3)];
        kernels.lion(p, g, m, 2, N, 0.1, 0.9, 0.99, 0.1, 0.5);
        return [p, g, m];
      },
    ],
    muonMomentum: [false, true].map((nesterov) => (kernels, draw) => {
      const [g, m] = [draw.normal(N + 3), draw.normal(N + 3)];
      kernels.muonMomentum(g, m, 2, N, 0.95, nesterov, 0.5);
      return [g, m];
    }),
    newtonSchulz: [newtonSchulzCase(C, C), newtonSchulzCase(F, C), newtonSchulzCase(C, F), newtonSchulzCase(1, 4)],
    muonNormalise: [
      (kernels, draw) => {
        const [x, v] = [draw.normal(2 * C * F + 3), draw.normal(2 * C + 1).map(Math.abs)];
        kernels.muonNormalise(x, { offsets: Float64Array.of(C * F + 2, 1), rows: C, columns: F }, v, 0.9);
        return [x, v];
      },
    ],
    muonUpdate: [false, true].map((cautious) => (kernels, draw) => {
      const [p, g] = [draw.normal(N + 3), draw.normal(N + 3)];
      kernels.muonUpdate(p, g, 2, N, 0.1, 0.02, cautious);
      return [p, g];
    }),
    fillNormal: [0, 3, 2 ** 33 + 6].map((start) => (kernels, draw) => {
      const values = draw.output(N * C);
      kernels.fillNormal(values, new Random(2 ** 40 + 5, 'conformance'), 0.25, 2, 7, start);
      return [values];
    }),
    toBf16: [castTo('toBf16')],
    fromBf16: [castFrom('fromBf16')],
    toF16: [castTo('toF16')],
    fromF16: [castFrom('fromF16')],
    roundToBf16: ROUNDED.map((length) => roundCase('roundToBf16', length)),
    roundToF16: ROUNDED.map((length) => roundCase('roundToF16', length)),
  };
}

/** Bits of values rounded to bfloat16. */
function bitsOf(values: FloatArray): Uint16Array {
  const bits = new Uint16Array(values.length);
  toBf16(bits, values);
  return bits;
}

/** Lengths of rounded arrays. */
const ROUNDED = [0, 1, 17, 131];

/** Values of all the sizes that a half holds, and smaller ones. */
function roundCase(name: 'roundToBf16' | 'roundToF16', length: number): KernelCase {
  return (kernels, draw) => {
    const out = draw.output(length);
    const x = draw.normal(length).map((value, i) => value * 2 ** ((i % 40) - 26));
    kernels[name](out, x, length);
    return [out];
  };
}

function castTo(name: 'toBf16' | 'toF16'): KernelCase {
  return (kernels, draw) => {
    const out = new Uint16Array(131);
    kernels[name](out, draw.normal(131));
    return [out];
  };
}

function castFrom(name: 'fromBf16' | 'fromF16'): KernelCase {
  return (kernels, draw) => {
    const out = draw.output(131);
    kernels[name](
      out,
      Uint16Array.from({ length: 131 }, (_, i) => i * 239),
    );
    return [out];
  };
}
