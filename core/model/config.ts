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
  /** Rope turns pairs of neighbours, (x_2i, x_2i+1), and not (x_i, x_i+D/2). */
  ropeInterleaved: z.boolean().optional(),
  /** Queries, keys and values are held between -clipQkv and clipQkv before rope. */
  clipQkv: z.number().positive().optional(),
  /** Factor on q·k; headDim^-0.5 by default. */
  attentionMultiplier: z.number().positive().optional(),
  /** Factors on the embedding, and on what attention and feed-forward layers add to the residual stream; 1 by default. */
  embeddingMultiplier: z.number().positive().optional(),
  residualMultiplier: z.number().positive().optional(),
  /** What logits are divided by; 1 by default. */
  logitsDivisor: z.number().positive().optional(),
  /** Whether the chosen experts' probabilities are divided by their sum; true by default. */
  renormalise: z.boolean().optional(),
  /** The least that they are divided by. */
  renormaliseFloor: z.number().positive().optional(),
  /** Experts are chosen by sparsemixer with this tolerance (see SparseMixerOptions), two of them. */
  sparseMixer: z.number().nonnegative().optional(),
  /** Width of an expert that every token passes beside the chosen ones. */
  sharedWidth: size.optional(),
  /** The shared expert's output is multiplied by sigmoid of a projection of its input. */
  sharedGate: z.boolean().optional(),
  /** Layers of a model of experts that have one dense feed-forward layer in their place. */
  denseLayers: z.array(z.int().min(0)).optional(),
  /** Its width. */
  denseWidth: size.optional(),
  /** `layer` is LayerNorm with biases; RMSNorm by default. */
  norm: z.enum(['rms', 'layer']).optional(),
  /** Bias of the LM head. */
  headBias: z.boolean().optional(),
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
  const problem = ropeScalingProblem(config.ropeScaling, config.headDim) ?? switchProblem(config);
  if (problem) refuse(...problem);
  return config;
}

/** What of the switches cannot go together, and what to do; undefined where nothing is wrong. */
function switchProblem(config: ModelConfig): readonly [string, string] | undefined {
  const { numLayers: L, numExperts, topK, window, denseLayers } = config;
  const ofExperts = ['sharedWidth', 'sparseMixer', 'renormaliseFloor', 'denseWidth', 'denseLayers'] as const;
  const useless = numExperts > 1 ? undefined : ofExperts.find((field) => config[field] !== undefined);
  if (useless) return [`${useless} is set for a dense model`, 'it is for models of experts: leave it out'];
  if (config.mlpBias && numExperts > 1) {
    return ['mlpBias is set for a model of experts', 'experts have no biases: leave it out'];
  }
  if (config.headBias && config.tieEmbeddings) {
    return ['headBias is set, but the LM head is the embedding table', 'set tieEmbeddings to false, or leave it out'];
  }
  if (config.sharedGate && config.sharedWidth === undefined) {
    return ['sharedGate is set, but there is no shared expert', 'set sharedWidth, or leave it out'];
  }
  if (config.sparseMixer !== undefined && (topK !== 2 || config.selectionBias)) {
    const what = config.selectionBias ? 'selectionBias is set' : `topK is ${topK}`;
    return [`${what}, but sparsemixer chooses two experts by their logits`, 'set topK to 2 and no selectionBias'];
  }
  if (Array.isArray(window) && window.length !== L) {
    const found = `window has ${window.length} numbers but there are ${L} layers`;
    return [found, 'give one for each layer, or one number for all'];
  }
  const beyond = denseLayers?.find((layer) => layer >= L);
  if (beyond !== undefined) return [`denseLayers has ${beyond}, but layers are 0 to ${L - 1}`, 'name layers that are'];
  if (denseLayers && new Set(denseLayers).size >= L) {
    return ['every layer is in denseLayers', 'leave one to the experts, or set numExperts to 1'];
  }
  return undefined;
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
