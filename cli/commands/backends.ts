// gemmoe backends: which are here, what they are bound to, which kernels they bring.

import type { BackendContribution, BackendDescription } from '../../core/backend.ts';
import { messageOf } from '../../core/errors.ts';
import { bindKernels, nativeKernels } from '../../core/kernels.ts';
import type { Command } from '../command.ts';
import { wrapped } from '../format.ts';
import { container, loadPlugins } from '../services.ts';

/** One backend as the command shows it. */
interface Listed {
  readonly name: string;
  readonly description: string;
  readonly usable: boolean;
  readonly reason: string | null;
  readonly bound: BackendDescription | null;
  /** Precisions that its products can be made in. */
  readonly precisions: readonly string[];
  readonly native: readonly string[];
  readonly portable: readonly string[];
  readonly options: readonly string[];
}

function list(contribution: BackendContribution): Listed {
  const { name, description, options } = contribution;
  const common = { name, description, options };
  const absent = { usable: false, bound: null, precisions: [], native: [], portable: [] };
  const reason = contribution.unavailable();
  if (reason !== undefined) return { ...common, ...absent, reason };
  try {
    const backend = contribution.create('');
    const native = nativeKernels(backend);
    const portable = Object.keys(bindKernels(backend)).filter((kernel) => !native.includes(kernel as never));
    const bound = backend.describe();
    backend.close();
    const precisions = contribution.precisions?.() ?? [bound.precision];
    return { ...common, usable: true, reason: null, bound, precisions, native, portable };
  } catch (error) {
    return { ...common, ...absent, reason: messageOf(error) };
  }
}

function describe({ name, description, usable, reason, bound, precisions, ...rest }: Listed): string[] {
  const { native, portable, options } = rest;
  const modes = precisions.map((mode) => (mode === bound?.precision ? `${mode} (as it is)` : mode)).join(', ');
  const lines = [`${name}  ${usable ? 'usable' : 'not usable'}`, `  ${description}`];
  if (reason !== null) lines.push(`  why not        ${reason}`);
  if (bound) {
    lines.push(
      `  vendor         ${bound.vendor} ${bound.version}`,
      `  library        ${bound.library ?? 'none: part of gemmoe'}`,
      `  instructions   ${bound.instructionSet}`,
      `  threads        ${bound.threads}`,
      `  precision      ${modes}`,
      `  its kernels    ${native.join(' ')}`,
      `  portable       ${portable.join(' ') || 'none'}`,
    );
  }
  return [...lines, ...options.map((option, i) => `  ${i === 0 ? 'options        ' : '               '}${option}`)];
}

const INDENT = 17;

export const backends: Command = {
  name: 'backends',
  summary: 'list the backends, what they are bound to, and which kernels they bring',
  options: ['plugin'],
  examples: ['gemmoe backends', 'gemmoe backends --json'],
  async run(context) {
    const { terminal } = context;
    const { BackendRegistry, createContainer } = await container();
    const composed = createContainer({ plugins: await loadPlugins(context) });
    const all = composed.get(BackendRegistry).all().map(list);
    for (const [i, backend] of all.entries()) {
      if (i > 0) terminal.print();
      for (const line of describe(backend)) {
        const [first, ...rest] = wrapped(line.slice(INDENT), terminal.columns - INDENT);
        terminal.print(`${line.slice(0, INDENT)}${first}`);
        for (const more of rest) terminal.print(`${' '.repeat(INDENT)}${more}`);
      }
    }
    terminal.result({ backends: all });
    return 0;
  },
};
