// Clipping by the global gradient norm (Pascanu et al. 2013): g·clip/(norm + eps) when norm > clip.

/** As PyTorch's clip_grad_norm_. */
const EPSILON = 1e-6;

/** Factor on every gradient; 1 when nothing is to be clipped. `clipNorm` 0 switches clipping off. */
export function clipScale(norm: number, clipNorm: number): number {
  if (clipNorm === 0) return 1;
  return Math.min(1, clipNorm / (norm + EPSILON));
}
