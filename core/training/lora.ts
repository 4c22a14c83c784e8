// How a run trains a low-rank adapter: which one its settings mean, and what keeps the model's weights in step with it.

import { createHash } from 'node:crypto';
import { GemmoeError } from '../errors.ts';
import { chooseModules, linearModules } from '../formats/linear-modules.ts';
import { LoraAdapter } from '../model/lora.ts';
import type { Transformer } from '../model/transformer.ts';
import type { Optimizer } from '../plugin.ts';
import type { RunSettings } from './settings.ts';

/**
 * The adapter that the settings ask for, its factors still zero; undefined where the weights themselves are trained.
 * @throws GemmoeError for settings that an adapter cannot go with, and targets that the model has not
 */
export function adapterOf(settings: RunSettings, model: Transformer): LoraAdapter | undefined {
  const { loraRank: rank, loraAlpha, loraTargets, initFrom, routerBias } = settings;
  if (rank === 0) return undefined;
  if (initFrom === null) {
    throw new GemmoeError(
      'bad-config',
      `loraRank is ${rank}, but the run begins with random weights, which an adapter cannot do without training`,
      'name the model that is adapted: --init-from DIR',
    );
  }
  if (routerBias > 0) {
    throw new GemmoeError(
      'bad-config',
      `routerBias is ${routerBias}, but selection biases are no part of an adapter of loraRank ${rank}`,
      'leave one of them out',
    );
  }
  const modules = chooseModules(linearModules(model), loraTargets);
  const narrow = modules.find(({ rows, columns }) => rank > Math.min(rows, columns));
  if (narrow && modules.every(({ rows, columns }) => rank > Math.min(rows, columns))) {
    throw new GemmoeError(
      'bad-config',
      `loraRank is ${rank}, more than any of the matrices has: ${narrow.name} is [${narrow.rows}, ${narrow.columns}]`,
      'a lower rank says as much; 8 is usual',
    );
  }
  return new LoraAdapter(model, modules, { rank, alpha: loraAlpha ?? 2 * rank });
}

/** An optimizer of the adapter's factors, the model's weights following where it exchanges them for others. */
export function withAdapter(optimizer: Optimizer, adapter: LoraAdapter): Optimizer {
  if (!optimizer.training) return optimizer;
  return {
    step: (step) => optimizer.step(step),
    state: () => optimizer.state(),
    scalars: () => optimizer.scalars?.() ?? {},
    restoreScalars: (scalars) => optimizer.restoreScalars?.(scalars),
    training(on) {
      optimizer.training?.(on);
      adapter.merge();
    },
  };
}

/** Hash of a model's weights without its adapter: what the adapter was trained on. */
export function baseFingerprint({ model }: LoraAdapter): string {
  const { data } = model.parameters;
  const hash = createHash('sha256');
  hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  for (const { data: values } of model.parameters.buffers) {
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest('hex').slice(0, 32);
}
