// SwiGLU: h = SiLU(gate) ⊙ up with SiLU(x) = x·σ(x) = x / (1 + exp(-x)).

import type { FloatArray } from '../tensor/dtype.ts';
import { exp } from './exp.ts';

/** hidden [M,F] = of gateUp [M,2F] = (gate | up). */
export function swiglu(hidden: FloatArray, gateUp: FloatArray, M: number, F: number): void {
  for (let m = 0; m < M; m++) {
    const gate = m * 2 * F;
    const up = gate + F;
    const out = m * F;
    for (let f = 0; f < F; f++) {
      const g = gateUp[gate + f];
      hidden[out + f] = (g / (1 + exp(-g))) * gateUp[up + f];
    }
  }
}

/** dGateUp [M,2F] = of dHidden [M,F]: dgate = dh·up·σ(g)·(1 + g·(1 - σ(g))), dup = dh·SiLU(g). dGateUp may be gateUp. */
export function swigluBackward(
  dGateUp: FloatArray,
  dHidden: FloatArray,
  gateUp: FloatArray,
  M: number,
  F: number,
): void {
  for (let m = 0; m < M; m++) {
    const gate = m * 2 * F;
    const up = gate + F;
    const out = m * F;
    for (let f = 0; f < F; f++) {
      const g = gateUp[gate + f];
      const u = gateUp[up + f];
      const d = dHidden[out + f];
      const sigma = 1 / (1 + exp(-g));
      dGateUp[gate + f] = d * u * sigma * (1 + g * (1 - sigma));
      dGateUp[up + f] = d * g * sigma;
    }
  }
}
