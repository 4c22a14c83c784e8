// The buffers of a pass: planned once per shape, used again at every step.

import { GemmoeError } from '../errors.ts';
import type { FloatArray } from '../tensor/dtype.ts';
import type { Arena } from '../tensor/workspace.ts';
import type { RoutingContext } from './balancing.ts';
import type { Block, BlockActivations, BlockScratch } from './block.ts';
import type { ModelConfig } from './config.ts';
import type { Norm, NormActivations } from './norm.ts';

/** The layers that buffers are planned for. */
export interface Layers {
  readonly config: ModelConfig;
  readonly blocks: readonly Block[];
  readonly finalNorm: Norm;
}

/** Shape of a training pass and what it is to keep. */
export interface TrainingShape {
  /** B */
  readonly batch: number;
  /** T */
  readonly length: number;
  /** Blocks from one kept input to the next: see `segmentLength`. */
  readonly segment: number;
  /** Whether the routers' inputs are jittered. */
  readonly hasJitter: boolean;
}

/** Buffers of one shape of forward pass without gradients: those of all blocks share memory. */
export interface InferencePlan {
  readonly positions: Int32Array;
  readonly starts: Int32Array;
  readonly stream: FloatArray;
  readonly blocks: readonly BlockActivations[];
  readonly last: FloatArray;
  readonly finalNorm: NormActivations;
  readonly logits: FloatArray;
}

/** Buffers of one shape of training step. */
export interface TrainingPlan {
  readonly positions: Int32Array;
  readonly starts: Int32Array;
  /** [L+1] residual streams: the input of each block, and the last one's output. Checkpointed, those between share memory. */
  readonly streams: readonly FloatArray[];
  readonly blocks: readonly BlockActivations[];
  readonly finalNorm: NormActivations;
  readonly logits: FloatArray;
  readonly dNorm: FloatArray;
  readonly dStream: FloatArray;
  /** [L] of [E]: the auxiliary loss's gradient in each layer. */
  readonly dProbabilities: readonly FloatArray[];
  /** [L] on the same memory. */
  readonly scratch: readonly BlockScratch[];
  readonly jittered: RoutingContext['jittered'];
}

/** Buffers of a forward pass that gives `outputs` rows of logits. */
export function planInference(
  arena: Arena,
  { config, blocks, finalNorm }: Layers,
  batch: number,
  length: number,
  outputs: number,
): InferencePlan {
  const { hiddenSize: C, vocabSize: V } = config;
  const rows = batch * length;
  return {
    positions: arena.ints(rows),
    starts: arena.ints(batch),
    stream: arena.floats(rows * C),
    blocks: arena.shared(blocks.map((block) => (shared: Arena) => block.plan(shared, rows))),
    last: arena.floats(outputs * C),
    finalNorm: finalNorm.plan(arena, outputs),
    logits: arena.floats(outputs * V),
  };
}

/** Buffers of a training pass. */
export function planTraining(
  arena: Arena,
  { config, blocks, finalNorm }: Layers,
  { batch, length, segment, hasJitter }: TrainingShape,
): TrainingPlan {
  const { hiddenSize: C, vocabSize: V, numExperts: E } = config;
  const rows = batch * length;
  const L = blocks.length;
  const isKept = (stream: number) => stream % segment === 0 || stream === L;
  const between = Array.from({ length: segment }, (_, i) => (i === 0 ? undefined : arena.floats(rows * C)));
  return {
    positions: arena.ints(rows),
    starts: arena.ints(batch),
    streams: Array.from({ length: L + 1 }, (_, i) => (isKept(i) ? arena.floats(rows * C) : between[i % segment]!)),
    blocks: planSegments(arena, segment, blocks, rows),
    finalNorm: finalNorm.plan(arena, rows),
    logits: arena.floats(rows * V),
    dNorm: arena.floats(rows * C),
    dStream: arena.floats(rows * C),
    dProbabilities: blocks.map(() => arena.floats(E)),
    scratch: arena.shared(blocks.map((block) => (shared: Arena) => block.planBackward(shared, rows))),
    jittered: hasJitter ? { input: arena.floats(rows * C), gradient: arena.floats(rows * C) } : null,
  };
}

/** Activations of every block; those of blocks at the same place of their segments share memory. */
function planSegments(arena: Arena, segment: number, blocks: readonly Block[], rows: number): BlockActivations[] {
  const planned: BlockActivations[] = [];
  for (let place = 0; place < segment; place++) {
    const layers = blocks.map((_, layer) => layer).filter((layer) => layer % segment === place);
    const made = arena.shared(layers.map((layer) => (shared: Arena) => blocks[layer].plan(shared, rows)));
    for (const [i, layer] of layers.entries()) planned[layer] = made[i];
  }
  return planned;
}

/** Blocks from one kept input to the next, of a model of `length` layers. @throws GemmoeError for a number that is none, or that keeps everything */
export function segmentLength(checkpointEvery: number, length: number): number {
  if (checkpointEvery === 0) return length;
  if (Number.isInteger(checkpointEvery) && checkpointEvery > 0 && checkpointEvery < length) return checkpointEvery;
  throw new GemmoeError(
    'bad-config',
    `checkpointEvery is ${checkpointEvery} for a model of ${length} ${length === 1 ? 'layer' : 'layers'}`,
    length === 1
      ? 'leave it at 0: there is nothing to save'
      : `choose 1 to ${length - 1}, or 0 to keep all activations`,
  );
}
