// The model against what Hugging Face transformers computes on the same weights.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseOptions } from '../core/config.ts';
import { loadModel, tensorsOf } from '../core/formats/hugging-face.ts';
import { openSafetensors } from '../core/formats/safetensors.ts';
import { IGNORE_INDEX, bindKernels } from '../core/kernels.ts';
import { KvCache } from '../core/model/kv-cache.ts';
import type { Transformer } from '../core/model/transformer.ts';
import { Trainer } from '../core/training/trainer.ts';
import { adamw } from '../plugins/optimizers/adamw.ts';
import { warmupCosine } from '../plugins/schedulers/warmup-cosine.ts';
import { batchOf, type Expected, FIXTURES, readJson } from './support/golden.ts';
import { backendNamed, USABLE_BACKENDS } from './support/kernels.ts';

const HF = join(FIXTURES, 'hf');

const FAMILIES_HERE = [
  ...['llama', 'llama3', 'llama_linear', 'llama_yarn', 'mistral', 'qwen2', 'qwen3'],
  ...['mixtral', 'mixtral_mqa', 'olmoe', 'olmoe_clip', 'qwen3_moe', 'qwen2_moe', 'granitemoe', 'granitemoeshared'],
];

describe.each(USABLE_BACKENDS)('on %s', (backend) => {
  const kernels = bindKernels(backendNamed(backend));

  describe.each(FAMILIES_HERE)('%s', (family) => {
    const expected = readJson<Expected>(HF, family, 'expected.json');
    const { model } = loadModel(join(HF, family), kernels);
    const [B, T, V] = expected.shape;
    const { ids, targets } = batchOf(expected.ids, IGNORE_INDEX);

    test('logits equal transformers within 2e-5', () => {
      const logits = model.forward(ids, B, T);
      expect(logits.length).toBe(B * T * V);
      expect(largestDifference(logits, expected.logits)).toBeLessThan(2e-5);
    });

    test('loss and auxiliary loss equal', () => {
      const { lossSum, tokens, auxLoss } = model.evaluate(ids, targets, B, T);
      if (model.config.numExperts === 1) expect(auxLoss).toBeNull();
      else if (expected.aux !== null) expect(auxLoss).toBeCloseTo(expected.aux, 5);
      // transformers adds the auxiliary loss where it gives one
      const added = expected.aux === null ? 0 : model.config.auxLossCoefficient * (auxLoss ?? 0);
      const loss = lossSum / tokens + added;
      expect(loss).toBeCloseTo(expected.loss, 5);
    });

    test('greedy continuation equal, with a cache', () => {
      expect(greedy(model, expected.ids[0].slice(0, 8), expected.greedy.length)).toEqual(expected.greedy);
    });

    test('prefill and cached decoding give the logits of the full forward pass', () => {
      const full = Float64Array.from(model.forward(ids, B, T));
      const cache = new KvCache(model.config, B, T);
      const prefix = Math.floor(T / 3);
      for (let at = 0; at < T; at += at === 0 ? prefix : 1) {
        const length = at === 0 ? prefix : 1;
        const part = Int32Array.from(expected.ids.flatMap((row) => row.slice(at, at + length)));
        const logits = model.forward(part, B, length, { cache });
        for (let b = 0; b < B; b++) {
          const rows = logits.subarray(b * length * V, (b + 1) * length * V);
          const wanted = full.subarray((b * T + at) * V, (b * T + at + length) * V);
          expect(largestDifference(rows, wanted)).toBeLessThan(2e-5);
        }
      }
    });
  });

  test('trains as PyTorch does: gradients, losses, norms, rates, weights', () => {
    const directory = join(HF, 'train_mixtral');
    const expected = readJson<TrainingExpectation>(directory, 'expected.json');
    const { hyperparameters: h } = expected;
    const { model } = loadModel(directory, kernels);
    expect(model.config.auxLossCoefficient).toBe(h.aux_coef);
    const optimizer = adamw.create(
      parseOptions(adamw, { beta1: h.beta1, beta2: h.beta2, eps: h.eps, weightDecay: h.weight_decay, decay: 'all' }),
      { store: model.parameters, kernels },
    );
    const schedule = warmupCosine.create(
      parseOptions(warmupCosine, { warmupSteps: h.warmup_steps, floor: h.min_lr_ratio }),
      { learningRate: h.peak_lr, totalSteps: h.total_steps },
    );
    const trainer = new Trainer(model, optimizer, schedule, { clipNorm: h.clip_norm });

    const first = batchOf(expected.steps[0].ids, IGNORE_INDEX);
    model.forwardBackward(first.ids, first.targets, 2, first.ids.length / 2);
    const wanted = openSafetensors(join(directory, 'gradients_step1.safetensors'));
    const gradients = new Map(tensorsOf(model, 'gradient').map((tensor) => [tensor.name, tensor.data]));
    expect([...gradients.keys()].sort()).toEqual([...wanted.tensors.keys()].sort());
    for (const [name, { shape }] of wanted.tensors) {
      const truth = new Float32Array(shape.reduce((a, b) => a * b, 1));
      wanted.read(name, truth);
      expect(relativeError(gradients.get(name)!, truth), name).toBeLessThan(1e-5);
    }
    model.parameters.gradient.fill(0);

    for (const step of expected.steps) {
      const { ids, targets } = batchOf(step.ids, IGNORE_INDEX);
      const done = trainer.step(ids, targets, 2, ids.length / 2);
      expect(Math.abs(done.learningRate - step.lr)).toBeLessThan(1e-9);
      expect(Math.abs(done.auxLoss! - step.aux)).toBeLessThan(1e-4);
      expect(Math.abs(done.loss + h.aux_coef * done.auxLoss! - step.loss)).toBeLessThan(1e-4);
      expect(Math.abs(done.gradientNorm / step.grad_norm - 1)).toBeLessThan(1e-4);
    }
    const after = loadModel(join(directory, 'after'), kernels).model;
    for (const [i, { name, data }] of model.parameters.parameters.entries()) {
      expect(largestDifference(data, after.parameters.parameters[i].data), name).toBeLessThan(1e-4);
    }
  });
});

interface TrainingExpectation {
  readonly hyperparameters: {
    peak_lr: number;
    min_lr_ratio: number;
    warmup_steps: number;
    total_steps: number;
    beta1: number;
    beta2: number;
    eps: number;
    weight_decay: number;
    clip_norm: number;
    aux_coef: number;
  };
  readonly steps: { ids: number[][]; lr: number; loss: number; aux: number; grad_norm: number }[];
}

function greedy(model: Transformer, prompt: number[], count: number): number[] {
  const cache = new KvCache(model.config, 1, prompt.length + count);
  const chosen: number[] = [];
  let input = Int32Array.from(prompt);
  while (chosen.length < count) {
    const logits = model.forward(input, 1, input.length, { cache, logits: 'last' });
    chosen.push(logits.indexOf(Math.max(...logits)));
    input = Int32Array.of(chosen.at(-1)!);
  }
  return chosen;
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < b.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

/** ‖a - b‖ / ‖b‖ */
function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(difference / norm);
}
