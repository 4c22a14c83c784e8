// Every number-crunching step of the model as a function on flat arrays, and how a backend and the portable kernels make a
// complete set of them.
//
// Letters: B batch, T sequence, N = B·T rows (tokens), C hidden, H query heads, KV kv heads, D head size, E experts,
// K chosen experts per token, M = N·K routed rows, F expert width, V vocabulary.
//
// Contract of every kernel:
// - Arrays are flat and row-major; element 0 of an array is the first element of the tensor. A tensor that is a part of a
//   larger buffer is passed as a view (made once, when buffers are planned) or, where rows are strided, with an offset.
// - The caller allocates. Nothing is kept after the call, and after the first call of a shape nothing is allocated.
// - "=" overwrites its output and never reads it; "+=" accumulates. Outputs do not overlap inputs unless it says so.
// - All float arrays of one call have the same element type. Sums run in float64 in the portable kernels.
// - Sizes of 0 are legal and do nothing. Sizes are trusted: the model checks what users give it.

import type { MatmulBackend } from './backend.ts';
import { portableKernels } from './ops/portable.ts';
import type { Random } from './random.ts';
import type { FloatArray } from './tensor/dtype.ts';

export { IGNORE_INDEX } from './ops/cross-entropy.ts';
export { newtonSchulzScratch } from './ops/newton-schulz.ts';

/** Layout and options of an attention call; q, k and v may be column ranges of one [N, (H+2·KV)·D] matrix. */
export interface AttentionShape {
  /** B: sequences. */
  readonly batch: number;
  /** T: query rows of each sequence. */
  readonly queries: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Factor on q·k, usually headDim^-0.5. */
  readonly scale: number;
  /** Query i sees keys j with i - window < j <= i; 0 means all j <= i. */
  readonly window: number;
  /** Elements between two rows of q. */
  readonly queryStride: number;
  /** Elements between two rows of k, and of v. */
  readonly keyStride: number;
  /** Elements between the first keys of two sequences. */
  readonly keyBatchStride: number;
  /**
   * [B·T] with starts = 0: query i of a sequence sees no key before firstKeys[i], which is at most i and never falls within the
   * sequence. So documents that stand in one sequence do not see each other. Absent: all are 0.
   */
  readonly firstKeys?: Int32Array | undefined;
}

/** How a router turns logits into weights. */
export interface RouterOptions {
  readonly numExperts: number;
  readonly topK: number;
  /** Divide the K chosen probabilities by their sum. */
  readonly renormalise: boolean;
  /** They are divided by this at least; 0 by default. */
  readonly smallestSum?: number | undefined;
}

/** How a sparsemixer router chooses its two experts. */
export interface SparseMixerOptions {
  readonly numExperts: number;
  /** Logits z are near the best one m where (m - z) / max(|z|, m) <= 2·jitter. */
  readonly jitter: number;
}

/** Sizes of an expert layer. */
export interface ExpertsShape {
  /** N: rows that come in. */
  readonly tokens: number;
  /** C */
  readonly hiddenSize: number;
  /** E */
  readonly numExperts: number;
  /** K */
  readonly topK: number;
  /** F */
  readonly expertWidth: number;
}

/** Where every row of every expert comes from; made by `dispatch`. */
export interface Routing {
  /** [N,K] chosen experts. */
  readonly experts: Int32Array;
  /** [N,K] their weights. */
  readonly weights: FloatArray;
  /** [E+1] expert e owns routed rows offsets[e] … offsets[e+1]-1. */
  readonly offsets: Int32Array;
  /** [M] token of each routed row. */
  readonly rows: Int32Array;
  /** [N,K] routed row of each (token, choice). */
  readonly slots: Int32Array;
}

/** What the forward pass of an expert layer leaves for its backward pass. */
export interface ExpertsSaved {
  /** [M,C] input rows by expert. */
  readonly gathered: FloatArray;
  /** [M,2F] gate, then up. */
  readonly gateUp: FloatArray;
  /** [M,F] SiLU(gate)·up. */
  readonly hidden: FloatArray;
  /** [M,C] expert outputs before weighting. */
  readonly output: FloatArray;
}

/** Matrices of one shape that lie in one flat array: what Muon's kernels work on together. */
export interface MatrixBatch {
  /** First element of each matrix, whole numbers; the matrices do not overlap. */
  readonly offsets: Float64Array;
  readonly rows: number;
  readonly columns: number;
}

/** Settings of an Adafactor step, see core/ops/adafactor.ts. */
export interface AdafactorOptions {
  readonly learningRate: number;
  /** 1 for the first. */
  readonly step: number;
  readonly decayRate: number;
  readonly eps1: number;
  readonly eps2: number;
  /** Largest root mean square of the update. */
  readonly clip: number;
  /** Steps relative to the root mean square of p, with a rate of at most 1/√step. */
  readonly relative: boolean;
  readonly weightDecay: number;
  readonly gradientScale: number;
}

export interface Kernels {
  /** `C = alpha·op(A)·op(B) + beta·C`; see MatmulBackend. */
  readonly gemm: MatmulBackend['gemm'];

  // ------------------------------------------------------------ linear

  /** y [N,O] (+)= x [N,I] · w [O,I]ᵀ + b [O]; overwrites y unless `accumulate`. */
  linear(
    y: FloatArray,
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | null,
    N: number,
    I: number,
    O: number,
    accumulate: boolean,
  ): void;
  /** `linear` with weights held as bfloat16 bits, each widened to the float that it is. */
  linearBf16(
    y: FloatArray,
    x: FloatArray,
    w: Uint16Array,
    b: FloatArray | null,
    N: number,
    I: number,
    O: number,
    accumulate: boolean,
  ): void;
  /** dx [N,I] (+)= dy·w; dw [O,I] += dyᵀ·x; db [O] += Σ rows of dy. A null output is not computed. */
  linearBackward(
    dx: FloatArray | null,
    dw: FloatArray | null,
    db: FloatArray | null,
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    N: number,
    I: number,
    O: number,
    accumulateDx: boolean,
  ): void;
  /** For each expert e, rows r in [offsets[e], offsets[e+1]): y [M,O] = x [M,I] · w[e] [O,I]ᵀ. */
  groupedLinear(
    y: FloatArray,
    x: FloatArray,
    w: FloatArray,
    offsets: Int32Array,
    E: number,
    I: number,
    O: number,
  ): void;
  /**
   * Copies w [groups,O,I] into the layout that products x·w[g]ᵀ run fastest from: kernels that get this very array as weights
   * use the copy until the function that is returned is called. Meanwhile its values must not change. Results are the same.
   */
  holdWeights(w: FloatArray, groups: number, O: number, I: number): () => void;
  /** Per expert: dx [M,I] = dy·w[e]; dw[e] [O,I] += dyᵀ·x. */
  groupedLinearBackward(
    dx: FloatArray,
    dw: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    offsets: Int32Array,
    E: number,
    I: number,
    O: number,
  ): void;

  // ------------------------------------------------------------ rows and elements

  /** y [N,C] = table [V,C] rows of ids [N]. */
  embedding(y: FloatArray, table: FloatArray, ids: Int32Array, N: number, C: number): void;
  /** `embedding` with a table held as bfloat16 bits. */
  embeddingBf16(y: FloatArray, table: Uint16Array, ids: Int32Array, N: number, C: number): void;
  /** dTable [V,C] += dy [N,C] at ids. */
  embeddingBackward(dTable: FloatArray, dy: FloatArray, ids: Int32Array, N: number, C: number): void;
  /** y [count] += x. */
  add(y: FloatArray, x: FloatArray, count: number): void;
  /** y [count] = factor·x; y may be x. */
  scale(y: FloatArray, x: FloatArray, factor: number, count: number): void;
  /** y [count] = x held between -limit and limit; y may be x. */
  clamp(y: FloatArray, x: FloatArray, limit: number, count: number): void;
  /** dx [count] = dy where |x| <= limit, 0 elsewhere; dx may be dy. */
  clampBackward(dx: FloatArray, dy: FloatArray, x: FloatArray, limit: number, count: number): void;
  /** y [N,C] = x · rstd · gamma [C], rstd [N] = 1/sqrt(mean(x²) + eps), kept for the backward pass. */
  rmsNorm(y: FloatArray, rstd: FloatArray, x: FloatArray, gamma: FloatArray, N: number, C: number, eps: number): void;
  /** dx [N,C] += …; dGamma [C] += Σ dy·x·rstd. */
  rmsNormBackward(
    dx: FloatArray,
    dGamma: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    gamma: FloatArray,
    rstd: FloatArray,
    N: number,
    C: number,
  ): void;
  /**
   * y [N,C] = (x - mean)·rstd·gamma + beta, gamma and beta [C]; mean [N] and rstd [N] = 1/sqrt(variance + eps), kept for the
   * backward pass.
   */
  layerNorm(
    y: FloatArray,
    mean: FloatArray,
    rstd: FloatArray,
    x: FloatArray,
    gamma: FloatArray,
    beta: FloatArray,
    N: number,
    C: number,
    eps: number,
  ): void;
  /** dx [N,C] += …; dGamma [C] += Σ dy·(x - mean)·rstd; dBeta [C] += Σ dy. */
  layerNormBackward(
    dx: FloatArray,
    dGamma: FloatArray,
    dBeta: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    gamma: FloatArray,
    mean: FloatArray,
    rstd: FloatArray,
    N: number,
    C: number,
  ): void;
  /**
   * Rotates, in place, `heads` heads of size D in each of N rows: element pairs (i, i + D/2) turn by the angle of the row's
   * position. Row r starts at offset + r·stride; cos and sin are [positions, D/2]. `inverse` turns back (the gradient).
   */
  rope(
    x: FloatArray,
    offset: number,
    stride: number,
    cos: FloatArray,
    sin: FloatArray,
    positions: Int32Array,
    N: number,
    heads: number,
    D: number,
    inverse: boolean,
  ): void;
  /** As `rope`, of element pairs (2i, 2i + 1). */
  ropeInterleaved(
    x: FloatArray,
    offset: number,
    stride: number,
    cos: FloatArray,
    sin: FloatArray,
    positions: Int32Array,
    N: number,
    heads: number,
    D: number,
    inverse: boolean,
  ): void;
  /** y [rows,n] = softmax of each row of x; y may be x. A row of -Infinity gives NaN. */
  softmax(y: FloatArray, x: FloatArray, rows: number, n: number): void;
  /** hidden [M,F] = SiLU(gate)·up of gateUp [M,2F] = (gate | up). */
  swiglu(hidden: FloatArray, gateUp: FloatArray, M: number, F: number): void;
  /** dGateUp [M,2F] = … of dHidden [M,F]; dGateUp may be gateUp. */
  swigluBackward(dGateUp: FloatArray, dHidden: FloatArray, gateUp: FloatArray, M: number, F: number): void;

  // ------------------------------------------------------------ attention

  /**
   * Causal grouped-query attention: out [B·T, H·D] = softmax(q·kᵀ·scale) · v, query head h reading kv head
   * floor(h / (H/KV)). Row t of sequence b stands at position starts[b] + t and sees keys 0 … that position, so
   * starts = 0 is the full forward pass and a cache passes its lengths. logSumExp [B·H·T] (row-major b, h, t) is kept for the
   * backward pass; null where there is none.
   */
  attention(
    out: FloatArray,
    logSumExp: FloatArray | null,
    q: FloatArray,
    qOffset: number,
    k: FloatArray,
    kOffset: number,
    v: FloatArray,
    vOffset: number,
    starts: Int32Array,
    shape: AttentionShape,
  ): void;
  /** dq, dk, dv = …, laid out as q, k, v (same offsets and strides); for starts = 0 only. */
  attentionBackward(
    dq: FloatArray,
    dk: FloatArray,
    dv: FloatArray,
    dOut: FloatArray,
    out: FloatArray,
    logSumExp: FloatArray,
    q: FloatArray,
    qOffset: number,
    k: FloatArray,
    kOffset: number,
    v: FloatArray,
    vOffset: number,
    shape: AttentionShape,
  ): void;

  // ------------------------------------------------------------ mixture of experts

  /**
   * probabilities [N,E] = softmax(logits); experts [N,K] = the K largest (ties: lowest index first), in falling order;
   * weights [N,K] = their probabilities, divided by their sum if `renormalise`.
   */
  router(
    probabilities: FloatArray,
    weights: FloatArray,
    experts: Int32Array,
    logits: FloatArray,
    N: number,
    options: RouterOptions,
  ): void;
  /**
   * dLogits [N,E] = gradient through weights (dWeights [N,K]) and, where dProbabilities [E] is given, through the
   * probabilities of every token alike: the auxiliary loss, whose gradient is one vector for all rows.
   */
  routerBackward(
    dLogits: FloatArray,
    dWeights: FloatArray,
    dProbabilities: FloatArray | null,
    probabilities: FloatArray,
    weights: FloatArray,
    experts: Int32Array,
    N: number,
    options: RouterOptions,
  ): void;
  /**
   * The choice of `router` with a bias [E] on it: experts [N,K] = the K largest of probabilities + bias (ties: lowest index
   * first), in falling order; weights [N,K] = their probabilities without the bias, divided by their sum if `renormalise`.
   * `routerBackward` is the gradient of this too: the bias moves the choice alone.
   */
  chooseExperts(
    weights: FloatArray,
    experts: Int32Array,
    probabilities: FloatArray,
    bias: FloatArray,
    N: number,
    options: RouterOptions,
  ): void;
  /**
   * probabilities [N,E] = softmax(logits); experts [N,2] = the largest logit and the largest of the others (ties: lowest index
   * first); weights [N,2] = exp(logit) over the sum of it for the experts near the chosen one, for the second without the first.
   */
  sparseMixer(
    probabilities: FloatArray,
    weights: FloatArray,
    experts: Int32Array,
    logits: FloatArray,
    N: number,
    options: SparseMixerOptions,
  ): void;
  /** As `routerBackward`, of `sparseMixer`: which experts are near has no gradient. */
  sparseMixerBackward(
    dLogits: FloatArray,
    dWeights: FloatArray,
    dProbabilities: FloatArray | null,
    probabilities: FloatArray,
    logits: FloatArray,
    experts: Int32Array,
    N: number,
    options: SparseMixerOptions,
  ): void;
  /**
   * Returns Σ_n logsumexp(logits[n])² over rows of logits [N,E], and adds its gradient, times `scale`, to dLogits [N,E]:
   * += scale·2·logsumexp(logits)·softmax(logits). Null computes the sum alone.
   */
  zLoss(dLogits: FloatArray | null, logits: FloatArray, N: number, E: number, scale: number): number;
  /** Fills offsets, rows and slots of `routing` from its experts: a stable counting sort of (token, choice) by expert. */
  dispatch(routing: Routing, N: number, options: RouterOptions): void;
  /** y [M,C] = x [N,C] at rows [M]. */
  gather(y: FloatArray, x: FloatArray, rows: Int32Array, M: number, C: number): void;
  /** dx [N,C] = Σ_k dy[slots[n,k]]: the gradient of `gather`. */
  gatherBackward(dx: FloatArray, dy: FloatArray, slots: Int32Array, N: number, K: number, C: number): void;
  /** y [N,C] += Σ_k weights[n,k] · x[slots[n,k]], x [M,C]. */
  combine(y: FloatArray, x: FloatArray, weights: FloatArray, slots: Int32Array, N: number, K: number, C: number): void;
  /** dx [M,C] = weights · dy; dWeights [N,K] = dy · x. */
  combineBackward(
    dx: FloatArray,
    dWeights: FloatArray,
    dy: FloatArray,
    x: FloatArray,
    weights: FloatArray,
    slots: Int32Array,
    N: number,
    K: number,
    C: number,
  ): void;
  /**
   * A whole expert layer: y [N,C] += Σ_k weights · down_e(SiLU(gate_e x) ⊙ up_e x), with wGateUp [E,2F,C] (gate rows, then
   * up rows) and wDown [E,C,F]. Default: gather, groupedLinear, swiglu, groupedLinear, combine.
   */
  experts(
    y: FloatArray,
    saved: ExpertsSaved,
    x: FloatArray,
    wGateUp: FloatArray,
    wDown: FloatArray,
    routing: Routing,
    shape: ExpertsShape,
  ): void;
  /** `experts` with weights held as bfloat16 bits. */
  expertsBf16(
    y: FloatArray,
    saved: ExpertsSaved,
    x: FloatArray,
    wGateUp: Uint16Array,
    wDown: Uint16Array,
    routing: Routing,
    shape: ExpertsShape,
  ): void;
  /**
   * dx [N,C] =, dWeights [N,K] =, dWGateUp and dWDown +=. `scratch` has the shapes of `saved` and is overwritten.
   */
  expertsBackward(
    dx: FloatArray,
    dWeights: FloatArray,
    dWGateUp: FloatArray,
    dWDown: FloatArray,
    scratch: ExpertsSaved,
    dy: FloatArray,
    saved: ExpertsSaved,
    wGateUp: FloatArray,
    wDown: FloatArray,
    routing: Routing,
    shape: ExpertsShape,
  ): void;

  // ------------------------------------------------------------ loss and optimizers

  /**
   * Returns Σ -log softmax(logits [N,V])[target] over rows whose target is not IGNORE_INDEX, and, where `gradient` is given
   * (it may be `logits`), writes scale·(softmax - onehot), zero in ignored rows.
   */
  crossEntropy(
    gradient: FloatArray | null,
    logits: FloatArray,
    targets: Int32Array,
    N: number,
    V: number,
    scale: number,
  ): number;
  /** Σ x². */
  sumOfSquares(x: FloatArray): number;
  /**
   * AdamW (Loshchilov & Hutter 2019) on `count` elements from `offset` of flat arrays: p *= 1 - lr·decay, moments of
   * g·gradientScale, bias corrections for step 1, 2, …, p -= lr·m̂/(√v̂ + eps); then g = 0.
   */
  adamw(
    p: FloatArray,
    g: FloatArray,
    m: FloatArray,
    v: FloatArray,
    offset: number,
    count: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    step: number,
    gradientScale: number,
  ): void;
  /**
   * SGD as PyTorch's: g' = g·gradientScale + decay·p; with a velocity v = momentum·v + g' (v = g' at step 1), the update is v,
   * or g' + momentum·v with `nesterov`; p -= lr·update; then g = 0. `velocity` is null where momentum is 0.
   */
  sgd(
    p: FloatArray,
    g: FloatArray,
    velocity: FloatArray | null,
    offset: number,
    count: number,
    learningRate: number,
    momentum: number,
    nesterov: boolean,
    weightDecay: number,
    step: number,
    gradientScale: number,
  ): void;

  /**
   * Adam (Kingma & Ba 2015) as PyTorch's: g' = g·gradientScale + decay·p, then as `adamw` without a decay of its own. Where
   * `vMax` is given (AMSGrad), vMax = max(vMax, v) stands for v in the step.
   */
  adam(
    p: FloatArray,
    g: FloatArray,
    m: FloatArray,
    v: FloatArray,
    vMax: FloatArray | null,
    offset: number,
    count: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    step: number,
    gradientScale: number,
  ): void;
  /**
   * Adafactor (Shazeer & Stern 2018) on one matrix [rows, columns] from `offset`: row [rows] and column [columns] are the
   * averages of g'², g' = g·gradientScale. For a vector [rows] `column` is null, columns 1, and row its second moment.
   * Afterwards g = 0.
   */
  adafactor(
    p: FloatArray,
    g: FloatArray,
    row: FloatArray,
    rowOffset: number,
    column: FloatArray | null,
    columnOffset: number,
    offset: number,
    rows: number,
    columns: number,
    options: AdafactorOptions,
  ): void;
  /**
   * Schedule-free AdamW (Defazio et al. 2024), p being the point y of the gradient: v = β₂v + (1-β₂)g'²,
   * z -= lr·(g'/(√v̂ + eps) + decay·p), x += averaging·(z - x), p = z + β₁(x - z) in float64 from z and x as stored, so that they alone
   * give p back; then g = 0.
   */
  scheduleFree(
    p: FloatArray,
    g: FloatArray,
    z: FloatArray,
    x: FloatArray,
    v: FloatArray,
    offset: number,
    count: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    averaging: number,
    step: number,
    gradientScale: number,
  ): void;
  /**
   * Lion (Chen et al. 2023) on `count` elements from `offset`: p *= 1 - lr·decay, p -= lr·sign(β₁m + (1-β₁)g'),
   * m = β₂m + (1-β₂)g', g' = g·gradientScale; then g = 0. The sign of 0 is 0.
   */
  lion(
    p: FloatArray,
    g: FloatArray,
    m: FloatArray,
    offset: number,
    count: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    weightDecay: number,
    gradientScale: number,
  ): void;

  // ------------------------------------------------------------ Muon, in the order of its step

  /**
   * Momentum on `count` elements from `offset` (Jordan et al. 2024): m += (1-μ)·(g' - m), g' = g·gradientScale, and g = the
   * direction to be orthogonalised: m, or g' + μ·(m - g') with `nesterov`.
   */
  muonMomentum(
    g: FloatArray,
    m: FloatArray,
    offset: number,
    count: number,
    momentum: number,
    nesterov: boolean,
    gradientScale: number,
  ): void;
  /**
   * Newton–Schulz iteration, in place: every matrix X of the batch is divided by its Frobenius norm (+ 1e-7); then, for each
   * triple (a, b, c) of `coefficients` in turn, X = aX + (bA + cA²)X with A = X·Xᵀ, or, where rows > columns, the same from
   * the right with A = Xᵀ·X. With the right coefficients X comes near the orthogonal matrix U·Vᵀ of X = U·S·Vᵀ.
   * `scratch` (at least `newtonSchulzScratch(rows, columns)` elements) is overwritten; nothing around the matrices is touched.
   * `rounded` (default false) lets a backend with instructions for bfloat16 round the operands of the products to it: the
   * direction needs no more, and Jordan et al. run it so; other backends pass it over.
   */
  newtonSchulz(
    x: FloatArray,
    batch: MatrixBatch,
    coefficients: Float64Array,
    scratch: FloatArray,
    rounded?: boolean,
  ): void;
  /**
   * NorMuon's second step (Li et al. 2025), in place: rows r of all matrices, counted through the batch, are evened out by
   * v[r] = β₂v[r] + (1-β₂)·mean(x_r²), x_r /= √v[r] + 1e-8; each matrix is then brought back to its norm. v [matrices·rows].
   */
  muonNormalise(x: FloatArray, batch: MatrixBatch, v: FloatArray, beta2: number): void;
  /**
   * p -= decay·p + rate·g on `count` elements from `offset`; then g = 0. `cautious` decays only where g·p >= 0, so that the
   * decay never works against the step.
   */
  muonUpdate(
    p: FloatArray,
    g: FloatArray,
    offset: number,
    count: number,
    rate: number,
    decay: number,
    cautious: boolean,
  ): void;

  // ------------------------------------------------------------ random numbers

  /** out = mean + deviation·normal values: `random.fillNormal`, bit for bit, on every backend. */
  fillNormal(out: FloatArray, random: Random, mean: number, deviation: number, step: number, start: number): void;

  // ------------------------------------------------------------ casts (16-bit values as Uint16Array)

  /** Round to nearest even; NaN stays NaN. */
  toBf16(out: Uint16Array, x: FloatArray): void;
  fromBf16(out: FloatArray, x: Uint16Array): void;
  /** Round to nearest even; beyond 65504 becomes Infinity. */
  toF16(out: Uint16Array, x: FloatArray): void;
  fromF16(out: FloatArray, x: Uint16Array): void;
  /** out [count] = x rounded to bfloat16, as toBf16 and fromBf16; out may be x. */
  roundToBf16(out: FloatArray, x: FloatArray, count: number): void;
  /** out [count] = x rounded to IEEE half, as toF16 and fromF16: beyond 65504 it is infinite; out may be x. */
  roundToF16(out: FloatArray, x: FloatArray, count: number): void;
}

export type KernelName = keyof Kernels;

/** The products of a model's weights: what mixed precision runs on operands of 16 bits. */
export type ProductKernels = Pick<Kernels, 'linear' | 'linearBackward' | 'experts' | 'expertsBackward'>;

/** A complete set: what the backend brings itself, the portable kernels over its gemm for the rest. */
export function bindKernels(backend: MatmulBackend): Kernels {
  return portableKernels(backend.gemm.bind(backend), backend.kernels ?? {});
}

/** Names of the kernels that run in the backend itself; the others are portable TypeScript over its gemm. */
export function nativeKernels(backend: MatmulBackend): KernelName[] {
  return ['gemm', ...(Object.keys(backend.kernels ?? {}) as KernelName[])];
}
