// Low-rank adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors, whose tensors are named
// base_model.model.MODULE.lora_A.weight [r,inputs] and lora_B.weight [outputs,r].

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import type { Kernels } from '../kernels.ts';
import { type LinearPlace, LoraAdapter, type LoraOptions } from '../model/lora.ts';
import type { Transformer } from '../model/transformer.ts';
import { writeDirectoryAtomic } from './atomic-files.ts';
import { copyCompanions, withType } from './convert.ts';
import { exportFamily } from './families/index.ts';
import { ConfigReader } from './families/family.ts';
import { loadModel, tensorsOf } from './hugging-face.ts';
import { readJsonObject, writeJson } from './json-files.ts';
import { checkTarget } from './output-place.ts';
import { byteLengthOf, openSafetensors, type SafetensorsFile, writeSafetensors } from './safetensors.ts';
import { type FloatType, storedPieces } from './stored-values.ts';
import { MAX_SHARD_BYTES, TensorFiles, withProgress, type WriteOptions, writeWeightFiles } from './weight-files.ts';

const CONFIG_FILE = 'adapter_config.json';
const WEIGHTS_FILE = 'adapter_model.safetensors';
const PREFIX = 'base_model.model.';

/** The linear layers of a model under Hugging Face's names. Experts that a family stores as one tensor are none. */
export function linearPlaces(model: Transformer): LinearPlace[] {
  const [places] = exportFamily(model.config).layouts(model.config);
  return places.flatMap(({ name, shape, parameter, offset }) => {
    if (shape.length !== 2 || parameter === 'embedding' || !name.endsWith('.weight')) return [];
    const [outputs, inputs] = shape;
    return { module: moduleOf(name), parameter: model.parameters.get(parameter), offset, outputs, inputs };
  });
}

function moduleOf(tensor: string): string {
  return tensor.slice(0, -'.weight'.length);
}

/** The last part of a module's name, by which PEFT chooses layers: `q_proj`. */
function kindOf({ module }: LinearPlace): string {
  return module.slice(module.lastIndexOf('.') + 1);
}

/**
 * An adapter for the linear layers that `targets` name: by role (attention, expert, router, head), by the last part of their
 * names, or by a whole name in which * stands for anything. B is zero; A is random by `seed`.
 * @throws GemmoeError for a target that is no layer of this model
 */
export function createAdapter(
  model: Transformer,
  targets: readonly string[],
  options: LoraOptions,
  seed: number,
): LoraAdapter {
  const places = linearPlaces(model);
  const matchers = targets.map((target) => {
    const expression = new RegExp(`^${target.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*')}$`);
    const matches = (place: LinearPlace) =>
      [place.parameter.role, kindOf(place), place.module].some((name) => expression.test(name));
    if (places.some(matches)) return matches;
    const known = new Set(places.flatMap((place) => [place.parameter.role, kindOf(place)]));
    throw new GemmoeError(
      'usage',
      `no linear layer of this model is meant by the target ${target}`,
      `targets are ${[...known].join(', ')}, or whole names such as ${places[0].module}, * for anything`,
    );
  });
  const chosen = places.filter((place) => matchers.some((matches) => matches(place)));
  const adapter = new LoraAdapter(chosen, model.kernels, model.dtype, options);
  adapter.initialise(seed);
  return adapter;
}

// ---------------------------------------------------------------- writing

/** Writes an adapter's directory, whole or not at all. @param base name or path of the model that it belongs to */
export function saveAdapter(
  directory: string,
  adapter: LoraAdapter,
  model: Transformer,
  base: string | null,
  options: { readonly replace?: boolean } = {},
): void {
  const { rank, alpha, rankStabilised = false } = adapter.options;
  writeDirectoryAtomic(
    directory,
    (temporary) => {
      writeJson(join(temporary, CONFIG_FILE), {
        peft_type: 'LORA',
        task_type: 'CAUSAL_LM',
        base_model_name_or_path: base,
        r: rank,
        lora_alpha: alpha,
        use_rslora: rankStabilised,
        target_modules: targetModules(adapter, model),
        lora_dropout: 0,
        bias: 'none',
        fan_in_fan_out: false,
        init_lora_weights: true,
        inference_mode: true,
        modules_to_save: null,
        rank_pattern: {},
        alpha_pattern: {},
        use_dora: false,
      });
      const tensors = adapter.layers.flatMap(({ place, a, b }) =>
        [
          { part: 'lora_A', parameter: a },
          { part: 'lora_B', parameter: b },
        ].map(({ part, parameter: { shape, data } }) => ({
          ...{ name: `${PREFIX}${place.module}.${part}.weight`, shape, parts: [data] },
          dtype: data instanceof Float32Array ? ('F32' as const) : ('F64' as const),
        })),
      );
      writeSafetensors(join(temporary, WEIGHTS_FILE), tensors);
    },
    { replace: options.replace ?? false },
  );
}

/** By the last parts of their names where those mean just these layers, else whole names. */
function targetModules({ layers }: LoraAdapter, model: Transformer): string[] {
  const kinds = new Set(layers.map(({ place }) => kindOf(place)));
  const meant = linearPlaces(model).filter((place) => kinds.has(kindOf(place)));
  return meant.length === layers.length ? [...kinds] : layers.map(({ place }) => place.module);
}

// ---------------------------------------------------------------- reading

/** Fields of adapter_config.json that change what is computed, with the only value that we compute. */
const REQUIRED: Readonly<Record<string, string | boolean>> = { peft_type: 'LORA', bias: 'none', fan_in_fan_out: false };
const REFUSED = [
  ...(['use_dora', 'modules_to_save', 'target_parameters', 'trainable_token_indices', 'layer_replication'] as const),
  ...(['use_qalora', 'alora_invocation_tokens', 'megatron_config', 'lora_bias'] as const),
];
const PATTERNS = ['rank_pattern', 'alpha_pattern'];

/**
 * Reads the adapter of `directory` for a model; `merge` puts it into effect.
 * @throws GemmoeError for a kind of adapter that is not known, and for tensors that do not fit the model, by name
 */
export function loadAdapter(directory: string, model: Transformer): LoraAdapter {
  const options = readOptions(directory);
  const path = join(directory, WEIGHTS_FILE);
  if (!existsSync(path)) {
    const hint = 'save the adapter with safe_serialization=True';
    throw new GemmoeError('not-found', `${directory} has no ${WEIGHTS_FILE}`, hint);
  }
  const file = openSafetensors(path);
  try {
    const names = tensorNames(file);
    const places = linearPlaces(model).filter(({ module }) => names.has(module));
    const stray = [...names.keys()].find((module) => !places.some((place) => place.module === module));
    if (stray !== undefined) {
      throw disagreement(path, `${stray} is no linear layer of this model`);
    }
    const adapter = new LoraAdapter(places, model.kernels, model.dtype, options);
    for (const { place, a, b } of adapter.layers) {
      const found = names.get(place.module);
      for (const [part, { shape, data }] of [
        ['A', a],
        ['B', b],
      ] as const) {
        const name = found?.[part];
        if (name === undefined) throw disagreement(path, `${place.module} has no tensor lora_${part}`);
        const there = file.tensors.get(name)?.shape ?? [];
        if (there.join() !== shape.join()) {
          throw disagreement(
            path,
            `tensor ${name} is [${there}], but [${shape}] fits the model and rank ${options.rank}`,
          );
        }
        file.read(name, data);
      }
    }
    return adapter;
  } finally {
    file.close();
  }
}

function readOptions(directory: string): LoraOptions {
  const path = join(directory, CONFIG_FILE);
  if (!existsSync(path)) {
    throw new GemmoeError('not-found', `${directory} is no adapter: it has no ${CONFIG_FILE}`, 'name a PEFT directory');
  }
  const reader = new ConfigReader(path, readJsonObject(path));
  for (const [key, value] of Object.entries(REQUIRED)) reader.require(key, value);
  for (const key of REFUSED) reader.refuse(key);
  for (const key of PATTERNS) {
    if (Object.keys((reader.raw[key] ?? {}) as object).length > 0) throw reader.unsupported(key, reader.raw[key]);
  }
  const rank = reader.size('r');
  const alpha = reader.number('lora_alpha', 8);
  if (alpha <= 0) throw reader.wrong('lora_alpha', alpha, 'a number above 0');
  return { rank, alpha, rankStabilised: reader.boolean('use_rslora', false) };
}

/** Tensors of A and B by module. @throws GemmoeError for one of another kind */
function tensorNames({ path, tensors }: SafetensorsFile): Map<string, { A?: string; B?: string }> {
  const names = new Map<string, { A?: string; B?: string }>();
  for (const name of tensors.keys()) {
    // some versions name the adapter too
    const [, module, part] = /^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(name) ?? [];
    if (module === undefined) throw disagreement(path, `tensor ${name} is none of a LoRA adapter of linear layers`);
    const known = names.get(module) ?? {};
    known[part as 'A' | 'B'] = name;
    names.set(module, known);
  }
  if (names.size === 0) throw disagreement(path, 'there is no tensor in it');
  return names;
}

function disagreement(path: string, what: string): GemmoeError {
  return new GemmoeError('bad-data', `${path}: ${what}`, 'use the model that the adapter was trained on');
}

// ---------------------------------------------------------------- merging

export interface MergeOptions extends WriteOptions {
  /** Type of the merged tensors; that of the model when left out. */
  readonly dtype?: FloatType | undefined;
}

/** Writes the model of `source` with the adapter of a directory merged into its weights, as a model of its own. */
export function mergeDirectory(
  source: string,
  adapter: string,
  target: string,
  kernels: Kernels,
  options: MergeOptions = {},
): { tensors: number; bytesBefore: number; bytesAfter: number; notes: readonly string[] } {
  const { maxShardBytes = MAX_SHARD_BYTES, replace = false, onProgress } = options;
  checkTarget(target, source, replace);
  const files = new TensorFiles(source);
  const bytesBefore = files.bytes;
  const [first] = files.names();
  const stored = files.fileOf(first).tensors.get(first)?.dtype as FloatType;
  files.close();
  const { model, original } = loadModel(source, kernels);
  loadAdapter(adapter, model).merge();
  const dtype = options.dtype ?? stored;
  const tensors = tensorsOf(model, 'data').map(({ name, shape, data }) => ({
    ...{ name, shape, dtype },
    parts: storedPieces(name, dtype, [data as Float32Array]),
  }));
  const build = (temporary: string) => {
    copyCompanions(source, temporary);
    writeJson(join(temporary, 'config.json'), withType(original, dtype));
    writeWeightFiles(temporary, withProgress(tensors, onProgress), maxShardBytes);
  };
  writeDirectoryAtomic(target, build, { replace });
  const bytesAfter = tensors.reduce((sum, tensor) => sum + byteLengthOf(tensor), 0);
  return { tensors: tensors.length, bytesBefore, bytesAfter, notes: [] };
}
