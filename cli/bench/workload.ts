// What the suites run: forward passes and whole training steps of a model.

import type { Kernels } from '../../core/kernels.ts';
import type { ModelConfig } from '../../core/model/config.ts';
import { PRESETS } from '../../core/model/presets.ts';
import { Transformer } from '../../core/model/transformer.ts';
import { Random } from '../../core/random.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { trainingFlopsPerToken } from '../../core/training/plan.ts';
import { Trainer } from '../../core/training/trainer.ts';
import { adamw } from '../../plugins/optimizers/adamw.ts';
import { SEED } from './machine.ts';

/** A model at a shape of batch. */
export interface Workload {
  readonly config: ModelConfig;
  readonly batch: number;
  readonly length: number;
}

/** Something to run again and again, and what came out of it last. */
export interface Job {
  run(): void;
  readonly outputs: () => readonly FloatArray[];
  readonly tokens: number;
  readonly flops: number;
}

const base = PRESETS['tiny'].config;

/** Models of the published figures. */
export const CASES: Readonly<Record<string, Workload & { readonly description: string }>> = {
  tiny: { config: base, batch: 2, length: 8, description: 'tiny, B2 T8' },
  small: { config: PRESETS['small'].config, batch: 2, length: 8, description: 'small, B2 T8' },
  hidden512: {
    config: {
      ...base,
      ...{ hiddenSize: 512, numLayers: 6, numHeads: 8, numKvHeads: 2, headDim: 64, numExperts: 8, topK: 2 },
      ...{ expertWidth: 1024, vocabSize: 8192 },
    },
    ...{ batch: 4, length: 128, description: 'hidden 512, 6 layers, 8 experts, B4 T128' },
  },
  gpt: {
    config: {
      ...base,
      ...{ hiddenSize: 128, numLayers: 4, numHeads: 4, numKvHeads: 4, headDim: 32, numExperts: 1, topK: 1 },
      ...{ expertWidth: 512, vocabSize: 256 },
    },
    ...{ batch: 8, length: 128, description: 'dense GPT, 4 x 128, B8 T128' },
  },
};

export function makeModel(config: ModelConfig, kernels: Kernels): Transformer {
  const model = new Transformer(config, kernels);
  model.initialise(SEED);
  return model;
}

/** Random ids, the same for every backend. */
export function randomIds(count: number, vocabSize: number): Int32Array {
  const random = new Random(SEED, 'bench');
  return Int32Array.from({ length: count }, (_, i) => random.below(vocabSize, 0, i));
}

export function forwardFlops({ config, batch, length }: Workload): number {
  return (batch * length * trainingFlopsPerToken(config, length)) / 3;
}

/** Forward passes without gradients, weights packed before. */
export function forwardJob(workload: Workload, kernels: Kernels): Job {
  const { config, batch, length } = workload;
  const model = makeModel(config, kernels);
  model.holdWeights();
  const ids = randomIds(batch * length, config.vocabSize);
  let logits: FloatArray = new Float32Array(0);
  return {
    run: () => void (logits = model.forward(ids, batch, length)),
    outputs: () => [logits],
    tokens: batch * length,
    flops: forwardFlops(workload),
  };
}

/** Training steps: forward, loss, backward, clipping and AdamW over all parameters. */
export function trainingJob(workload: Workload, kernels: Kernels): Job & { readonly model: Transformer } {
  const { config, batch, length } = workload;
  const model = makeModel(config, kernels);
  const settings = (adamw.options as NonNullable<typeof adamw.options>).parse({});
  const optimizer = adamw.create(settings, { store: model.parameters, kernels, totalSteps: 1e6 });
  const trainer = new Trainer(model, optimizer, () => 1e-4, { clipNorm: 1 });
  const all = randomIds(batch * length + 1, config.vocabSize);
  const [ids, targets] = [all.slice(0, -1), all.slice(1)];
  const loss = new Float32Array(1);
  return {
    model,
    run: () => void (loss[0] = trainer.step(ids, targets, batch, length).loss),
    outputs: () => [loss, model.parameters.data],
    tokens: batch * length,
    flops: batch * length * trainingFlopsPerToken(config, length),
  };
}
