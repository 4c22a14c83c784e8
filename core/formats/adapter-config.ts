// adapter_config.json as PEFT writes and reads it (huggingface/peft, src/peft/tuners/lora/config.py). What would change the
// result and is not done here is refused by the name of its field.

import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import type { LoraOptions } from '../model/lora.ts';
import { readJsonObject, writeJson } from './json-files.ts';

export const ADAPTER_CONFIG = 'adapter_config.json';

/** What an adapter's config says. */
export interface AdapterConfig extends LoraOptions {
  /** `base_model_name_or_path`: a directory, or a name on the Hub. */
  readonly base: string | null;
  /** Names, or endings of names, of its layers; null where they are given otherwise, as an expression. */
  readonly targetModules: readonly string[] | null;
  /** Names, or endings of names, of tensors that hold all experts of a layer. */
  readonly targetParameters: readonly string[];
}

/** Fields that do not change what a finished adapter computes, whatever they say. */
const WITHOUT_EFFECT: readonly string[] = [
  ...[
    'auto_mapping',
    'base_model_name_or_path',
    'base_model_class',
    'parent_library',
    'inference_mode',
    'peft_version',
  ],
  ...['revision', 'task_type', 'lora_dropout', 'unsloth_fixed'],
  // which layers have an adapter: the tensors say it
  ...['target_modules', 'target_parameters', 'exclude_modules', 'layers_to_transform', 'layers_pattern'],
  // settings of what is refused when it is on
  ...['loftq_config', 'eva_config', 'corda_config', 'lora_ga_config', 'qalora_group_size', 'megatron_core'],
  ...['runtime_config', 'use_rslora', 'r', 'lora_alpha', 'peft_type', 'init_lora_weights', 'bias'],
];

/** Ways to begin that leave the base model as it is; others (PiSSA, OLoRA, LoftQ, …) go with a base model that they changed. */
const PLAIN_BEGINNINGS: readonly unknown[] = [undefined, null, true, false, 'gaussian', 'orthogonal', 'eva'];

/** @throws GemmoeError naming the file and the field that is wrong or not supported */
export function readAdapterConfig(directory: string): AdapterConfig {
  const path = join(directory, ADAPTER_CONFIG);
  const raw = readJsonObject(path);
  const positive = (key: string): number => {
    const value = raw[key];
    if (typeof value === 'number' && value > 0 && Number.isFinite(value)) return value;
    throw wrong(path, key, value, 'a positive number');
  };
  if (raw['peft_type'] !== 'LORA') throw unsupported(path, 'peft_type', raw['peft_type']);
  if (!PLAIN_BEGINNINGS.includes(raw['init_lora_weights'])) {
    throw unsupported(path, 'init_lora_weights', raw['init_lora_weights']);
  }
  if ((raw['bias'] ?? 'none') !== 'none') throw unsupported(path, 'bias', raw['bias']);
  for (const [key, value] of Object.entries(raw)) {
    if (!WITHOUT_EFFECT.includes(key) && !isOff(value)) throw unsupported(path, key, value);
  }
  const rank = positive('r');
  if (!Number.isInteger(rank)) throw wrong(path, 'r', rank, 'a whole number');
  const rsLora = raw['use_rslora'] ?? false;
  if (typeof rsLora !== 'boolean') throw wrong(path, 'use_rslora', rsLora, 'true or false');
  const base = raw['base_model_name_or_path'];
  return {
    rank,
    alpha: positive('lora_alpha'),
    rsLora,
    base: typeof base === 'string' ? base : null,
    targetModules: namesIn(raw['target_modules']),
    targetParameters: namesIn(raw['target_parameters']) ?? [],
  };
}

/** Writes the config; `layers` are the endings or names that PEFT finds the layers by. */
export function writeAdapterConfig(directory: string, config: AdapterConfig): void {
  const { rank, alpha, rsLora = false, base, targetModules, targetParameters } = config;
  writeJson(join(directory, ADAPTER_CONFIG), {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: base,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_bias: false,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: 'LORA',
    r: rank,
    rank_pattern: {},
    revision: null,
    target_modules: targetModules,
    target_parameters: targetParameters.length > 0 ? targetParameters : null,
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: rsLora,
  });
}

function namesIn(value: unknown): readonly string[] | null {
  return Array.isArray(value) ? value.filter((name) => typeof name === 'string') : null;
}

/** Whether a field says what it would say by being left out. */
function isOff(value: unknown): boolean {
  if (value === null || value === false || value === 0 || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function wrong(path: string, key: string, value: unknown, wanted: string): GemmoeError {
  const found = value === undefined ? 'is missing' : `is ${JSON.stringify(value)}`;
  return new GemmoeError('bad-config', `${path}: ${key} ${found}; ${wanted} is wanted`, 'correct the file');
}

function unsupported(path: string, key: string, value: unknown): GemmoeError {
  return new GemmoeError(
    'unavailable',
    `${path}: ${key} is ${JSON.stringify(value)}, which is not supported`,
    'plain LoRA is: one rank and one alpha, use_rslora or not; or merge the adapter with PEFT and load the model that it makes',
  );
}
