// How many parameters a model of a shape has, by part, without making it.

import type { ModelConfig } from './config.ts';
import { expertLayers } from './layer-kinds.ts';

/** Parameters by part; `expert` counts all experts of all layers, `dense` what a model of experts has beside them. */
export interface ParameterCounts {
  readonly embedding: number;
  readonly attention: number;
  readonly router: number;
  readonly expert: number;
  readonly dense: number;
  readonly norm: number;
  readonly head: number;
  readonly bias: number;
}

export function parameterCounts(config: ModelConfig): ParameterCounts {
  const { hiddenSize: C, numLayers: L, numHeads: H, numKvHeads: KV, headDim: D, numExperts: E } = config;
  const { expertWidth, denseWidth = expertWidth, sharedWidth = 0 } = config;
  const qkNorm = { none: 0, head: 2 * D, whole: (H + KV) * D }[config.qkNorm ?? 'none'];
  const table = config.vocabSize * C;
  const sparse = expertLayers(config).length;
  const others = E > 1 ? L - sparse : 0;
  return {
    embedding: table,
    attention: L * (2 * C * H * D + 2 * C * KV * D),
    router: sparse * (E * C + (config.sharedGate ? C : 0)),
    expert: (E > 1 ? sparse * E : L) * 3 * C * expertWidth,
    dense: 3 * C * (others * denseWidth + sparse * sharedWidth),
    norm: (2 * L + 1) * C + L * qkNorm,
    head: config.tieEmbeddings ? 0 : table,
    bias: L * biasesOfLayer(config) + (config.norm === 'layer' ? C : 0) + (config.headBias ? config.vocabSize : 0),
  };
}

function biasesOfLayer(config: ModelConfig): number {
  const { hiddenSize: C, numHeads: H, numKvHeads: KV, headDim: D, expertWidth: F } = config;
  const qkv = config.qkvBias ? (H + 2 * KV) * D : 0;
  const norms = config.norm === 'layer' ? 2 * C : 0;
  return qkv + (config.outputBias ? C : 0) + (config.mlpBias ? 2 * F + C : 0) + norms;
}

/** All weights of the model. */
export function totalParameters(config: ModelConfig): number {
  return Object.values(parameterCounts(config)).reduce((sum, count) => sum + count, 0);
}

/** Weights that take part in one token: of the experts, only the chosen ones. */
export function activeParameters(config: ModelConfig): number {
  const { expert } = parameterCounts(config);
  return totalParameters(config) - expert + (expert / config.numExperts) * config.topK;
}
