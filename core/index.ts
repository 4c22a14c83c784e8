// The public API of gemmoe's core; backends and plugins have folders of their own.

export {
  BackendContribution,
  type BackendDescription,
  checkGemm,
  checkOperand,
  MatmulBackend,
  type PackedMatrix,
  packMatrix,
} from './backend.ts';
export { createContainer, createGemmoe, type Gemmoe, type GemmoeOptions } from './container.ts';
export { type Corpus, type CorpusOptions, openCorpus } from './data/corpus.ts';
export { prepare, type PrepareOptions } from './data/prepare.ts';
export type { TokenSource } from './data/source.ts';
export type { Tokenizer } from './data/tokenizer.ts';
export { loadTokenizer } from './data/tokenizers.ts';
export { GemmoeError, type ErrorCode } from './errors.ts';
export { loadAdapter, saveAdapter } from './formats/adapter.ts';
export { convertDirectory, type ConvertOptions, type ConvertSummary } from './formats/convert.ts';
export { exportGguf, type GgufExportOptions, type GgufSummary } from './formats/gguf/export.ts';
export { openGguf } from './formats/gguf/read-gguf.ts';
export { loadModel, type LoadedModel, saveModel, type SaveOptions } from './formats/hugging-face.ts';
export { initDirectory, type InitOptions } from './formats/init-directory.ts';
export { chooseModules, linearModules } from './formats/linear-modules.ts';
export { openSafetensors, writeSafetensors } from './formats/safetensors.ts';
export { type ChatAnswer, type ChatOptions, ChatSession } from './generation/chat-session.ts';
export { type ChatMessage, ChatTemplate, findChatTemplate, specialTokensOf } from './generation/chat-template.ts';
export {
  type FinishReason,
  type GeneratedToken,
  type GenerateOptions,
  Generation,
  Generator,
} from './generation/generator.ts';
export { PrefixCache } from './generation/prefix-cache.ts';
export type { ChainSettings } from './generation/chain-presets.ts';
export { createChain, type SamplerChain } from './generation/sampler-chain.ts';
export {
  bindKernels,
  IGNORE_INDEX,
  type Kernels,
  type MatrixBatch,
  nativeKernels,
  newtonSchulzScratch,
} from './kernels.ts';
export { loadPlugin } from './load-plugin.ts';
export { type ModelConfig, parseModelConfig } from './model/config.ts';
export { activeParameters, totalParameters } from './model/parameter-counts.ts';
export { type Matrices, matricesOf } from './model/matrices.ts';
export type { LinearModule } from './model/linear-module.ts';
export { LoraAdapter, type LoraOptions, type LoraTarget } from './model/lora.ts';
export { KvCache } from './model/kv-cache.ts';
export type { Parameter, ParameterStore } from './model/parameters.ts';
export { type Preset, PRESETS } from './model/presets.ts';
export { type ForwardOptions, type LossResult, Transformer } from './model/transformer.ts';
export {
  defineOptimizer,
  definePlugin,
  defineSampler,
  defineScheduler,
  type GenerationContext,
  type Optimizer,
  OptimizerContribution,
  type Plugin,
  PLUGIN_API,
  type Sampler,
  SamplerContribution,
  type SamplingContext,
  type Schedule,
  SchedulerContribution,
} from './plugin.ts';
export { Random } from './random.ts';
export { Registry } from './registry.ts';
export type { FloatArray } from './tensor/dtype.ts';
export { evaluateSource } from './training/evaluate.ts';
export type { RunObserver, RunPlan, RunRecord, RunSummary } from './training/events.ts';
export { groupOptions, parameterRuns, type ParameterRun, parameterSettings } from './training/parameter-groups.ts';
export { planRun, resume, train } from './training/run.ts';
export type { RunSettings } from './training/settings.ts';
export { Trainer, type TrainerOptions, type TrainingStep } from './training/trainer.ts';
export { runTrial, type TrialOptions, type TrialResult } from './training/trial.ts';
