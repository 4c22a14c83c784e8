// Which of the model's switches a family can hold: a model is written as a family only if nothing of it gets lost.

import type { ModelConfig } from '../../model/config.ts';

/** Fields of ModelConfig that not every family has. Rope's are not among them: all families read all kinds. */
const SWITCHES = [
  ...([
    'qkvBias',
    'outputBias',
    'mlpBias',
    'headBias',
    'norm',
    'qkNorm',
    'clipQkv',
    'window',
    'ropeInterleaved',
  ] as const),
  ...(['attentionMultiplier', 'embeddingMultiplier', 'residualMultiplier', 'logitsDivisor'] as const),
  ...(['renormalise', 'renormaliseFloor', 'sparseMixer', 'sharedWidth', 'sharedGate', 'denseLayers'] as const),
] as const;

/** What a field says that is there and asks for nothing. */
const OFF: Readonly<Partial<Record<keyof ModelConfig, unknown>>> = {
  ...{ qkvBias: false, outputBias: false, mlpBias: false, headBias: false, ropeInterleaved: false, sharedGate: false },
  ...{ norm: 'rms', renormalise: true, embeddingMultiplier: 1, residualMultiplier: 1, logitsDivisor: 1 },
};

export type Switch = (typeof SWITCHES)[number];

/** The switches that are on in a model. */
export function switchesOn(config: ModelConfig): Switch[] {
  return SWITCHES.filter((name) => isOn(config, name));
}

/** Whether a family that has `switches` and no others can hold the model. */
export function holds(config: ModelConfig, switches: readonly Switch[]): boolean {
  return switchesOn(config).every((name) => switches.includes(name));
}

/** Whether all projections of attention have a bias, or none. */
export function biasesAgree({ qkvBias = false, outputBias = false }: ModelConfig): boolean {
  return qkvBias === outputBias;
}

/** Both kinds of bias, as families that have them in all four projections say it. */
export function attentionBiases(hasBias: boolean): Pick<ModelConfig, 'qkvBias' | 'outputBias'> {
  return hasBias ? { qkvBias: true, outputBias: true } : {};
}

function isOn(config: ModelConfig, name: Switch): boolean {
  if (name === 'window') return Array.isArray(config.window) ? config.window.some((size) => size > 0) : !!config.window;
  if (name === 'denseLayers') return (config.denseLayers?.length ?? 0) > 0;
  return config[name] !== undefined && config[name] !== OFF[name];
}
