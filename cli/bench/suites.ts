// The suites `gemm`, `train` and `decode`: rows of one rate for each backend, side by side.

import { packMatrix } from '../../core/backend.ts';
import type { FloatArray } from '../../core/tensor/dtype.ts';
import { KvCache } from '../../core/model/kv-cache.ts';
import type { Transformer } from '../../core/model/transformer.ts';
import type { Contender } from './machine.ts';
import { compete, type Competitor, type Timing, timed, type Trials } from './timing.ts';
import { forwardJob, trainingJob, type Workload } from './workload.ts';

/** One thing that was timed on every backend. */
export interface Row {
  readonly id: string;
  readonly description: string;
  /** Of each backend, in their order. */
  readonly timings: readonly Timing[];
  /** Work of one call, where it can be counted. */
  readonly flops: number | null;
  readonly tokens: number | null;
}

function row(
  id: string,
  description: string,
  competitors: readonly Competitor[],
  work: Pick<Row, 'flops' | 'tokens'>,
  trials: Trials,
): Row {
  return { id, description, timings: compete(competitors, trials), ...work };
}

/** A product as the model calls it. */
interface Shape {
  readonly what: string;
  readonly form: 'A·Bᵀ' | 'A·B' | 'Aᵀ·B';
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** B was packed before. */
  readonly packed?: boolean;
}

/** Products of a model of hidden size 512 (experts of width 1024, vocabulary 8192) on 512 tokens, and cubes. */
export const SHAPES: readonly Shape[] = [
  { what: 'qkv, forward', form: 'A·Bᵀ', m: 512, n: 768, k: 512 },
  { what: 'qkv, to the input', form: 'A·B', m: 512, n: 512, k: 768 },
  { what: 'qkv, to the weights', form: 'Aᵀ·B', m: 768, n: 512, k: 512 },
  { what: 'expert gate and up', form: 'A·Bᵀ', m: 128, n: 2048, k: 512 },
  { what: 'expert down', form: 'A·Bᵀ', m: 128, n: 512, k: 1024 },
  { what: 'expert down, to the weights', form: 'Aᵀ·B', m: 512, n: 1024, k: 128 },
  { what: 'router', form: 'A·Bᵀ', m: 512, n: 8, k: 512 },
  { what: 'head', form: 'A·Bᵀ', m: 512, n: 8192, k: 512 },
  { what: 'head, one token', form: 'A·Bᵀ', m: 1, n: 8192, k: 512 },
  { what: 'head, four tokens', form: 'A·Bᵀ', m: 4, n: 8192, k: 512 },
  ...[64, 128, 256, 512, 1024].map((n) => ({ what: 'cube', form: 'A·Bᵀ', m: n, n, k: n }) as const),
  { what: 'cube, B packed', form: 'A·Bᵀ', m: 64, n: 64, k: 64, packed: true },
  { what: 'expert gate and up of 8 tokens, B packed', form: 'A·Bᵀ', m: 8, n: 2048, k: 512, packed: true },
];

/** One product on one backend. */
export function productOf({ backend }: Contender, { form, m, n, k, packed = false }: Shape): () => void {
  const fill = (length: number) => Float32Array.from({ length }, (_, i) => ((i * 7) % 13) / 13 - 0.5);
  const [a, b, c]: FloatArray[] = [fill(m * k), fill(n * k), new Float32Array(m * n)];
  const [transA, transB] = [form === 'Aᵀ·B', form === 'A·Bᵀ'];
  const [lda, ldb] = [transA ? m : k, transB ? k : n];
  if (packed) {
    const matrix = packMatrix(backend, transB, n, k, b, 0, ldb);
    return () => matrix.gemm(transA, m, 1, a, 0, lda, 0, c, 0, n);
  }
  return () => backend.gemm(transA, transB, m, n, k, 1, a, 0, lda, b, 0, ldb, 0, c, 0, n);
}

export function gemmRows(contenders: readonly Contender[], only: RegExp, trials: Trials): Row[] {
  return SHAPES.filter(({ what }) => only.test(what)).map((shape) => {
    const { what, form, m, n, k } = shape;
    const competitors = contenders.map((contender) => timed(productOf(contender, shape)));
    const flops = 2 * m * n * k;
    return row(`${m}x${n}x${k} ${form}`, what, competitors, { flops, tokens: null }, trials);
  });
}

/** Training steps, or forward passes, of one model. */
export function modelRow(
  contenders: readonly Contender[],
  workload: Workload & { readonly description: string },
  kind: 'train' | 'forward',
  trials: Trials,
): Row {
  const jobs = contenders.map(({ kernels }) =>
    kind === 'train' ? trainingJob(workload, kernels) : forwardJob(workload, kernels),
  );
  const { flops, tokens } = jobs[0];
  return row(kind, workload.description, jobs, { flops, tokens }, trials);
}

/** Tokens that the cache holds while decoding is timed. */
const CONTEXT = 128;

/** One token for each sequence of a batch, over a cache of 128. */
export function decodeRow(
  contenders: readonly Contender[],
  models: readonly Transformer[],
  batch: number,
  trials: Trials,
): Row {
  const competitors = contenders.map((_, i) => {
    const model = models[i];
    model.holdWeights();
    const context = Math.min(CONTEXT, model.config.maxSequenceLength - 1);
    const cache = new KvCache(model.config, batch, context + 1);
    model.forward(new Int32Array(batch * context), batch, context, { cache, logits: 'last' });
    const ids = new Int32Array(batch).fill(1);
    return timed(() => {
      cache.truncate(context);
      model.forward(ids, batch, 1, { cache, logits: 'last' });
    });
  });
  return row(`batch ${batch}`, 'one token a sequence', competitors, { flops: null, tokens: batch }, trials);
}
