// The complete set of kernels in TypeScript over a gemm, with what a backend brings itself in place of ours.

import type { Kernels } from '../kernels.ts';
import { adafactor } from './adafactor.ts';
import { adam } from './adam.ts';
import { adamw } from './adamw.ts';
import { makeAttention } from './attention.ts';
import { fromBf16, fromF16, roundToBf16, roundToF16, toBf16, toF16 } from './cast.ts';
import { makeBf16Weights } from './bf16-weights.ts';
import { crossEntropy } from './cross-entropy.ts';
import { add, clamp, clampBackward, scale, sumOfSquares } from './elementwise.ts';
import { embedding, embeddingBackward } from './embedding.ts';
import { makeExperts } from './experts.ts';
import { makeGroupedLinear, makeLinear } from './linear.ts';
import { fillNormal } from './fill-normal.ts';
import { layerNorm, layerNormBackward } from './layer-norm.ts';
import { lion } from './lion.ts';
import { muonMomentum, muonNormalise, muonUpdate } from './muon.ts';
import { makeNewtonSchulz } from './newton-schulz.ts';
import { rmsNorm, rmsNormBackward } from './rms-norm.ts';
import { rope, ropeInterleaved } from './rope.ts';
import { chooseExperts, router, routerBackward, zLoss } from './router.ts';
import { combine, combineBackward, dispatch, gather, gatherBackward } from './routing.ts';
import { scheduleFree } from './schedule-free.ts';
import { sgd } from './sgd.ts';
import { softmax } from './softmax.ts';
import { sparseMixer, sparseMixerBackward } from './sparse-mixer.ts';
import { swiglu, swigluBackward } from './swiglu.ts';

/** Kernels over `gemm`; those in `native` replace ours, also inside our composite ones. */
export function portableKernels(gemm: Kernels['gemm'], native: Partial<Kernels>): Kernels {
  const fine = {
    gemm,
    ...makeLinear(gemm),
    ...makeGroupedLinear(gemm),
    holdWeights: () => () => {}, // products read weights as they stand
    ...makeAttention(gemm),
    ...makeNewtonSchulz(gemm),
    ...{ embedding, embeddingBackward, add, rmsNorm, rmsNormBackward, rope, softmax, swiglu, swigluBackward },
    ...{ scale, clamp, clampBackward, layerNorm, layerNormBackward, ropeInterleaved },
    ...{ sparseMixer, sparseMixerBackward },
    ...{ router, routerBackward, chooseExperts, zLoss, dispatch, gather, gatherBackward, combine, combineBackward },
    ...{
      crossEntropy,
      sumOfSquares,
      adamw,
      sgd,
      adam,
      adafactor,
      scheduleFree,
      lion,
      muonMomentum,
      muonNormalise,
      muonUpdate,
    },
    ...{ fillNormal, toBf16, fromBf16, toF16, fromF16, roundToBf16, roundToF16 },
    ...native,
  };
  return { ...makeExperts(fine), ...makeBf16Weights(fine), ...fine };
}
