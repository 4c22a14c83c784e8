// Contributions by name: the one place where "which backends, samplers, optimizers, schedulers are there" is answered.

import { GemmoeError, nearestName } from './errors.ts';

/** What every contribution carries, whatever it contributes. */
export interface Named {
  readonly name: string;
  readonly description: string;
}

/** Lookup by name over a fixed list; a duplicate name is refused when the list is made. */
export class Registry<T extends Named> {
  readonly kind: string;
  private readonly entries = new Map<string, T>();

  /** @param kind what the entries are, for messages: `backend`, `sampler`, … */
  constructor(kind: string, contributions: Iterable<T>) {
    this.kind = kind;
    for (const contribution of contributions) {
      if (this.entries.has(contribution.name)) {
        throw new GemmoeError(
          'plugin',
          `two ${kind}s are named "${contribution.name}"`,
          `rename one: every ${kind} needs a name of its own`,
        );
      }
      this.entries.set(contribution.name, contribution);
    }
  }

  /** The contribution called `name`; the error lists what exists and the nearest match. */
  get(name: string): T {
    const found = this.entries.get(name);
    if (found) return found;
    const nearest = nearestName(name, this.entries.keys());
    const choices = this.names().join(', ') || 'none';
    throw new GemmoeError(
      'usage',
      `there is no ${this.kind} named "${name}"`,
      `${nearest ? `did you mean "${nearest}"? ` : ''}choices: ${choices}`,
    );
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  names(): string[] {
    return [...this.entries.keys()];
  }

  all(): T[] {
    return [...this.entries.values()];
  }
}
