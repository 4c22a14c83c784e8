// What a compiled set of kernels is given and what it offers. Plain C types only: this header is included by sources that are
// compiled for different instruction sets, and an inline function shared between them could be linked from the wrong one.
#pragma once
#include <stddef.h>
#include <stdint.h>

/** Precision of matrix products. */
enum Precision { PRECISION_F32 = 0, PRECISION_BF16 = 1, PRECISION_BF16X2 = 2, PRECISION_BF16X3 = 3 };

/** Scratch buffers of one thread; each grows to the largest size asked for and stays. */
enum Slot { SLOT_PACK, SLOT_PACK_A, SLOT_SCORES, SLOT_KEYS, SLOT_VALUES, SLOT_GRADIENT, SLOT_SUMS, SLOT_COUNT };

/** cblas_sgemm. */
typedef void (*SgemmFunction)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

/** Matrices [groups][n,k] at `base` whose op(B) = Bᵀ is packed in `precision`, `bytes` for each. */
struct HeldWeights {
  const float* base;
  long groups, n, k;
  int precision;
  const char* packed;
  size_t bytes;
};

/** What kernels run in: threads, scratch memory, and how products are to be made. */
struct Context {
  int threads;
  int precision;
  /** A BLAS for products of at least `blasFrom` multiplications; null where there is none. */
  SgemmFunction sgemm;
  double blasFrom;
  /** The BLAS runs on threads of its own (Apple's): products are handed over whole. */
  int blasThreads;
  /** Runs body(argument, part) for part = 0 … parts-1, part p always on thread p, and returns when all are done. */
  void (*run)(Context* context, void (*body)(void* argument, int part), void* argument, int parts);
  /** 64-byte aligned memory of a thread, its content undefined. */
  void* (*scratch)(Context* context, int part, int slot, size_t bytes);
  /** In order of their addresses. */
  const HeldWeights* held;
  long heldCount;
};

/** C = alpha·op(A)·op(B) + beta·C; element (i,p) of op(A) is a[i·aRow + p·aColumn], likewise B, one stride of each being 1. */
struct Product {
  long m, n, k;
  const float* a;
  long aRow, aColumn;
  const float* b;
  long bRow, bColumn;
  float* c;
  long ldc;
  float alpha, beta;
  /** B as bits of bfloat16 in place of `b`, stored [n,k]; null where it is in floats. */
  const uint16_t* bHalf;
  /** What `pack` made of B beside it; null where it is packed anew. */
  const void* packed;
};

/** AttentionShape of core/kernels.ts. */
struct AttentionShape {
  long batch, queries, heads, kvHeads, headDim;
  float scale;
  long window, queryStride, keyStride, keyBatchStride;
  /** [batch·queries], or null; see core/kernels.ts. */
  const int32_t* firstKeys;
};

/** Buffers of an expert layer: ExpertsSaved, and its sizes. */
struct ExpertsBuffers {
  float *gathered, *gateUp, *hidden, *output;
};
struct ExpertsShape {
  long N, C, E, K, F;
};

/** AdafactorOptions of core/kernels.ts. */
struct AdafactorValues {
  double learningRate, step, decayRate, eps1, eps2, clip;
  int relative;
  double weightDecay, gradientScale;
};

/** Settings of a step of schedule-free AdamW. */
struct ScheduleFreeValues {
  double learningRate, beta1, beta2, eps, weightDecay, averaging, step, gradientScale;
};

/** A stream of core/random.ts: its key, its number and a step of it. */
struct NormalStream {
  uint32_t keyLow, keyHigh, stream, step;
};

/** The kernels of one instruction-set level; shapes and meaning as in core/kernels.ts. */
struct KernelTable {
  const char* name;
  /** Precisions whose products run on hardware made for them, as a bit set of 1 << Precision. */
  int nativePrecisions;
  /** Asks the system for what the level needs (AMX tiles); 0 when it is refused. */
  int (*prepare)(void);

  void (*gemm)(Context*, const Product*);
  /** Bytes that op(B) [k,n] takes when packed in the context's precision; 0 where products read B itself. */
  size_t (*packedBytes)(const Context*, long n, long k);
  /** Packs the B of a product. 0 where it cannot be: it holds values that the precision cannot split. */
  int (*pack)(const Context*, const Product*, void* packed);
  void (*linear)(Context*, float* y, const float* x, const float* w, const float* b, long N, long I, long O, int accumulate);
  void (*linearBackward)(Context*, float* dx, float* dw, float* db, const float* dy, const float* x, const float* w, long N,
                         long I, long O, int accumulateDx);
  void (*groupedLinear)(Context*, float* y, const float* x, const float* w, const int32_t* offsets, long E, long I, long O);
  void (*groupedLinearBackward)(Context*, float* dx, float* dw, const float* dy, const float* x, const float* w,
                                const int32_t* offsets, long E, long I, long O);
  void (*embedding)(Context*, float* y, const float* table, const int32_t* ids, long N, long C);
  void (*embeddingBackward)(Context*, float* dTable, const float* dy, const int32_t* ids, long N, long C);
  void (*add)(Context*, float* y, const float* x, long count);
  void (*rmsNorm)(Context*, float* y, float* rstd, const float* x, const float* gamma, long N, long C, float eps);
  void (*rmsNormBackward)(Context*, float* dx, float* dGamma, const float* dy, const float* x, const float* gamma,
                          const float* rstd, long N, long C);
  void (*rope)(Context*, float* x, long stride, const float* cosines, const float* sines, const int32_t* positions, long N,
               long heads, long D, int inverse);
  void (*softmax)(Context*, float* y, const float* x, long rows, long n);
  void (*swiglu)(Context*, float* hidden, const float* gateUp, long M, long F);
  void (*swigluBackward)(Context*, float* dGateUp, const float* dHidden, const float* gateUp, long M, long F);
  void (*attention)(Context*, float* out, float* logSumExp, const float* q, const float* k, const float* v,
                    const int32_t* starts, const AttentionShape*);
  void (*attentionBackward)(Context*, float* dq, float* dk, float* dv, const float* dOut, const float* out,
                            const float* logSumExp, const float* q, const float* k, const float* v, const AttentionShape*);
  void (*router)(Context*, float* probabilities, float* weights, int32_t* experts, const float* logits, long N, long E, long K,
                 int renormalise, float smallestSum);
  void (*routerBackward)(Context*, float* dLogits, const float* dWeights, const float* dProbabilities,
                         const float* probabilities, const float* weights, const int32_t* experts, long N, long E, long K,
                         int renormalise, float smallestSum);
  void (*gather)(Context*, float* y, const float* x, const int32_t* rows, long M, long C);
  void (*gatherBackward)(Context*, float* dx, const float* dy, const int32_t* slots, long N, long K, long C);
  void (*combine)(Context*, float* y, const float* x, const float* weights, const int32_t* slots, long N, long K, long C);
  void (*combineBackward)(Context*, float* dx, float* dWeights, const float* dy, const float* x, const float* weights,
                          const int32_t* slots, long N, long K, long C);
  void (*experts)(Context*, float* y, const ExpertsBuffers* saved, const float* x, const float* wGateUp, const float* wDown,
                  const float* weights, const int32_t* offsets, const int32_t* rows, const int32_t* slots, const ExpertsShape*);
  void (*expertsBackward)(Context*, float* dx, float* dWeights, float* dWGateUp, float* dWDown, const ExpertsBuffers* scratch,
                          const float* dy, const ExpertsBuffers* saved, const float* wGateUp, const float* wDown,
                          const float* weights, const int32_t* offsets, const int32_t* slots, const ExpertsShape*);
  double (*crossEntropy)(Context*, float* gradient, const float* logits, const int32_t* targets, long N, long V, float scale);
  double (*sumOfSquares)(Context*, const float* x, long count);
  void (*adamw)(Context*, float* p, float* g, float* m, float* v, long count, double learningRate, double beta1, double beta2,
                double eps, double weightDecay, double step, double gradientScale);
  void (*sgd)(Context*, float* p, float* g, float* velocity, long count, double learningRate, double momentum, int nesterov,
              double weightDecay, double step, double gradientScale);
  void (*lion)(Context*, float* p, float* g, float* m, long count, double learningRate, double beta1, double beta2,
               double weightDecay, double gradientScale);
  void (*adam)(Context*, float* p, float* g, float* m, float* v, float* vMax, long count, double learningRate, double beta1,
               double beta2, double eps, double weightDecay, double step, double gradientScale);
  void (*adafactor)(Context*, float* p, float* g, float* row, float* column, long rows, long columns, const AdafactorValues*);
  void (*scheduleFree)(Context*, float* p, float* g, float* z, float* x, float* v, long count, const ScheduleFreeValues*);
  void (*muonMomentum)(Context*, float* g, float* m, long count, double momentum, int nesterov, double gradientScale);
  void (*newtonSchulz)(Context*, float* x, const double* offsets, long count, long rows, long columns, const double* coefficients,
                       long steps, int precision);
  void (*muonNormalise)(Context*, float* x, const double* offsets, long count, long rows, long columns, float* v, double beta2);
  void (*muonUpdate)(Context*, float* p, float* g, long count, double rate, double decay, int cautious);
  void (*toBf16)(Context*, uint16_t* out, const float* x, long count);
  void (*fromBf16)(Context*, float* out, const uint16_t* x, long count);
  void (*toF16)(Context*, uint16_t* out, const float* x, long count);
  void (*fromF16)(Context*, float* out, const uint16_t* x, long count);
  void (*fillNormal)(Context*, float* out, long count, double mean, double deviation, NormalStream, double start);
  void (*roundToBf16)(Context*, float* out, const float* x, long count);
  void (*roundToF16)(Context*, float* out, const float* x, long count);
  void (*chooseExperts)(Context*, float* weights, int32_t* experts, const float* probabilities, const float* bias, long N, long E,
                        long K, int renormalise, float smallestSum);
  double (*zLoss)(Context*, float* dLogits, const float* logits, long N, long E, float scale);
  void (*linearBf16)(Context*, float* y, const float* x, const uint16_t* w, const float* b, long N, long I, long O, int accumulate);
  void (*embeddingBf16)(Context*, float* y, const uint16_t* table, const int32_t* ids, long N, long C);
  void (*expertsBf16)(Context*, float* y, const ExpertsBuffers* saved, const float* x, const uint16_t* wGateUp, const uint16_t* wDown,
                      const float* weights, const int32_t* offsets, const int32_t* rows, const int32_t* slots, const ExpertsShape*);
  void (*scale)(Context*, float* y, const float* x, float factor, long count);
  void (*clamp)(Context*, float* y, const float* x, float limit, long count);
  void (*clampBackward)(Context*, float* dx, const float* dy, const float* x, float limit, long count);
  void (*layerNorm)(Context*, float* y, float* mean, float* rstd, const float* x, const float* gamma, const float* beta, long N,
                    long C, float eps);
  void (*layerNormBackward)(Context*, float* dx, float* dGamma, float* dBeta, const float* dy, const float* x, const float* gamma,
                            const float* mean, const float* rstd, long N, long C);
  void (*ropeInterleaved)(Context*, float* x, long stride, const float* cosines, const float* sines, const int32_t* positions,
                          long N, long heads, long D, int inverse);
  void (*sparseMixer)(Context*, float* probabilities, float* weights, int32_t* experts, const float* logits, long N, long E,
                      float jitter);
  void (*sparseMixerBackward)(Context*, float* dLogits, const float* dWeights, const float* dProbabilities,
                              const float* probabilities, const float* logits, const int32_t* experts, long N, long E, float jitter);
  /** y = e^x. */
  void (*exponential)(Context*, float* y, const float* x, long count);
};

/** Target that takes no part in the loss. */
static const int32_t IGNORE_INDEX = -100;
