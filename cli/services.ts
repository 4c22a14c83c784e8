// The composition that commands share: plugins, container, model.

import { resolve } from 'node:path';
import { builtinBackends } from '../backends/index.ts';
import type { BackendDescription } from '../core/backend.ts';
import type { Gemmoe } from '../core/container.ts';
import { loadTokenizer } from '../core/data/tokenizers.ts';
import type { Tokenizer } from '../core/data/tokenizer.ts';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GemmoeError } from '../core/errors.ts';
import { loadAdapter } from '../core/formats/adapter.ts';
import { type LoadedModel, loadModel, readModelConfig } from '../core/formats/hugging-face.ts';
import type { Kernels } from '../core/kernels.ts';
import { loadPlugin } from '../core/load-plugin.ts';
import type { Plugin } from '../core/plugin.ts';
import { adapterDirectoryOf, type ModelPlace, modelPlaceOf } from '../core/training/checkpoint.ts';
import { builtinPlugins } from '../plugins/index.ts';
import type { CommandContext } from './command.ts';
import { liveProgress } from './model-files.ts';

/** The built-in plugins and those named by --plugin. */
export async function loadPlugins({ options, cwd }: CommandContext): Promise<Plugin[]> {
  const loaded: Plugin[] = [];
  for (const specifier of options.plugin) loaded.push(await loadPlugin(specifier, cwd));
  return [builtinBackends, builtinPlugins, ...loaded];
}

/** The composition; loaded late, since loading it takes longer than most refusals. */
export function container() {
  return import('../core/container.ts');
}

/** Everything, with the chosen backend started. */
export async function startServices(context: CommandContext): Promise<Gemmoe> {
  const { createGemmoe } = await container();
  const services = createGemmoe({ plugins: await loadPlugins(context), backend: context.options.backend });
  const close = () => {
    for (const line of services.backend.report?.() ?? []) context.terminal.note(line);
    services.close();
  };
  return { ...services, close, [Symbol.dispose]: close };
}

/** The model that --model names, with --adapter on top of it, and its tokenizer where it has one. */
export function openModel(
  context: CommandContext,
  kernels: Kernels,
): LoadedModel & ModelPlace & { readonly tokenizer: Tokenizer | undefined } {
  const { directory, adapter } = placeOf(context);
  // before the weights, which may take minutes to read
  const { config } = readModelConfig(directory);
  const tokenizer = (adapter === undefined ? undefined : tokenizerOf(adapter)) ?? tokenizerOf(directory);
  checkVocabulary(directory, config.vocabSize, tokenizer);
  const loaded = loadModel(directory, kernels, {
    weights: context.options.weights,
    onProgress: liveProgress(context, 'loading'),
  });
  context.terminal.clearLive();
  if (adapter !== undefined) loadAdapter(adapter, loaded.model).mergeForGood();
  return { ...loaded, directory, adapter, tokenizer };
}

/** What --model and --adapter name. @throws GemmoeError for two adapters, and for one that cannot be added */
function placeOf({ options, cwd }: CommandContext): ModelPlace {
  if (options.model === undefined) {
    throw new GemmoeError('usage', 'no model is named', 'name a model directory or a run folder: --model DIR');
  }
  const place = modelPlaceOf(resolve(cwd, options.model));
  const named = options.adapter === undefined ? undefined : adapterDirectoryOf(resolve(cwd, options.adapter));
  if (place.adapter !== undefined && named !== undefined) {
    throw new GemmoeError(
      'usage',
      `--model ${options.model} stands for ${place.directory} with the adapter ${place.adapter}, and --adapter names another`,
      `name the model alone: --model ${place.directory}`,
    );
  }
  const adapter = place.adapter ?? named;
  if (adapter !== undefined && options.weights === 'bf16') {
    throw new GemmoeError(
      'usage',
      '--weights bf16 holds weights that are too coarse to add an adapter to',
      `merge first: gemmoe convert ${place.directory} OUT --merge-adapter ${adapter} --dtype bf16`,
    );
  }
  return { directory: place.directory, adapter };
}

/** @throws GemmoeError for a tokenizer with ids that the model has no rows for; fewer are usual, tables are padded */
function checkVocabulary(directory: string, rows: number, tokenizer: Tokenizer | undefined): void {
  if (!tokenizer || tokenizer.vocabSize <= rows) return;
  throw new GemmoeError(
    'bad-data',
    `${join(directory, 'tokenizer.json')} has ${tokenizer.vocabSize} ids, vocab_size in config.json is only ${rows}`,
    'use the tokenizer.json that belongs to the model',
  );
}

/** The tokenizer of a model directory; undefined where it has none. */
export function tokenizerOf(directory: string): Tokenizer | undefined {
  return existsSync(join(directory, 'tokenizer.json')) ? loadTokenizer(directory) : undefined;
}

/** What computes, for --json. */
export function backendOf({ backend }: Gemmoe): { readonly name: string } & BackendDescription {
  return { name: backend.name, ...backend.describe() };
}

/** One line on what computes. */
export function backendLine({ backend }: Gemmoe): string {
  const { vendor, version, instructionSet, threads, precision } = backend.describe();
  const plural = threads === 1 ? 'thread' : 'threads';
  return `${backend.name} (${vendor} ${version}, ${instructionSet}, ${precision}, ${threads} ${plural})`;
}
