// Several observers of one run.

import type { RunObserver } from './events.ts';

/** Tells each of them, in order. */
export function allOf(observers: readonly RunObserver[]): RunObserver {
  return {
    planned: (plan) => observers.forEach((observer) => observer.planned(plan)),
    record: (record) => observers.forEach((observer) => observer.record(record)),
  };
}
