// Every kernel of a backend against the portable kernels over the reference, in float32, on shapes that are no squares.

import { describe, expect, test } from 'vitest';
import {
  type AttentionShape,
  type ExpertsSaved,
  IGNORE_INDEX,
  type Kernels,
  newtonSchulzScratch,
  type Routing,
} from '../../core/kernels.ts';
import { Random } from '../../core/random.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';

/** Lengths of rounded arrays. */
const ROUNDED = [0, 1, 17, 131];

/** Values of all the sizes that a half holds, and smaller ones. */
function wideRange(draw: Draw, length: number): Float32Array {
  return draw.normal(length).map((value, i) => value * 2 ** ((i % 40) - 26));
}

type Arrays = readonly (FloatArray | Int32Array | Uint16Array)[];

/** A call of one kernel: makes its arguments, runs it, and gives the arrays it wrote (and its number, if any). */
type Case = (kernels: Kernels, draw: Draw) => Arrays;

/** Random arrays, the same for both sides. */
interface Draw {
  normal(length: number): Float32Array;
  /** Filled with values that must be overwritten or added to. */
  output(length: number): Float32Array;
}

function drawing(): Draw {
  const random = new Random(5, 'conformance');
  let step = 0;
  const normal = (length: number) => {
    const values = new Float32Array(length);
    random.fillNormal(values, 0, 1, step++);
    return values;
  };
  return { normal, output: normal };
}

const [N, E, K, C, F] = [7, 5, 2, 6, 3];
const M = N * K;

function routing(kernels: Kernels, draw: Draw) {
  const options = { numExperts: E, topK: K, renormalise: true };
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

function attentionCase(queries: number, starts: number[], window: number, backward: boolean): Case {
  return (kernels, draw) => {
    const [batch, heads, kvHeads, D] = [starts.length, 4, 2, 6];
    const width = (heads + 2 * kvHeads) * D;
    const capacity = Math.max(...starts) + queries;
    const shape: AttentionShape = {
      ...{ batch, queries, heads, kvHeads, headDim: D, scale: D ** -0.5, window },
      ...{ queryStride: width, keyStride: width, keyBatchStride: capacity * width },
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

function expertsCase(backward: boolean): Case {
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

const OFFSETS = Int32Array.of(0, 3, 3, 4, 9, 14);

/** Coefficients of Muon (Jordan et al. 2024), for two steps: more would enlarge differences of rounding. */
const NEWTON_SCHULZ = Float64Array.of(3.4445, -4.775, 2.0315, 3.4445, -4.775, 2.0315);

function newtonSchulzCase(rows: number, columns: number): Case {
  return (kernels, draw) => {
    const x = draw.normal(2 * rows * columns + 5);
    const batch = { offsets: Float64Array.of(3 + rows * columns, 1), rows, columns };
    kernels.newtonSchulz(x, batch, NEWTON_SCHULZ, draw.output(newtonSchulzScratch(rows, columns)));
    return [x];
  };
}

/** A matrix, or a vector where there is one column. */
function adafactorCase(rows: number, columns: number, relative: boolean): Case {
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
const CASES: Record<Exclude<keyof Kernels, 'gemm'>, readonly Case[]> = {
  linear: [false, true].map((accumulate) => (kernels, draw) => {
    const y = draw.output(N * F);
    kernels.linear(y, draw.normal(N * C), draw.normal(F * C), draw.normal(F), N, C, F, accumulate);
    return [y];
  }),
  linearBackward: [false, true].map((accumulate) => (kernels, draw) => {
    const [dx, dw, db] = [draw.output(N * C), draw.output(F * C), draw.output(F)];
    kernels.linearBackward(dx, dw, db, draw.normal(N * F), draw.normal(N * C), draw.normal(F * C), N, C, F, accumulate);
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
      const y = draw.output(3 * C);
      kernels.embedding(y, draw.normal(E * C), Int32Array.of(4, 0, 4), 3, C);
      return [y];
    },
  ],
  embeddingBackward: [
    (kernels, draw) => {
      const d = draw.output(E * C);
      kernels.embeddingBackward(d, draw.normal(3 * C), Int32Array.of(4, 0, 4), 3, C);
      return [d];
    },
  ],
  add: [
    (kernels, draw) => {
      const y = draw.output(N);
      kernels.add(y, draw.normal(N), N - 2);
      return [y];
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
  ],
  attentionBackward: [
    attentionCase(9, [0, 0], 0, true),
    attentionCase(70, [0], 0, true),
    attentionCase(9, [0], 4, true),
  ],
  router: [
    (kernels, draw) => {
      const { probabilities, made } = routing(kernels, draw);
      return [probabilities, made.weights, made.experts];
    },
  ],
  chooseExperts: [
    (kernels, draw) => {
      const { probabilities, made, options } = routing(kernels, draw);
      kernels.chooseExperts(made.weights, made.experts, probabilities, draw.normal(E), N, options);
      return [made.weights, made.experts];
    },
  ],
  roundToBf16: ROUNDED.map((length) => (kernels, draw) => {
    const out = draw.output(length);
    kernels.roundToBf16(out, wideRange(draw, length), length);
    return [out];
  }),
  roundToF16: ROUNDED.map((length) => (kernels, draw) => {
    const out = draw.output(length);
    kernels.roundToF16(out, wideRange(draw, length), length);
    return [out];
  }),
  zLoss: [true, false].map((hasGradient) => (kernels, draw) => {
    const d = draw.output(N * E);
    return [Float32Array.of(kernels.zLoss(hasGradient ? d : null, draw.normal(N * E), N, E, 0.3)), d];
  }),
  routerBackward: [
    (kernels, draw) => {
      const { probabilities, made, options } = routing(kernels, draw);
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
    },
  ],
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
      kernels.combineBackward(dx, dWeights, draw.normal(N * C), draw.normal(M * C), made.weights, made.slots, N, K, C);
      return [dx, dWeights];
    },
  ],
  experts: [expertsCase(false)],
  expertsBackward: [expertsCase(true)],
  crossEntropy: [
    (kernels, draw) => {
      const gradient = draw.output(3 * E);
      const targets = Int32Array.of(4, IGNORE_INDEX, 0);
      const loss = kernels.crossEntropy(gradient, draw.normal(3 * E), targets, 3, E, 0.5);
      return [gradient, Float32Array.of(loss)];
    },
  ],
  sumOfSquares: [0, 1, 5, 131].map((length) => (kernels, draw) => [
    Float32Array.of(kernels.sumOfSquares(draw.normal(length))),
  ]),
  adamw: [
    (kernels, draw) => {
      const [p, g, m] = [draw.normal(N), draw.normal(N), draw.normal(N)];
      const v = draw.normal(N).map(Math.abs);
      kernels.adamw(p, g, m, v, 2, 4, 0.1, 0.9, 0.99, 1e-8, 0.1, 3, 0.5);
      return [p, g, m, v];
    },
  ],
  sgd: [null, 1, 2].map((step) => (kernels, draw) => {
    const [p, g] = [draw.normal(N), draw.normal(N)];
    const velocity = step === null ? null : draw.normal(N);
    kernels.sgd(p, g, velocity, 2, 4, 0.1, 0.9, step === 2, 0.1, step ?? 1, 0.5);
    return velocity ? [p, g, velocity] : [p, g];
  }),
  adam: [false, true].map((amsgrad) => (kernels, draw) => {
    const [p, g, m] = [draw.normal(N), draw.normal(N), draw.normal(N)];
    const [v, vMax] = [draw.normal(N).map(Math.abs), draw.normal(N).map(Math.abs)];
    kernels.adam(p, g, m, v, amsgrad ? vMax : null, 2, 4, 0.1, 0.9, 0.99, 1e-8, 0.1, 3, 0.5);
    return [p, g, m, v, vMax];
  }),
  adafactor: [adafactorCase(3, 2, true), adafactorCase(3, 2, false), adafactorCase(4, 1, true)],
  scheduleFree: [
    (kernels, draw) => {
      const [p, g, z, x] = [draw.normal(N), draw.normal(N), draw.normal(N), draw.normal(N)];
      const v = draw.normal(N).map(Math.abs);
      kernels.scheduleFree(p, g, z, x, v, 2, 4, 0.1, 0.9, 0.99, 1e-8, 0.1, 0.3, 3, 0.5);
      return [p, g, z, x, v];
    },
  ],
  lion: [
    (kernels, draw) => {
      const [p, g, m] = [draw.normal(N), draw.normal(N), draw.normal(N)];
      kernels.lion(p, g, m, 2, 4, 0.1, 0.9, 0.99, 0.1, 0.5);
      return [p, g, m];
    },
  ],
  muonMomentum: [false, true].map((nesterov) => (kernels, draw) => {
    const [g, m] = [draw.normal(N), draw.normal(N)];
    kernels.muonMomentum(g, m, 2, 4, 0.95, nesterov, 0.5);
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
    const [p, g] = [draw.normal(N), draw.normal(N)];
    kernels.muonUpdate(p, g, 2, 4, 0.1, 0.02, cautious);
    return [p, g];
  }),
  // exact: compared as integers
  fillNormal: [0, 3, 2 ** 33 + 6].map((start) => (kernels) => {
    const values = new Float32Array(1031);
    kernels.fillNormal(values, new Random(2 ** 40 + 5, 'conformance'), 0.25, 2, 7, start);
    return [new Int32Array(values.buffer)];
  }),
  toBf16: [castTo('toBf16')],
  fromBf16: [castFrom('fromBf16')],
  toF16: [castTo('toF16')],
  fromF16: [castFrom('fromF16')],
};

function castTo(name: 'toBf16' | 'toF16'): Case {
  return (kernels, draw) => {
    const out = new Uint16Array(131);
    kernels[name](out, draw.normal(131));
    return [out];
  };
}

function castFrom(name: 'fromBf16' | 'fromF16'): Case {
  return (kernels) => {
    const out = new Float32Array(131);
    kernels[name](
      out,
      Uint16Array.from({ length: 131 }, (_, i) => i * 239),
    );
    return [out];
  };
}

/** Largest error over the largest value. */
const TOLERANCE = 1e-5;

function expectClose(found: Arrays[number], wanted: Arrays[number]): void {
  if (!(wanted instanceof Float32Array)) return void expect(found).toEqual(wanted);
  const largest = wanted.reduce((max, value) => Math.max(max, Math.abs(value)), 1e-30);
  for (let i = 0; i < wanted.length; i++) {
    const error = Math.abs(found[i] - wanted[i]) / largest;
    if (!(error <= TOLERANCE)) expect.fail(`element ${i} is ${found[i]}, not ${wanted[i]}`);
  }
}

/** Registers a comparison of every kernel of `create()` with those of `reference()`. */
export function describeKernels(name: string, create: () => Kernels, reference: () => Kernels): void {
  describe(`kernels of ${name}`, () => {
    const [ours, theirs] = [create(), reference()];
    const named = Object.entries(CASES).flatMap(([kernel, cases]) =>
      cases.map((one, i) => [cases.length > 1 ? `${kernel}, case ${i + 1}` : kernel, one] as const),
    );
    test.each(named)('%s', (_, one) => {
      const [found, wanted] = [one(ours, drawing()), one(theirs, drawing())];
      for (const [i, array] of wanted.entries()) expectClose(found[i], array);
    });
  });
}
