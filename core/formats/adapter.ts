// LoRA adapters as PEFT's directories, in and out: adapter_config.json, and adapter_model.safetensors with
// `base_model.model.<layer>.lora_A.weight` [r,in] and `….lora_B.weight` [out,r] of every layer. A tensor of all experts (E of
// them) has A [E·r,in], and B [out,r·E] with the experts innermost, as PEFT's target_parameters.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../errors.ts';
import type { LinearModule } from '../model/linear-module.ts';
import { LoraAdapter, type LoraTarget } from '../model/lora.ts';
import type { Transformer } from '../model/transformer.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import { ADAPTER_CONFIG, type AdapterConfig, readAdapterConfig, writeAdapterConfig } from './adapter-config.ts';
import { writeDirectoryAtomic } from './atomic-files.ts';
import { endings, lastWord, linearModules } from './linear-modules.ts';
import {
  openSafetensors,
  type SafetensorsFile,
  storedTypeOf,
  type TensorToWrite,
  writeSafetensors,
} from './safetensors.ts';

const ADAPTER_WEIGHTS = 'adapter_model.safetensors';
const PREFIX = 'base_model.model.';

/** Whether a directory holds an adapter and no model. */
export function isAdapterDirectory(directory: string): boolean {
  return existsSync(join(directory, ADAPTER_CONFIG)) && !existsSync(join(directory, 'config.json'));
}

// ---------------------------------------------------------------- reading

/**
 * Reads an adapter for `model`, whose weights it leaves as they are: `merge()` adds it to them.
 * @throws GemmoeError for a setting that is not supported, and a tensor that is missing, unknown or misshapen, naming it
 */
export function loadAdapter(directory: string, model: Transformer): LoraAdapter {
  if (!existsSync(join(directory, ADAPTER_CONFIG))) {
    throw new GemmoeError(
      'not-found',
      `${directory} is no adapter: it has no ${ADAPTER_CONFIG}`,
      'name a folder that PEFT or `gemmoe train --lora-rank` made, the `adapter` folder of a run',
    );
  }
  const config = readAdapterConfig(directory);
  const path = join(directory, ADAPTER_WEIGHTS);
  if (!existsSync(path)) {
    const hint = existsSync(join(directory, 'adapter_model.bin'))
      ? 'adapter_model.bin is a pickle, which is not read: save the adapter with safe_serialization=True'
      : 'fetch the missing file';
    throw new GemmoeError('not-found', `there is no ${path}`, hint);
  }
  const file = openSafetensors(path);
  try {
    const modules = modulesIn(file, linearModules(model));
    checkTargets(directory, config, modules);
    const adapter = new LoraAdapter(model, modules, config);
    for (const target of adapter.targets) readTarget(file, target, adapter.rank);
    return adapter;
  } finally {
    file.close();
  }
}

/** Puts the factors of a directory into an adapter of the same layers and rank, to the bit. */
export function restoreAdapter(directory: string, adapter: LoraAdapter): void {
  const read = loadAdapter(directory, adapter.model);
  const same = read.rank === adapter.rank && namesOf(read.targets) === namesOf(adapter.targets);
  if (!same) {
    throw new GemmoeError(
      'bad-data',
      `${directory} holds another adapter than the run's: other layers, or another rank`,
      'resume from another checkpoint',
    );
  }
  adapter.store.data.set(read.store.data);
}

function namesOf(targets: readonly LoraTarget[]): string {
  return targets.map(({ module }) => module.name).join();
}

/** The modules whose factors the file holds, in the model's order. */
function modulesIn(file: SafetensorsFile, all: readonly LinearModule[]): LinearModule[] {
  const byName = new Map(all.map((module) => [module.name, module]));
  const found = new Set<LinearModule>();
  for (const name of file.tensors.keys()) {
    const [, layer] = /^base_model\.model\.(.+)\.lora_[AB]\.weight$/.exec(name) ?? [];
    const module = byName.get(layer ?? '');
    if (!module) throw unknown(file, name, all);
    found.add(module);
  }
  if (found.size === 0) throw bad(`${file.path} holds no tensors`, 'the adapter was not saved whole');
  return all.filter((module) => found.has(module));
}

/** @throws GemmoeError for a target of the config that no tensor belongs to: the file is not whole, or of another adapter */
function checkTargets(directory: string, config: AdapterConfig, modules: readonly LinearModule[]): void {
  const parameters = config.targetParameters.map((name) => name.replace(/\.weight$/, ''));
  for (const target of [...(config.targetModules ?? []), ...parameters]) {
    if (modules.some(({ name }) => endings(name).includes(target))) continue;
    throw bad(
      `${join(directory, ADAPTER_CONFIG)} names ${target} as a target, of which ${ADAPTER_WEIGHTS} has no tensor`,
      'fetch both files again',
    );
  }
}

function readTarget(file: SafetensorsFile, { module, a, b }: LoraTarget, rank: number): void {
  const [nameA, nameB] = tensorNames(module);
  const { experts, rows, columns } = module;
  const E = experts ?? 1;
  checkShape(file, nameA, [E * rank, columns]);
  checkShape(file, nameB, [rows, rank * E]);
  file.read(nameA, a.data);
  if (experts === null) return file.read(nameB, b.data);
  const packed = b.data.slice();
  file.read(nameB, packed);
  moveExperts(packed, b.data, module, rank, 'outwards');
}

function checkShape(file: SafetensorsFile, name: string, wanted: readonly number[]): void {
  const found = file.tensors.get(name)?.shape;
  if (found?.join() === wanted.join()) return;
  throw bad(
    `${file.path}: tensor ${name} ${found ? `is [${found}]` : 'is missing'}, the model and the rank want [${wanted}]`,
    'the adapter was made for another model, or adapter_config.json names another rank',
  );
}

function unknown(file: SafetensorsFile, name: string, all: readonly LinearModule[]): GemmoeError {
  const layers = [...new Set(all.map((module) => lastWord(module.name)))].join(', ');
  return bad(
    `${file.path}: tensor ${name} belongs to no linear layer of this model`,
    `tensors are called ${PREFIX}${all[0]?.name ?? 'LAYER'}.lora_A.weight; layers: ${layers}`,
  );
}

function bad(what: string, hint: string): GemmoeError {
  return new GemmoeError('bad-data', what, hint);
}

// ---------------------------------------------------------------- writing

/**
 * Writes an adapter's directory, whole or not at all.
 * @param base directory or name of the model that it was trained on
 * @throws GemmoeError when the directory is not empty, unless it is to be replaced
 */
export function saveAdapter(
  directory: string,
  adapter: LoraAdapter,
  base: string | null,
  options: { readonly replace?: boolean } = {},
): void {
  writeDirectoryAtomic(directory, (temporary) => writeAdapterFiles(temporary, adapter, base), options);
}

/** Writes the two files of an adapter into an existing folder. @param base what it was trained on, as PEFT is to find it */
export function writeAdapterFiles(directory: string, adapter: LoraAdapter, base: string | null): void {
  const { rank, alpha, rsLora, targets, model } = adapter;
  const chosen = targets.map(({ module }) => module);
  const fused = chosen.filter(({ experts }) => experts !== null);
  const plain = chosen.filter(({ experts }) => experts === null);
  writeAdapterConfig(directory, {
    ...{ rank, alpha, rsLora, base },
    targetModules: shortNames(plain, linearModules(model)),
    targetParameters: fused.map(({ name }) => `${name}.weight`),
  });
  writeSafetensors(
    join(directory, ADAPTER_WEIGHTS),
    targets.flatMap((target) => tensorsOf(target, rank)),
  );
}

/** `q_proj` where every layer of that name is among them, whole names of the others: PEFT takes whatever ends so. */
function shortNames(chosen: readonly LinearModule[], all: readonly LinearModule[]): string[] {
  const isWhole = (word: string) =>
    all.every((module) => lastWord(module.name) !== word || chosen.some(({ name }) => name === module.name));
  const words = [...new Set(chosen.map(({ name }) => lastWord(name)))];
  const whole = new Set(words.filter(isWhole));
  return [...whole, ...chosen.map(({ name }) => name).filter((name) => !whole.has(lastWord(name)))].sort();
}

function tensorsOf({ module, a, b }: LoraTarget, rank: number): TensorToWrite[] {
  const [nameA, nameB] = tensorNames(module);
  const { experts, rows, columns } = module;
  const E = experts ?? 1;
  const packed = experts === null ? b.data : b.data.slice();
  if (experts !== null) moveExperts(b.data, packed, module, rank, 'inwards');
  const dtype = storedTypeOf(a.data);
  return [
    { name: nameA, dtype, shape: [E * rank, columns], parts: [a.data] },
    { name: nameB, dtype, shape: [rows, rank * E], parts: [packed] },
  ];
}

function tensorNames({ name }: LinearModule): [a: string, b: string] {
  return [`${PREFIX}${name}.lora_A.weight`, `${PREFIX}${name}.lora_B.weight`];
}

/** Between [out,r,E], as files have it, and [E,out,r]. */
function moveExperts(
  from: FloatArray,
  to: FloatArray,
  { experts, rows }: LinearModule,
  rank: number,
  way: 'inwards' | 'outwards',
): void {
  const E = experts ?? 1;
  const perExpert = rows * rank;
  for (let e = 0; e < E; e++) {
    for (let i = 0; i < perExpert; i++) {
      if (way === 'inwards') to[i * E + e] = from[e * perExpert + i];
      else to[e * perExpert + i] = from[i * E + e];
    }
  }
}
