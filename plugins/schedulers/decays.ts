// Shapes of a decay: from 1 at progress 0 to 0 at progress 1.

/** The names of `decayShape`, which options choose from. */
export const DECAY_SHAPES = ['linear', 'cosine', 'sqrt'] as const;

/** 1 - p, ½(1 + cos πp), or 1 - √p. */
export function decayShape(shape: (typeof DECAY_SHAPES)[number], progress: number): number {
  if (shape === 'linear') return 1 - progress;
  if (shape === 'cosine') return 0.5 * (1 + Math.cos(Math.PI * progress));
  return 1 - Math.sqrt(progress);
}

/** `value` between 0 and 1 as a share of the peak that is not below `floor`. */
export function aboveFloor(floor: number, value: number): number {
  return floor + (1 - floor) * value;
}
