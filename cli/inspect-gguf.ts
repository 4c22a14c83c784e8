// gemmoe inspect of a GGUF file: its metadata and tensors as they stand in the file.

import { type GgufValue, openGguf } from '../core/formats/gguf/read-gguf.ts';
import { bytes, grouped, printable, scaled, table } from './format.ts';
import type { Terminal } from './terminal.ts';

/** Longest text or list that is shown whole. */
const SHOWN = 60;

/** Prints a file, or gives it as one object. @throws GemmoeError when it is no GGUF file */
export function inspectGguf(path: string, terminal: Terminal): void {
  const file = openGguf(path);
  try {
    const tensors = [...file.tensors].map(([name, tensor]) => ({ name, ...tensor, bytes: tensor.end - tensor.begin }));
    const parameters = tensors.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
    const total = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    terminal.result({
      path,
      version: file.version,
      parameters,
      bytes: total,
      metadata: Object.fromEntries([...file.metadata].map(([key, value]) => [key, plain(value)])),
      tensors: tensors.map(({ name, type, shape }) => ({ name, type, shape })),
    });
    terminal.print(
      `${path}: GGUF ${file.version}, ${grouped(parameters)} parameters (${scaled(parameters)}), ${bytes(total)}`,
    );
    terminal.print();
    for (const line of table([...file.metadata].map(([key, value]) => [key, shown(value)]))) terminal.print(line);
    terminal.print();
    for (const line of table(tensors.map(({ name, type, shape }) => [name, type, shape.join(' x ')])))
      terminal.print(line);
  } finally {
    file.close();
  }
}

/** JSON has no whole numbers beyond 2^53. */
function plain(value: GgufValue): unknown {
  if (typeof value === 'bigint') return value.toString();
  return Array.isArray(value) ? value.map(plain) : value;
}

function shown(value: GgufValue): string {
  if (Array.isArray(value)) {
    const first = value.slice(0, 6).map((item: GgufValue) => shown(item));
    return `${grouped(value.length)} values: ${first.join(' ')}${value.length > 6 ? ' …' : ''}`;
  }
  // most numbers are float32, whose digits end there
  const number = typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
  const text = typeof value === 'string' ? JSON.stringify(printable(value)) : String(number);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}
