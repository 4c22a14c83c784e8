// The composition: an inversify container binds contributions, registries, the chosen backend and its kernels. Models, trainers
// and kernels are plain objects that know nothing of it.

import 'reflect-metadata';
import { Container, ContainerModule, type ServiceIdentifier } from 'inversify';
import { BackendContribution, MatmulBackend } from './backend.ts';
import { parseSpec } from './config.ts';
import { GemmoeError, messageOf } from './errors.ts';
import { bindKernels, type Kernels as KernelSet } from './kernels.ts';
import { OptimizerContribution, type Plugin, SamplerContribution, SchedulerContribution } from './plugin.ts';
import { Registry } from './registry.ts';

/** Container tokens of what is composed; contributions and MatmulBackend have theirs beside their contracts. */
export const BackendRegistry: ServiceIdentifier<Registry<BackendContribution>> = Symbol.for('gemmoe.BackendRegistry');
export const SamplerRegistry: ServiceIdentifier<Registry<SamplerContribution>> = Symbol.for('gemmoe.SamplerRegistry');
export const OptimizerRegistry: ServiceIdentifier<Registry<OptimizerContribution>> =
  Symbol.for('gemmoe.OptimizerRegistry');
export const SchedulerRegistry: ServiceIdentifier<Registry<SchedulerContribution>> =
  Symbol.for('gemmoe.SchedulerRegistry');
export const Kernels: ServiceIdentifier<KernelSet> = Symbol.for('gemmoe.Kernels');

/** What a container is made from. */
export interface GemmoeOptions {
  /** Built-in and loaded plugins, in order. */
  readonly plugins: readonly Plugin[];
  /** `name`, `name:options`, or `auto` (default): the first in the order of the plugins that can run here. */
  readonly backend?: string;
}

/** Binds everything a plugin contributes, unnamed, so that registries find all of it. */
export function pluginModule(plugin: Plugin): ContainerModule {
  return new ContainerModule(({ bind }) => {
    for (const item of plugin.samplers ?? []) bind(SamplerContribution).toConstantValue(item);
    for (const item of plugin.optimizers ?? []) bind(OptimizerContribution).toConstantValue(item);
    for (const item of plugin.schedulers ?? []) bind(SchedulerContribution).toConstantValue(item);
    for (const item of plugin.backends ?? []) bind(BackendContribution).toConstantValue(item);
  });
}

/** A container with all contributions loaded. Nothing native is touched until MatmulBackend is asked for. */
export function createContainer(options: GemmoeOptions): Container {
  const container = new Container({ defaultScope: 'Singleton' });
  bindRegistry(container, BackendRegistry, 'backend', BackendContribution);
  bindRegistry(container, SamplerRegistry, 'sampler', SamplerContribution);
  bindRegistry(container, OptimizerRegistry, 'optimizer', OptimizerContribution);
  bindRegistry(container, SchedulerRegistry, 'scheduler', SchedulerContribution);
  container
    .bind(MatmulBackend)
    .toResolvedValue((backends) => createBackend(backends, options.backend ?? 'auto'), [BackendRegistry])
    .onDeactivation((backend) => backend.close());
  container.bind(Kernels).toResolvedValue((backend) => bindKernels(backend), [MatmulBackend]);
  // all modules before the first get: a later binding would be missed by a cached plan
  for (const plugin of options.plugins) container.load(pluginModule(plugin));
  return container;
}

function bindRegistry<T extends { readonly name: string; readonly description: string }>(
  container: Container,
  token: ServiceIdentifier<Registry<T>>,
  kind: string,
  contribution: ServiceIdentifier<T>,
): void {
  container
    .bind(token)
    .toResolvedValue((all: T[]) => new Registry(kind, all), [{ isMultiple: true, serviceIdentifier: contribution }]);
}

/** Creates the backend that a spec names. @throws GemmoeError with the reason where it cannot run here */
export function createBackend(backends: Registry<BackendContribution>, text: string): MatmulBackend {
  const { name, rest } = parseSpec(text);
  if (name === 'auto' && rest !== '') {
    throw new GemmoeError(
      'usage',
      `backend auto takes no options, not "${rest}"`,
      `name the backend that they are for: ${backends.names().join(', ')}`,
    );
  }
  const contribution = name === 'auto' ? firstUsable(backends) : backends.get(name);
  // with options, only create() can tell: they may name a library that stands elsewhere
  const reason = rest === '' ? contribution.unavailable() : undefined;
  if (reason !== undefined) {
    throw new GemmoeError(
      'unavailable',
      `backend ${contribution.name} cannot run here: ${reason}`,
      otherChoices(backends),
    );
  }
  try {
    return contribution.create(rest);
  } catch (error) {
    if (error instanceof GemmoeError) throw error;
    throw new GemmoeError(
      'unavailable',
      `backend ${text} failed to start: ${messageOf(error)}`,
      otherChoices(backends),
      {
        cause: error,
      },
    );
  }
}

function firstUsable(backends: Registry<BackendContribution>): BackendContribution {
  const found = backends.all().find((contribution) => contribution.unavailable() === undefined);
  if (!found)
    throw new GemmoeError('unavailable', 'no backend can run here', `installed: ${backends.names().join(', ')}`);
  return found;
}

function otherChoices(backends: Registry<BackendContribution>): string {
  const usable = backends.all().filter((contribution) => contribution.unavailable() === undefined);
  return `usable here: ${usable.map(({ name }) => name).join(', ') || 'none'}; see \`gemmoe backends\``;
}

/** Everything a program works with; `close` (or `using`) releases the backend. */
export interface Gemmoe extends Disposable {
  readonly container: Container;
  readonly backend: MatmulBackend;
  readonly kernels: KernelSet;
  readonly backends: Registry<BackendContribution>;
  readonly samplers: Registry<SamplerContribution>;
  readonly optimizers: Registry<OptimizerContribution>;
  readonly schedulers: Registry<SchedulerContribution>;
  close(): void;
}

/** Composes gemmoe and starts the chosen backend. */
export function createGemmoe(options: GemmoeOptions): Gemmoe {
  const container = createContainer(options);
  const close = () => void container.unbindAll();
  return {
    container,
    // resolved in this order: a duplicate name is reported before a backend starts
    samplers: container.get(SamplerRegistry),
    optimizers: container.get(OptimizerRegistry),
    schedulers: container.get(SchedulerRegistry),
    backends: container.get(BackendRegistry),
    backend: container.get(MatmulBackend),
    kernels: container.get(Kernels),
    close,
    [Symbol.dispose]: close,
  };
}
