// The most memory that a process has held. On Linux getrusage counts what the parent held before exec too, so /proc is asked.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Peak resident bytes of this process. */
export function peakMemory(): number {
  try {
    const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    if (kilobytes !== undefined) return Number(kilobytes) * 1024;
  } catch {
    // no Linux
  }
  return process.resourceUsage().maxRSS * 1024;
}

/** `peakMemory` for a process that loads nothing of ours. */
const LOOK = `
  let kilobytes;
  try { kilobytes = /VmHWM:\\s+(\\d+)/.exec(require('fs').readFileSync('/proc/self/status', 'utf8'))?.[1]; } catch {}
  process.stdout.write(String((kilobytes ?? process.resourceUsage().maxRSS) * 1024));
`;

/** Peak resident bytes of a Node.js that does nothing but look. */
export async function bareMemory(): Promise<number> {
  const bare = spawn(process.execPath, ['-e', LOOK]);
  let out = '';
  bare.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  await new Promise((resolve) => bare.on('close', resolve));
  return Number(out);
}
