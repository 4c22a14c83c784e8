// Coefficients of Newton–Schulz steps: (a, b, c) of the odd polynomial a·s + b·s³ + c·s⁵ that each applies to the singular
// values.

/** Jordan et al. 2024: one polynomial for every step; fast, ends between 0.7 and 1.2. */
const JORDAN = [3.4445, -4.775, 2.0315] as const;

/** Polar Express (Amsel et al. 2025): the best polynomial for each step, as used in modded-nanogpt; the last one repeats. */
const POLAR_EXPRESS = [
  [8.156554524902461, -22.48329292557795, 15.878769915207462],
  [4.042929935166739, -2.808917465908714, 0.5000178451051316],
  [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
  [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
  [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
] as const;

/** Singular values begin at most 1/SAFETY, since these polynomials grow fast above 1. */
const SAFETY = 1.02;

export const ITERATIONS = ['jordan', 'polar-express'] as const;

/** [3·steps] triples of a scheme. */
export function coefficientsOf(scheme: (typeof ITERATIONS)[number], steps: number): Float64Array {
  const triples = Array.from({ length: steps }, (_, i) =>
    scheme === 'jordan' ? JORDAN : POLAR_EXPRESS[Math.min(i, POLAR_EXPRESS.length - 1)],
  );
  const coefficients = Float64Array.from(triples.flat());
  // p(s/SAFETY) is a polynomial in s with these coefficients
  if (scheme === 'polar-express') [0, 1, 2].forEach((i) => (coefficients[i] /= SAFETY ** (2 * i + 1)));
  return coefficients;
}
