// Choosing by name, plugin files from outside, and the container that brings them together.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { builtinBackends } from '../backends/index.ts';
import { parseKeyValues, parseOptionsText, parseSpec } from '../core/config.ts';
import { createContainer, createGemmoe, Kernels, SamplerRegistry } from '../core/container.ts';
import { MatmulBackend } from '../core/backend.ts';
import { GemmoeError } from '../core/errors.ts';
import { createChain } from '../core/generation/sampler-chain.ts';
import { loadPlugin } from '../core/load-plugin.ts';
import { definePlugin, type Plugin } from '../core/plugin.ts';
import { Registry } from '../core/registry.ts';
import { ParameterStore } from '../core/model/parameters.ts';
import { builtinPlugins } from '../plugins/index.ts';
import { FIXTURES } from './support/golden.ts';

const PLUGINS = join(FIXTURES, 'plugins');
const load = (name: string) => loadPlugin(`./${name}.mjs`, PLUGINS);
const compose = (...plugins: Plugin[]) =>
  createGemmoe({ plugins: [builtinBackends, builtinPlugins, ...plugins], backend: 'reference' });

describe('name:key=value', () => {
  test.each([
    ['adamw', 'adamw', ''],
    ['adamw:beta1=0.8,decay=all', 'adamw', 'beta1=0.8,decay=all'],
    ['cblas:C:\\blas\\x.dll', 'cblas', 'C:\\blas\\x.dll'],
  ])('%s', (text, name, rest) => expect(parseSpec(text)).toEqual({ name, rest }));

  test('values may hold =', () => expect(parseKeyValues('path=a=b,k=1', 'x')).toEqual({ path: 'a=b', k: '1' }));

  test.each([
    ['', /names nothing/],
    [':k=1', /names nothing/],
  ])('"%s" is refused', (text, message) => expect(() => parseSpec(text)).toThrow(message));

  test.each([
    ['novalue', /is not key=value/],
    ['k=1,k=2', /given twice/],
    ['=1', /is not key=value/],
  ])('"%s" is refused', (text, message) => expect(() => parseKeyValues(text, 'x')).toThrow(message));
});

describe('options of a plugin', () => {
  const contribution = {
    name: 'mine',
    description: '',
    options: z.strictObject({
      rate: z.number().min(0).default(0.5),
      count: z.int().default(3),
      flag: z.boolean().default(false),
      mode: z.enum(['a', '1']).default('a'),
    }),
  };

  test('defaults are filled in, text becomes what the schema wants', () => {
    expect(parseOptionsText(contribution, '')).toEqual({ rate: 0.5, count: 3, flag: false, mode: 'a' });
    expect(parseOptionsText(contribution, 'rate=2,count=7,flag=true,mode=1')).toEqual({
      ...{ rate: 2, count: 7, flag: true, mode: '1' },
    });
  });

  test.each([
    ['rats=1', /mine has no option "rats"/, /did you mean "rate"\? options of mine: rate, count, flag, mode/],
    ['rate=-1', /mine: rate: .*not "-1"/, undefined],
    ['rate=NaN', /mine: rate/, undefined],
    ['rate=', /mine: rate/, undefined],
    ['count=1.5', /mine: count/, undefined],
    ['flag=perhaps', /mine: flag/, undefined],
  ])('%s is refused', (text, message, hint) => {
    const attempt = () => parseOptionsText(contribution, text);
    expect(attempt).toThrow(message);
    if (!hint) return;
    try {
      attempt();
    } catch (error) {
      expect((error as GemmoeError).hint).toMatch(hint);
    }
  });

  test('a contribution without options takes none', () => {
    const bare = { name: 'bare', description: '' };
    expect(parseOptionsText(bare, '')).toEqual({});
    expect(() => parseOptionsText(bare, 'k=1')).toThrow(/bare has no option "k"/);
  });
});

describe('a registry', () => {
  const registry = new Registry('sampler', [
    { name: 'greedy', description: '' },
    { name: 'sample', description: '' },
  ]);

  test('names the choices and the nearest', () => {
    try {
      registry.get('gredy');
      expect.unreachable();
    } catch (error) {
      expect((error as GemmoeError).message).toBe('there is no sampler named "gredy"');
      expect((error as GemmoeError).hint).toBe('did you mean "greedy"? choices: greedy, sample');
    }
  });

  test('refuses two of a name', () => {
    const twice = [
      { name: 'a', description: '' },
      { name: 'a', description: '' },
    ];
    expect(() => new Registry('sampler', twice)).toThrow(/two samplers are named "a"/);
  });
});

describe('plugin files', () => {
  test('a sampler takes part in a chain', async () => {
    using gemmoe = compose(await load('sampler'));
    const chain = createChain('no-echo;greedy', gemmoe.samplers, 1);
    const context = { ids: [2], promptLength: 1, step: 0 };
    expect(chain.next(Float32Array.of(0, 1, 5), context)).toBe(1);
  });

  test('an optimizer steps, with its option', async () => {
    using gemmoe = compose(await load('optimizer'));
    const store = new ParameterStore('f32');
    store.declare('w', 'head', [2]);
    store.data.set([1, 1]);
    store.ensureGradients();
    const signum = gemmoe.optimizers.get('signum');
    const optimizer = signum.create(parseOptionsText(signum, 'beta=0.5'), { store, kernels: gemmoe.kernels });
    store.gradient.set([3, -4]);
    optimizer.step({ step: 1, learningRate: 0.25, gradientScale: 1 });
    expect([...store.data]).toEqual([0.75, 1.25]);
    expect([...(optimizer.state().get('momentum')?.data ?? [])]).toEqual([1.5, -2]);
  });

  test('a schedule', async () => {
    using gemmoe = compose(await load('schedule'));
    const staircase = gemmoe.schedulers.get('staircase');
    const schedule = staircase.create(parseOptionsText(staircase, 'every=2'), { learningRate: 1, totalSteps: 6 });
    expect([1, 2, 3, 4, 5].map(schedule)).toEqual([1, 1, 0.5, 0.5, 0.25]);
  });

  test('are found from the user’s folder, as a path or as a package', async () => {
    expect((await loadPlugin('plugins/sampler.mjs', FIXTURES)).samplers?.length).toBe(1);
    await expect(loadPlugin('./sampler.mjs', FIXTURES)).rejects.toThrow(/plugin \.\/sampler\.mjs was not found/);
    await expect(loadPlugin('no-such-package', FIXTURES)).rejects.toThrow(/no installed package of that name/);
    await expect(loadPlugin('./plugins', FIXTURES)).rejects.toThrow(/plugin \.\/plugins is a folder/);
  });

  describe('in packages', () => {
    const home = mkdtempSync(join(tmpdir(), 'gemmoe-plugin-'));
    afterAll(() => rmSync(home, { recursive: true }));
    function install(name: string, exports: unknown): void {
      const folder = join(home, 'node_modules', name);
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'package.json'), JSON.stringify({ name, type: 'module', exports }));
      writeFileSync(join(folder, 'index.js'), 'export default { gemmoePlugin: 1, samplers: [] };');
    }

    test('come from the user’s node_modules, whatever folder has their name', async () => {
      install('gemmoe-mine', './index.js');
      mkdirSync(join(home, 'gemmoe-mine'));
      expect(await loadPlugin('gemmoe-mine', home)).toEqual({ gemmoePlugin: 1, samplers: [] });
    });

    test('without an entry that can be found are refused', async () => {
      install('gemmoe-closed', { import: './index.js' });
      await expect(loadPlugin('gemmoe-closed', home)).rejects.toThrow(
        /installed, but its package\.json offers no entry/,
      );
    });
  });

  test.each([
    ['throws', /throws\.mjs throws when it is loaded: broken on purpose/],
    ['no-default', /no-default\.mjs has no default export/],
    ['wrong-api', /wrong-api\.mjs is made for plugin API 99, this gemmoe has API 1/],
    ['not-an-object', /not-an-object\.mjs: its default export is 5, which is no plugin/],
    ['malformed', /malformed\.mjs: samplers\.0\.create: must be a function, found undefined/],
    ['unknown-part', /unknown-part\.mjs: there is no part "sampler"/],
  ])('%s is refused by name', async (name, message) => {
    await expect(load(name)).rejects.toThrow(message);
    await expect(load(name)).rejects.toBeInstanceOf(GemmoeError);
  });

  test('a malformed one says what is wanted', async () => {
    await expect(load('malformed')).rejects.toHaveProperty('hint', expect.stringMatching(/a sampler is \{ name/));
    await expect(load('unknown-part')).rejects.toHaveProperty('hint', expect.stringMatching(/did you mean "samplers"/));
  });

  test.each([
    ['makes-nothing', /sampler makes-nothing: create returned undefined, which is no sampler/],
    ['misspelt', /sampler misspelt: create returned \{ kind: 'tranform'/],
    ['fails-early', /sampler fails-early throws when it is made: not today/],
    ['fails-late', /sampler fails-late throws: not now/],
    ['picks-outside', /sampler picks-outside picked 3/],
  ])('a sampler that %s is named', async (name, message) => {
    using gemmoe = compose(await load('unruly'));
    const draw = () =>
      createChain(name, gemmoe.samplers, 1).next(Float32Array.of(0, 1, 2), { ids: [0], promptLength: 1, step: 0 });
    expect(draw).toThrow(message);
    expect(draw).toThrow(GemmoeError);
  });

  test('a name that is taken is refused', async () => {
    const plugin = await load('duplicate');
    expect(() => compose(plugin)).toThrow(/two samplers are named "greedy"/);
  });
});

describe('the container', () => {
  test('gives the same backend and kernels each time, and closes the backend', () => {
    let closed = 0;
    const reference = builtinBackends.backends?.find(({ name }) => name === 'reference');
    const counted = definePlugin({
      backends: [
        {
          ...{ name: 'counted', description: '', options: [], unavailable: () => undefined },
          create: () => {
            const backend = reference!.create('');
            return {
              name: 'counted',
              gemm: backend.gemm.bind(backend),
              describe: () => backend.describe(),
              close: () => void closed++,
            };
          },
        },
      ],
    });
    const container = createContainer({ plugins: [counted], backend: 'counted' });
    expect(container.get(MatmulBackend)).toBe(container.get(MatmulBackend));
    expect(container.get(Kernels)).toBe(container.get(Kernels));
    container.unbindAll();
    expect(closed).toBe(1);
  });

  test('starts no backend to list plugins', () => {
    const container = createContainer({ plugins: [builtinPlugins], backend: 'none' });
    expect(container.get(SamplerRegistry).names()).toContain('top-p');
    expect(() => container.get(MatmulBackend)).toThrow(/there is no backend named "none"/);
  });

  test('a backend that cannot run says why, and what can', () => {
    const broken = { name: 'broken', description: '', options: [], create: () => expect.unreachable() };
    const plugin = definePlugin({ backends: [{ ...broken, unavailable: () => 'it rains' }] });
    try {
      createGemmoe({ plugins: [builtinBackends, plugin], backend: 'broken' });
      expect.unreachable();
    } catch (error) {
      expect((error as GemmoeError).message).toBe('backend broken cannot run here: it rains');
      expect((error as GemmoeError).hint).toMatch(/usable here: .*reference/);
    }
  });

  test('a backend that fails to start is named, with its reason', () => {
    const failing = { name: 'failing', description: '', options: [], unavailable: () => undefined };
    const create = () => {
      throw new Error('no memory');
    };
    const plugin = definePlugin({ backends: [{ ...failing, create }] });
    expect(() => createGemmoe({ plugins: [plugin], backend: 'failing' })).toThrow(
      /backend failing failed to start: no memory/,
    );
  });

  test('what stands after the colon goes to the backend as it is; auto takes nothing', () => {
    const seen: string[] = [];
    const reference = builtinBackends.backends?.find(({ name }) => name === 'reference');
    const listening = {
      ...{ name: 'listening', description: '', options: [], unavailable: () => 'not where one looks' },
      create: (options: string) => {
        seen.push(options);
        return reference!.create('');
      },
    };
    const plugins = [definePlugin({ backends: [listening] })];
    createGemmoe({ plugins, backend: 'listening:C:\\blas.dll,threads=2' }).close();
    expect(seen).toEqual(['C:\\blas.dll,threads=2']);
    expect(() => createGemmoe({ plugins, backend: 'auto:threads=2' })).toThrow(/auto takes no options/);
  });

  test('closing twice is harmless', () => {
    const gemmoe = compose();
    gemmoe.close();
    expect(() => gemmoe.close()).not.toThrow();
  });

  test('auto passes over backends that cannot run', () => {
    const absent = { name: 'absent', description: '', options: [], create: () => expect.unreachable() };
    const plugin = definePlugin({ backends: [{ ...absent, unavailable: () => 'not here' }] });
    using gemmoe = createGemmoe({ plugins: [plugin, builtinBackends] });
    expect(gemmoe.backend.name).not.toBe('absent');
  });
});
