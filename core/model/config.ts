// The shape of a model: what its numbers mean, what makes them valid, and how many parameters they give.

import { z } from 'zod';
import { GemmoeError } from '../errors.ts';
import { RopeScalingSchema, ropeScalingProblem } from './rope-scaling.ts';

const size = z.int().min(1);

/** Field names are ours; `core/formats` maps them to and from the config.json of each model family. */
export const ModelConfigSchema = z.strictObject({
  vocabSize: size,
  /** C */
  hiddenSize: size,
  numLayers: size,
  /** H: query heads. */
  numHeads: size,
  /** KV: key and value heads; 1 is multi-query attention. */
  numKvHeads: size,
  /** D */
  headDim: size,
  /** E; 1 is a dense feed-forward layer without a router. */
  numExperts: size,
  /** K: experts chosen for each token. */
  topK: size,
  /** F: width of each expert. */
  expertWidth: size,
  /** Longest sequence that rope tables and caches are made for. */
  maxSequenceLength: size,
  ropeTheta: z.number().positive(),
  /** NTK-aware stretch: the rope base becomes theta·alpha^(D/(D-2)). */
  ropeAlpha: z.number().positive().default(1),
  normEps: z.number().positive().default(1e-5),
  /** The LM head is the embedding table. */
  tieEmbeddings: z.boolean().default(false),
  /** alpha of the load-balancing loss alpha·E·Σ f_e·P_e, f counted so that it sums to K (Hugging Face's convention). */
  auxLossCoefficient: z.number().nonnegative().default(0.01),
  /**
   * What f and P are means over: `perLayer` takes each layer's own and the mean of the layers' losses, so that every layer is
   * balanced; `pooled` takes all layers' rows together, as Hugging Face does, and lets layers lean against each other.
   */
  auxLossReduction: z.enum(['perLayer', 'pooled']).default('perLayer'),
  /**
   * Routers choose by probability + bias: a bias [E] of each layer that no gradient trains and that changes no weight
   * (Wang et al. 2024, load balancing without auxiliary loss).
   */
  selectionBias: z.boolean().optional(),

  // ------------------------------------------------------------ what public families do otherwise; each is off by default

  /** `model_type` of the family that the model came from and is written as again, where another one could hold it too. */
  family: z.string().optional(),
  /** Biases of the query, key and value projections. */
  qkvBias: z.boolean().optional(),
  /** Bias of attention's output projection. */
  outputBias: z.boolean().optional(),
  /** Biases of a dense feed-forward layer's three projections. */
  mlpBias: z.boolean().optional(),
  /** RMSNorm of queries and keys before rope: over each head, or over the whole projection. */
  qkNorm: z.enum(['head', 'whole']).optional(),
  /** Keys that a query sees, its own among them: of every layer, or a number for each (0: all of them). */
  window: z.union([size, z.array(z.int().min(0))]).optional(),
  /** How rope reads beyond the length it was trained on. */
  ropeScaling: RopeScalingSchema.optional(),
});

export type ModelConfig = z.infer<typeof ModelConfigSchema>;

/** Validates sizes and how they fit together. @throws GemmoeError naming the field, what was found and what to do */
export function parseModelConfig(value: unknown, source = 'model config'): ModelConfig {
  const parsed = ModelConfigSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = issue.path.join('.') || '(top level)';
    throw new GemmoeError('bad-config', `${source}: ${field}: ${issue.message}`, 'correct the field and try again');
  }
  const config = parsed.data;
  const refuse = (message: string, hint: string): never => {
    throw new GemmoeError('bad-config', `${source}: ${message}`, hint);
  };
  if (config.numHeads % config.numKvHeads !== 0) {
    refuse(
      `numHeads is ${config.numHeads}, which numKvHeads ${config.numKvHeads} does not divide`,
      'choose numKvHeads that divides numHeads: each kv head serves as many query heads',
    );
  }
  if (config.headDim % 2 !== 0) {
    refuse(`headDim is ${config.headDim}`, 'rope turns pairs of elements: choose an even headDim');
  }
  if (config.ropeAlpha !== 1 && config.headDim <= 2) {
    refuse(`ropeAlpha is ${config.ropeAlpha} with headDim ${config.headDim}`, 'NTK scaling needs a headDim above 2');
  }
  if (config.topK > config.numExperts) {
    refuse(
      `topK is ${config.topK} but there are only ${config.numExperts} experts`,
      'choose topK of at most numExperts',
    );
  }
  if (config.mlpBias && config.numExperts > 1) {
    refuse('mlpBias is set for a model of experts', 'experts have no biases: leave it out');
  }
  if (Array.isArray(config.window) && config.window.length !== config.numLayers) {
    refuse(
      `window has ${config.window.length} numbers but there are ${config.numLayers} layers`,
      'give one for each layer, or one number for all',
    );
  }
  const problem = ropeScalingProblem(config.ropeScaling, config.headDim);
  if (problem) refuse(...problem);
  return config;
}

/** Keys that a query of `layer` sees, itself included; 0 is all of them. */
export function windowOf({ window = 0 }: ModelConfig, layer: number): number {
  return typeof window === 'number' ? window : window[layer];
}

/** The rope base after NTK-aware scaling: theta·alpha^(D/(D-2)). */
export function ropeBase(config: ModelConfig): number {
  if (config.ropeAlpha === 1) return config.ropeTheta;
  return config.ropeTheta * config.ropeAlpha ** (config.headDim / (config.headDim - 2));
}

/** Parameters by part; `expert` counts all experts of all layers. */
export interface ParameterCounts {
  readonly embedding: number;
  readonly attention: number;
  readonly router: number;
  readonly expert: number;
  readonly norm: number;
  readonly head: number;
  readonly bias: number;
}

export function parameterCounts(config: ModelConfig): ParameterCounts {
  const { hiddenSize: C, numLayers: L, numHeads: H, numKvHeads: KV, headDim: D, numExperts: E } = config;
  const qkNorm = { none: 0, head: 2 * D, whole: (H + KV) * D }[config.qkNorm ?? 'none'];
  const table = config.vocabSize * C;
  return {
    embedding: table,
    attention: L * (2 * C * H * D + 2 * C * KV * D),
    router: E > 1 ? L * E * C : 0,
    expert: L * E * 3 * C * config.expertWidth,
    norm: (2 * L + 1) * C + L * qkNorm,
    head: config.tieEmbeddings ? 0 : table,
    bias: L * biasesOfLayer(config),
  };
}

function biasesOfLayer(config: ModelConfig): number {
  const { hiddenSize: C, numHeads: H, numKvHeads: KV, headDim: D, expertWidth: F } = config;
  const qkv = config.qkvBias ? (H + 2 * KV) * D : 0;
  return qkv + (config.outputBias ? C : 0) + (config.mlpBias ? 2 * F + C : 0);
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
