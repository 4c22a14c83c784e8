// Every optimizer on a store of all roles: against its equations written a second time, at corners that can be worked out by
// hand, its groups, its state.

import { describe, expect, test } from 'vitest';
import { GemmoeError } from '../core/errors.ts';
import { matricesOf } from '../core/model/matrices.ts';
import { type Parameter, ParameterStore } from '../core/model/parameters.ts';
import { PRESETS } from '../core/model/presets.ts';
import { Transformer } from '../core/model/transformer.ts';
import type { FloatArray } from '../core/tensor/dtype.ts';
import { parameterRuns } from '../core/training/parameter-groups.ts';
import { adamw as adamwPlugin } from '../plugins/optimizers/adamw.ts';
import { coefficientsOf } from '../plugins/optimizers/muon-coefficients.ts';
import { referenceKernels } from './support/kernels.ts';
import * as equations from './support/optimizer-equations.ts';
import type { Update } from './support/optimizer-equations.ts';
import {
  decaysByDefault,
  gradientAt,
  makeOptimizer,
  makeStore,
  optimizers,
  rateAt,
  takeSteps,
} from './support/optimizers.ts';

const NAMES = optimizers.names();
const STEPS = 5;

/** Weights after STEPS steps, each parameter, or each of its matrices where `split` says so, by an equation of its own. */
function byEquation(split: boolean, equationFor: (parameter: Parameter, rows: number, columns: number) => Update) {
  const store = makeStore();
  const pieces = store.parameters.flatMap((parameter) => {
    const { offset, data } = parameter;
    const matrices = split ? matricesOf(parameter) : [];
    if (matrices.length === 0) return [{ offset, count: data.length, update: equationFor(parameter, data.length, 0) }];
    return matrices.flatMap(({ offset: first, count, rows, columns }) =>
      Array.from({ length: count }, (_, i) => ({
        ...{ offset: first + i * rows * columns, count: rows * columns },
        update: equationFor(parameter, rows, columns),
      })),
    );
  });
  for (let t = 1; t <= STEPS; t++) {
    const gradient = Float64Array.from(store.data, (p, i) => gradientAt(i, p, t));
    for (const { offset, count, update } of pieces) {
      const [p, g] = [store.data, gradient].map((array) => array.subarray(offset, offset + count) as Float64Array);
      update(p, g, t, rateAt(t));
    }
  }
  return store.data;
}

const decay = (parameter: Parameter, value: number) => (decaysByDefault(parameter) ? value : 0);
const isMuon = ({ role }: Parameter) => role === 'attention' || role === 'expert';
const JORDAN = coefficientsOf('jordan', 5);
const muonEquation = {
  ...{ coefficients: JORDAN, size: 1, nesterov: true, cautious: false, beta2: 0, momentumAt: () => 0.95 },
};
const original = (rows: number, columns: number) => Math.sqrt(Math.max(1, rows / columns));

/** Muon's equation for its matrices, AdamW's for the rest. */
function muonOrAdamw(changes: (rows: number, columns: number) => Partial<equations.MuonEquation>, adamRate = 0.15) {
  return byEquation(true, (parameter, rows, columns) => {
    if (isMuon(parameter)) {
      const equation = { ...muonEquation, size: original(rows, columns), decay: 0.1, ...changes(rows, columns) };
      return equations.muon(rows, columns, equation);
    }
    const update = equations.adamw(0.9, 0.95, 1e-8, decay(parameter, 0.1));
    return (p, g, t, rate) => update(p, g, t, rate * adamRate);
  });
}

describe('follows its equations', () => {
  const cases: [string, () => ArrayLike<number>][] = [
    ['adamw', () => byEquation(false, (p) => equations.adamw(0.9, 0.95, 1e-8, decay(p, 0.1)))],
    [
      'adamw:beta1=0.8,beta2=0.9,eps=1e-3,weightDecay=0.3,decay=all',
      () => byEquation(false, () => equations.adamw(0.8, 0.9, 1e-3, 0.3)),
    ],
    ['adam', () => byEquation(false, () => equations.adam(0.9, 0.999, 1e-8, 0, false))],
    [
      'adam:weightDecay=0.3,beta2=0.5,amsgrad=true',
      () => byEquation(false, (p) => equations.adam(0.9, 0.5, 1e-8, decay(p, 0.3), true)),
    ],
    ['sgd', () => byEquation(false, () => equations.sgd(0, 0, false, 0))],
    ['sgd:momentum=0.9,weightDecay=0.2', () => byEquation(false, (p) => equations.sgd(0.9, 0, false, decay(p, 0.2)))],
    ['sgd:momentum=0.9,nesterov=true', () => byEquation(false, () => equations.sgd(0.9, 0, true, 0))],
    [
      'sgd:momentum=0.9,dampening=0.3,weightDecay=0.2',
      () => byEquation(false, (p) => equations.sgd(0.9, 0.3, false, decay(p, 0.2))),
    ],
    ['lion', () => byEquation(false, (p) => equations.lion(0.9, 0.99, decay(p, 0.5)))],
    ['adafactor', () => byEquation(true, (_, __, columns) => equations.adafactor(columns, 0, 1, true))],
    [
      'adafactor:relative=false,weightDecay=0.2,clip=0.5',
      () => byEquation(true, (p, _, columns) => equations.adafactor(columns, decay(p, 0.2), 0.5, false)),
    ],
    ['muon', () => muonOrAdamw(() => ({}))],
    [
      'muon:scale=match-rms,coefficients=polar-express,momentum=0.9,nesterov=false',
      () =>
        muonOrAdamw(
          (rows, columns) => ({
            ...{ coefficients: coefficientsOf('polar-express', 5), nesterov: false, momentumAt: () => 0.9 },
            size: 0.2 * Math.sqrt(Math.max(rows, columns)),
          }),
          1,
        ),
    ],
    ['muon:beta2=0.9,cautious=true', () => muonOrAdamw(() => ({ beta2: 0.9, cautious: true }))],
    [
      'muon:momentumWarmup=4,iterations=3',
      () =>
        muonOrAdamw(() => ({
          coefficients: coefficientsOf('jordan', 3),
          momentumAt: (t) => [0.85, 0.875, 0.9, 0.925, 0.95][t - 1],
        })),
    ],
    ['schedule-free', () => byEquation(false, () => equations.scheduleFree(0.9, 0.95, 1e-8, 0, 0).update)],
    [
      'schedule-free:weightDecay=0.2,power=1',
      () => byEquation(false, (p) => equations.scheduleFree(0.9, 0.95, 1e-8, decay(p, 0.2), 1).update),
    ],
  ];

  test.each(cases)('%s', (spec, expected) => {
    const store = makeStore();
    takeSteps(store, makeOptimizer(spec, store), STEPS);
    const wanted = expected();
    store.data.forEach((value, i) => expect(value, `element ${i}`).toBeCloseTo(wanted[i], 9));
    expect(store.gradient.every((value) => value === 0)).toBe(true);
  });

  test('there is a case for every optimizer', () => {
    expect(new Set(cases.map(([spec]) => spec.split(':')[0]))).toEqual(new Set(NAMES));
  });
});

describe('one step by hand', () => {
  /** A head [2,2] of (1, 2, 3, 4), or an attention matrix for Muon, after one step of rate 0.1 with gradients (3, 0, 0, 4). */
  function oneStep(spec: string, role: 'head' | 'attention' = 'head'): number[] {
    const store = new ParameterStore('f64');
    store.declare('w', role, [2, 2]);
    store.data.set([1, 2, 3, 4]);
    store.ensureGradients();
    store.gradient.set([3, 0, 0, 4]);
    makeOptimizer(spec, store).step({ step: 1, learningRate: 0.1, gradientScale: 1 });
    return [...store.data];
  }

  test.each<[string, number[]]>([
    // m̂/√v̂ is the sign of the gradient
    ['adamw:weightDecay=0', [0.9, 2, 3, 3.9]],
    ['adamw:weightDecay=0.5', [0.85, 1.9, 2.85, 3.7]],
    ['adam', [0.9, 2, 3, 3.9]],
    // gradients (4, 2, 3, 8): all signs +
    ['adam:weightDecay=1', [0.9, 1.9, 2.9, 3.9]],
    ['sgd', [0.7, 2, 3, 3.6]],
    ['sgd:momentum=0.5,nesterov=true', [1 - 0.45, 2, 3, 4 - 0.6]],
    ['sgd:weightDecay=1', [0.6, 1.8, 2.7, 3.2]],
    ['lion:weightDecay=0', [0.9, 2, 3, 3.9]],
    ['lion:weightDecay=1', [0.8, 1.8, 2.7, 3.5]],
    // R = (4.5, 8) = C, mean 6.25: V̂ = (3.24, ·, ·, 10.24), U = (3/1.8, 0, 0, 4/3.2), RMS(U) = √(4.3402777/4) > 1
    ['adafactor:relative=false', [1 - (0.1 * (5 / 3)) / 1.0416667, 2, 3, 4 - (0.1 * 1.25) / 1.0416667]],
    // the same, times RMS(1, 2, 3, 4) = √7.5
    [
      'adafactor',
      [1 - (0.1 * Math.sqrt(7.5) * (5 / 3)) / 1.0416667, 2, 3, 4 - (0.1 * Math.sqrt(7.5) * 1.25) / 1.0416667],
    ],
    ['schedule-free', [0.9, 2, 3, 3.9]],
    // the decay is taken at y
    ['schedule-free:weightDecay=1', [0.8, 1.8, 2.7, 3.5]],
  ])('%s', (spec, expected) => {
    oneStep(spec).forEach((value, i) => expect(value).toBeCloseTo(expected[i], 6));
  });

  test('muon: a diagonal stays one, and its entries take the polynomial', () => {
    // direction ∝ (3, 4)/5 = (0.6, 0.8), one Newton–Schulz step
    const p = (s: number) => 3.4445 * s - 4.775 * s ** 3 + 2.0315 * s ** 5;
    const found = oneStep('muon:iterations=1,weightDecay=0', 'attention');
    [1 - 0.1 * p(0.6), 2, 3, 4 - 0.1 * p(0.8)].forEach((value, i) => expect(found[i]).toBeCloseTo(value, 6));
    const decayed = oneStep('muon:iterations=1,weightDecay=0.5,scale=match-rms', 'attention');
    const size = 0.1 * 0.2 * Math.SQRT2;
    [0.95 - size * p(0.6), 1.9, 2.85, 3.8 - size * p(0.8)].forEach((value, i) =>
      expect(decayed[i]).toBeCloseTo(value, 6),
    );
  });

  test('adafactor: a relative rate is at most 1/√t', () => {
    const weightsAfter = (learningRate: number) => {
      const store = makeStore();
      store.gradient.fill(1);
      makeOptimizer('adafactor', store).step({ step: 4, learningRate, gradientScale: 1 });
      return store.data;
    };
    expect(weightsAfter(5)).toEqual(weightsAfter(0.5));
    expect(weightsAfter(0.4)).not.toEqual(weightsAfter(0.5));
  });

  test('muon: Polar Express begins a little below one, and repeats its last polynomial', () => {
    const [a, b, c] = coefficientsOf('polar-express', 1);
    const at = (s: number) => a * s + b * s ** 3 + c * s ** 5;
    const s = 1 / 1.02;
    expect(at(1)).toBeCloseTo(8.156554524902461 * s - 22.48329292557795 * s ** 3 + 15.878769915207462 * s ** 5, 12);
    const seven = coefficientsOf('polar-express', 7);
    expect([...seven.subarray(18)]).toEqual([...seven.subarray(12, 15)]);
    expect(seven[18]).toBe(2.3465413258596377);
  });

  test.each(['jordan', 'polar-express'] as const)('muon: %s brings singular values near one', (scheme) => {
    const coefficients = coefficientsOf(scheme, 5);
    for (const s of [0.02, 0.1, 0.3, 0.7, 1]) {
      let value = s;
      for (let i = 0; i < 15; i += 3) {
        const [a, b, c] = coefficients.subarray(i, i + 3);
        value = a * value + b * value ** 3 + c * value ** 5;
      }
      expect(Math.abs(value - 1)).toBeLessThan(0.35);
    }
  });
});

describe.each(NAMES)('%s', (name) => {
  const withDecay = (value: number, more = '') => `${name}:weightDecay=${value}${more}`;

  test('without gradient and decay stands still', () => {
    const store = makeStore();
    const before = store.data.slice();
    const optimizer = makeOptimizer(withDecay(0), store);
    for (let step = 1; step <= 3; step++) optimizer.step({ step, learningRate: 0.1, gradientScale: 1 });
    store.data.forEach((value, i) => expect(value).toBeCloseTo(before[i], 14));
  });

  test('decays matrices only, or everything', () => {
    for (const [spec, decays] of [
      [withDecay(0.3), decaysByDefault],
      [withDecay(0.3, ',decay=all'), () => true],
    ] as const) {
      const store = makeStore();
      const before = store.data.slice();
      makeOptimizer(spec, store).step({ step: 1, learningRate: 0.1, gradientScale: 1 });
      for (const parameter of store.parameters) {
        const moved = parameter.data.some((value, i) => value !== before[parameter.offset + i]);
        expect(moved, parameter.name).toBe(decays(parameter));
      }
      // coupled decay goes through the moments instead
      if (name === 'adam') continue;
      const adamRate = name === 'muon' ? 0.15 : 1;
      const head = store.get('head');
      head.data.forEach((value, i) => expect(value / before[head.offset + i]).toBeCloseTo(1 - 0.03 * adamRate, 12));
    }
  });

  test('scales the gradient as it is told', () => {
    const [whole, half] = [makeStore(), makeStore()];
    const [a, b] = [makeOptimizer(name, whole), makeOptimizer(name, half)];
    for (let step = 1; step <= 3; step++) {
      whole.data.forEach((p, i) => (whole.gradient[i] = gradientAt(i, p, step)));
      half.data.forEach((p, i) => (half.gradient[i] = 4 * gradientAt(i, p, step)));
      a.step({ step, learningRate: 0.01, gradientScale: 1 });
      b.step({ step, learningRate: 0.01, gradientScale: 0.25 });
    }
    expect(half.data).toEqual(whole.data);
  });

  test.each(['f32', 'f64'] as const)('goes on to the same bits from its state, in %s', (dtype) => {
    const store = makeStore(dtype);
    const optimizer = makeOptimizer(name, store);
    takeSteps(store, optimizer, 4);
    optimizer.training?.(false);
    const saved = {
      weights: store.data.slice(),
      tensors: new Map([...optimizer.state()].map(([key, { data }]) => [key, data.slice()])),
      scalars: optimizer.scalars?.() ?? {},
    };
    optimizer.training?.(true);
    takeSteps(store, optimizer, 8, 5);

    const [again, fresh] = [makeStore(dtype), optimizers];
    expect(fresh.has(name)).toBe(true);
    again.data.set(saved.weights);
    const restored = makeOptimizer(name, again);
    const state = restored.state();
    expect([...state.keys()]).toEqual([...saved.tensors.keys()]);
    for (const [key, { shape, data }] of state) {
      expect(shape.reduce((product, side) => product * side, 1)).toBe(data.length);
      data.set(saved.tensors.get(key) ?? []);
    }
    restored.restoreScalars?.(JSON.parse(JSON.stringify(saved.scalars)) as Record<string, number>);
    restored.training?.(true);
    takeSteps(again, restored, 8, 5);
    expect(again.data).toEqual(store.data);
  });

  test('all of its state matters: without any of it the bits differ', () => {
    const store = makeStore();
    const optimizer = makeOptimizer(name, store);
    takeSteps(store, optimizer, 4);
    const weights = store.data.slice();
    const kept = new Map([...optimizer.state()].map(([key, { data }]) => [key, data.slice()]));
    for (const key of kept.keys()) {
      const again = makeStore();
      again.data.set(weights);
      const other = makeOptimizer(name, again);
      for (const [tensor, { data }] of other.state()) if (tensor !== key) data.set(kept.get(tensor) ?? []);
      other.restoreScalars?.(optimizer.scalars?.() ?? {});
      takeSteps(again, other, 5, 5);
      const truth = makeStore();
      const whole = makeOptimizer(name, truth);
      takeSteps(truth, whole, 5);
      expect(again.data, `without ${key}`).not.toEqual(truth.data);
    }
  });

  test('weights change places for evaluation and come back to the bit', () => {
    const store = makeStore('f32');
    const optimizer = makeOptimizer(name, store);
    const first = store.data.slice();
    optimizer.training?.(false);
    expect(store.data).toEqual(first);
    optimizer.training?.(true);
    takeSteps(store, optimizer, 3);
    const trained = store.data.slice();
    optimizer.training?.(false);
    expect(store.data.every(Number.isFinite)).toBe(true);
    optimizer.training?.(true);
    expect(store.data).toEqual(trained);
  });

  test.each(['weightDecay=-1', 'weightDecay=NaN', 'weightDecay=Infinity', 'decay=some', 'nonsense=1', 'rate=1'])(
    '%s is refused by name',
    (options) => {
      expect(() => makeOptimizer(`${name}:${options}`, makeStore())).toThrow(GemmoeError);
      expect(() => makeOptimizer(`${name}:${options}`, makeStore())).toThrow(name);
    },
  );
});

test('schedule-free evaluates the average of its steps', () => {
  const store = makeStore();
  const optimizer = makeOptimizer('schedule-free', store);
  takeSteps(store, optimizer, STEPS);
  const other = makeStore();
  const { update, average } = equations.scheduleFree(0.9, 0.95, 1e-8, 0, 0);
  for (let t = 1; t <= STEPS; t++) {
    const gradient = Float64Array.from(other.data, (p, i) => gradientAt(i, p, t));
    update(other.data as Float64Array, gradient, t, rateAt(t));
  }
  optimizer.training?.(false);
  average(other.data as Float64Array).forEach((value, i) => expect(store.data[i]).toBeCloseTo(value, 10));
});

describe('momentum that a schedule wants', () => {
  test.each(['adamw', 'adam', 'sgd', 'lion', 'muon'])('takes the place of that of %s', (name) => {
    const option = name === 'sgd' || name === 'muon' ? 'momentum' : 'beta1';
    const adam = name === 'muon' ? ',adamBeta1=0.7' : '';
    const run = (spec: string, momentum: number | undefined) => {
      const store = makeStore();
      const optimizer = makeOptimizer(spec, store);
      for (let step = 1; step <= 3; step++) {
        store.data.forEach((p, i) => (store.gradient[i] = gradientAt(i, p, step)));
        optimizer.step({ step, learningRate: 0.01, gradientScale: 1, momentum });
      }
      return store.data;
    };
    const told = run(`${name}:${option}=0.6`, 0.7);
    expect(told).toEqual(run(`${name}:${option}=0.7${adam}`, undefined));
    expect(told).not.toEqual(run(`${name}:${option}=0.6`, undefined));
  });
});

describe('muon', () => {
  test.each([
    ['linear', [1, 0.75, 0.5, 0.25]],
    ['cosine', [1, 0.5 + Math.SQRT1_2 / 2, 0.5, 0.5 - Math.SQRT1_2 / 2]],
  ])('a decay that falls: %s', (decaySchedule, shares) => {
    const store = makeStore();
    const optimizer = makeOptimizer(`muon:weightDecay=0.5,decaySchedule=${decaySchedule}`, store, 4);
    for (const [i, share] of shares.entries()) {
      const before = store.data.slice();
      optimizer.step({ step: i + 1, learningRate: 0.1, gradientScale: 1 });
      for (const [name, rate] of [
        ['layers.0.experts.down', 0.1],
        ['head', 0.015],
      ] as const) {
        const { offset, data } = store.get(name);
        expect(data[1] / before[offset + 1]).toBeCloseTo(1 - rate * 0.5 * share, 12);
      }
    }
  });

  test('every=2: matrices take turns, with steps of twice the length, and momentum goes on', () => {
    const shape = { vocabSize: 8, hiddenSize: 16, numHeads: 2, numKvHeads: 1, headDim: 8, expertWidth: 12 };
    const config = { ...PRESETS['tiny'].config, ...shape };
    const model = new Transformer(config, referenceKernels(), { dtype: 'f64' });
    model.initialise(3);
    const store = model.parameters;
    // what is updated at once: queries, keys, values, all gates of a layer, …
    const pieces = store.parameters.flatMap((parameter) => {
      const whole = [{ offset: parameter.offset, count: parameter.data.length }];
      const matrices = matricesOf(parameter).map(({ offset, count, rows, columns }) => ({
        ...{ offset, count: count * rows * columns },
      }));
      return (isMuon(parameter) ? matrices : whole).map((piece) => ({ ...piece, isMuon: isMuon(parameter) }));
    });
    store.ensureGradients();
    const turns = makeOptimizer('muon:every=2,weightDecay=0.1', store);
    const moved = pieces.map(() => [] as number[]);
    for (let step = 1; step <= 4; step++) {
      // what a step of every matrix would do, from the same weights and moments
      const other = new Transformer(model.config, referenceKernels(), { dtype: 'f64' }).parameters;
      other.data.set(store.data);
      other.ensureGradients();
      const usual = makeOptimizer('muon:weightDecay=0.1', other);
      for (const [name, { data }] of turns.state()) usual.state().get(name)?.data.set(data);
      const before = store.data.slice();
      for (const { gradient } of [store, other]) gradient.forEach((_, i) => (gradient[i] = gradientAt(i, 0, step)));
      for (const optimizer of [turns, usual]) optimizer.step({ step, learningRate: 0.01, gradientScale: 1 });
      pieces.forEach(({ offset, count, isMuon: isMatrix }, piece) => {
        const difference = (data: FloatArray) =>
          Array.from(data.subarray(offset, offset + count), (value, i) => value - before[offset + i]);
        const [ours, theirs] = [difference(store.data), difference(other.data)];
        const factor = ours.every((value) => value === 0) ? 0 : isMatrix ? 2 : 1;
        if (factor > 0) moved[piece].push(step);
        const worst = ours.reduce((largest, value, i) => Math.max(largest, Math.abs(value - factor * theirs[i])), 0);
        expect(worst).toBeLessThan(1e-12);
      });
      expect(store.gradient.every((value) => value === 0)).toBe(true);
      for (const [name, { data }] of usual.state()) expect(turns.state().get(name)?.data).toEqual(data);
    }
    pieces.forEach((piece, i) => expect(piece.isMuon ? ['1,3', '2,4'] : ['1,2,3,4']).toContain(moved[i].join()));
    for (const turn of ['1,3', '2,4']) expect(moved.map((steps) => steps.join())).toContain(turn);
  });

  test('a decay that falls needs to know how far', () => {
    expect(() => makeOptimizer('muon:decaySchedule=linear', makeStore())).toThrow(/length of the run/);
  });

  test('its state is one moment for matrices, two for the rest', () => {
    const store = makeStore();
    const state = makeOptimizer('muon', store).state();
    const rest = store.parameters.filter((p) => !isMuon(p)).reduce((sum, { data }) => sum + data.length, 0);
    expect(state.get('m')?.shape).toEqual([store.total]);
    expect(state.get('v')?.shape).toEqual([rest]);
    expect([...makeOptimizer('muon:beta2=0.9', store).state().keys()].some((key) => key.startsWith('rows.'))).toBe(
      true,
    );
  });

  test('groups say who updates what', () => {
    const store = makeStore();
    const spec = 'muon:weightDecay=0,groups=head(by=muon);attention(by=adamw rate=2)';
    takeSteps(store, makeOptimizer(spec, store), STEPS);
    const wanted = byEquation(true, (parameter, rows, columns) => {
      if (parameter.role === 'head' || parameter.role === 'expert') {
        return equations.muon(rows, columns, { ...muonEquation, size: original(rows, columns), decay: 0 });
      }
      const update = equations.adamw(0.9, 0.95, 1e-8, 0);
      const rate = parameter.role === 'attention' ? 0.3 : 0.15;
      return (p, g, t, learningRate) => update(p, g, t, learningRate * rate);
    });
    store.data.forEach((value, i) => expect(value).toBeCloseTo(wanted[i], 9));
  });

  test('what is no matrix is refused', () => {
    expect(() => makeOptimizer('muon:groups=norm(by=muon)', makeStore())).toThrow(
      /layers\.0\.attention_norm \[3\] is a norm of one row/,
    );
  });
});

describe('parameter groups', () => {
  const moved = (spec: string) => {
    const store = makeStore();
    const before = store.data.slice();
    store.gradient.fill(1);
    makeOptimizer(spec, store).step({ step: 1, learningRate: 0.1, gradientScale: 1 });
    return Object.fromEntries(
      store.parameters.map(({ name, offset, data }) => [name, Number((before[offset] - data[0]).toFixed(6))]),
    );
  };

  test('scale the rate, freeze, and the first that matches wins', () => {
    const found = moved('sgd:groups=layers.0.experts.*(rate=0);layers.*(rate=0.5);head|bias(rate=2);head(rate=9)');
    expect(found).toEqual({
      embedding: 0.1,
      'layers.0.attention_norm': 0.05,
      'layers.0.attention.qkv': 0.05,
      'layers.0.attention.output': 0.05,
      'layers.0.router': 0.05,
      'layers.0.experts.gate_up': 0,
      'layers.0.experts.down': 0,
      head: 0.2,
      head_bias: 0.2,
    });
  });

  test('set the optimizer’s own options, and a decay where the role would have none', () => {
    const store = makeStore();
    const spec = 'adamw:weightDecay=0.1,groups=embedding(weightDecay=0.5 beta1=0.5);head(weightDecay=0 eps=1)';
    takeSteps(store, makeOptimizer(spec, store), STEPS);
    const wanted = byEquation(false, (parameter) => {
      if (parameter.role === 'embedding') return equations.adamw(0.5, 0.95, 1e-8, 0.5);
      if (parameter.role === 'head') return equations.adamw(0.9, 0.95, 1, 0);
      return equations.adamw(0.9, 0.95, 1e-8, decay(parameter, 0.1));
    });
    store.data.forEach((value, i) => expect(value).toBeCloseTo(wanted[i], 9));
  });

  test('may be given as data', () => {
    const groups = [{ match: 'embedding', set: { rate: 0 } }];
    const store = makeStore();
    const settings = adamwPlugin.options?.parse({ groups }) as never;
    const runs = parameterRuns({ name: 'adamw', options: adamwPlugin.options! }, settings, [], store);
    expect(runs[0]).toEqual({ offset: 0, count: 15, settings: { rate: 0, weightDecay: 0 } });
  });

  test('neighbours with equal settings are one run', () => {
    const store = makeStore();
    const options = adamwPlugin.options!;
    const settings = options.parse({ weightDecay: 0.1 }) as never;
    const runs = parameterRuns({ name: 'adamw', options }, settings, [], store);
    const decays = runs.map(({ count, settings: { weightDecay } }) => [count, weightDecay]);
    expect(decays).toEqual([
      [18, 0],
      [24 + 12 + 6 + 48 + 24 + 15, 0.1],
      [5, 0],
    ]);
  });

  test.each([
    ['embedding', /"embedding" is no parameter group/],
    ['embedding()', /"embedding\(\)" is no parameter group/],
    ['embedding(rate)', /is no parameter group/],
    ['embedding(rate=1 rate=2)', /is no parameter group/],
    ['(rate=1)', /is no parameter group/],
    ['embedding(rate=1', /is no parameter group/],
    ['embeding(rate=1)', /group embeding matches no parameter/],
    ['layers.1.*(rate=1)', /group layers\.1\.\* matches no parameter/],
    ['embedding(rate=-1)', /adamw: group embedding: rate/],
    ['embedding(rate=NaN)', /adamw: group embedding: rate/],
    ['embedding(weightDecay=-1)', /adamw: group embedding: weightDecay/],
    ['embedding(bate1=0.5)', /adamw: group embedding has no option "bate1"/],
    ['embedding(momentum=0.5)', /adamw: group embedding has no option "momentum"/],
    ['embedding(decay=all)', /adamw: group embedding has no option "decay"/],
  ])('%s is refused', (groups, message) => {
    expect(() => makeOptimizer(`adamw:groups=${groups}`, makeStore())).toThrow(message);
  });
});

describe('what does not go together is refused', () => {
  test.each([
    ['sgd:nesterov=true', /sgd: nesterov=true and dampening=0 do not go with momentum=0/],
    ['sgd:dampening=0.1', /dampening=0.1 do not go with momentum=0/],
    ['sgd:momentum=0.9,nesterov=true,dampening=0.1', /do not go with/],
    ['sgd:beta1=0.9', /sgd has no option "beta1"/],
    ['adamw:momentum=0.9', /adamw has no option "momentum"/],
    ['lion:eps=1e-8', /lion has no option "eps"/],
    ['muon:iterations=0', /muon: iterations/],
    ['muon:adamRate=-1', /muon: adamRate/],
    ['schedule-free:beta1=0', /schedule-free: beta1/],
    ['adafactor:clip=0', /adafactor: clip/],
  ])('%s', (spec, message) => expect(() => makeOptimizer(spec, makeStore())).toThrow(message));
});

test('a model says which matrices are packed together', () => {
  const { config } = PRESETS['tiny']; // C 64, four heads of 16 on one kv head, four experts of width 256
  const { parameters } = new Transformer(config, referenceKernels());
  const shapesOf = (name: string) =>
    matricesOf(parameters.get(name)).map(({ count, rows, columns }) => [count, rows, columns]);
  expect(shapesOf('layers.0.attention.qkv')).toEqual([
    [1, 64, 64],
    [2, 16, 64],
  ]);
  const experts = parameters.parameters.filter(({ name }) => /^layers\.0\..*(gate_up|down)$/.test(name));
  expect(experts.map(({ name }) => shapesOf(name))).toEqual([[[8, 256, 64]], [[4, 64, 256]]]);
});

describe('matrices of a parameter', () => {
  const store = new ParameterStore('f32');
  test.each<[string, number[], number[] | undefined, ReturnType<typeof matricesOf>]>([
    ['a vector', [5], undefined, []],
    ['a matrix', [2, 3], undefined, [{ offset: 5, count: 1, rows: 2, columns: 3 }]],
    [
      'queries, keys, values',
      [8, 3],
      [4, 2, 2],
      [
        { offset: 11, count: 1, rows: 4, columns: 3 },
        { offset: 23, count: 2, rows: 2, columns: 3 },
      ],
    ],
    ['gate and up of experts', [3, 4, 2], [2, 2], [{ offset: 35, count: 6, rows: 2, columns: 2 }]],
    ['experts', [2, 3, 1], undefined, [{ offset: 59, count: 2, rows: 3, columns: 1 }]],
  ])('%s', (name, shape, parts, expected) => {
    expect(matricesOf(store.declare(name, 'expert', shape, parts))).toEqual(expected);
  });
});
