// Feed-forward layers of every layout on their way to GGUF, where a layer's experts are one tensor.

import { disagreement, type PlannedTensor, type Range, type TensorSource } from './source.ts';

/** Sizes of a layer of experts. */
interface ExpertSizes {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly expertWidth: number;
}

/** gate, up [F,C] and down [C,F], with biases where the file has them. */
export function denseLayer(source: TensorSource, layer: number, C: number, F: number): PlannedTensor[] {
  const file = `model.layers.${layer}.mlp`;
  const parts = [
    ['gate', [F, C]],
    ['up', [F, C]],
    ['down', [C, F]],
  ] as const;
  return parts.flatMap(([part, shape]) => [
    {
      name: `blk.${layer}.ffn_${part}.weight`,
      shape,
      from: source.whole(`${file}.${part}_proj.weight`, shape),
    },
    ...optionalBias(source, `${file}.${part}_proj.bias`, `blk.${layer}.ffn_${part}.bias`, shape[0]),
  ]);
}

/** A bias [n], or nothing where the file has none. */
export function optionalBias(source: TensorSource, name: string, target: string, length: number): PlannedTensor[] {
  return source.has(name) ? [{ name: target, shape: [length], from: source.whole(name, [length]) }] : [];
}

/** Router [E,C], and gate, up [E,F,C] and down [E,C,F] of all experts. */
export function expertLayer(source: TensorSource, layer: number, sizes: ExpertSizes): PlannedTensor[] {
  const { hiddenSize: C, numExperts: E, expertWidth: F } = sizes;
  const files = ['block_sparse_moe', 'mlp'].map((part) => `model.layers.${layer}.${part}`);
  const routers = files.flatMap((file) => ['gate', 'router.layer', 'router'].map((name) => `${file}.${name}.weight`));
  const router = routers.find((name) => source.has(name));
  if (router === undefined)
    throw disagreement(source.directory, `the router of layer ${layer} is missing (${routers[0]})`);
  const { gate, up, down } = expertRanges(source, files, sizes);
  const target = `blk.${layer}`;
  return [
    { name: `${target}.ffn_gate_inp.weight`, shape: [E, C], from: source.whole(router, [E, C]) },
    { name: `${target}.ffn_gate_exps.weight`, shape: [E, F, C], from: gate },
    { name: `${target}.ffn_up_exps.weight`, shape: [E, F, C], from: up },
    { name: `${target}.ffn_down_exps.weight`, shape: [E, C, F], from: down },
  ];
}

/** Names of one expert's projections: Mixtral's, and everyone else's. */
const CLASSIC = [
  ['w1', 'w3', 'w2'],
  ['gate_proj', 'up_proj', 'down_proj'],
] as const;
/** Names of all experts' projections in one tensor: transformers 5's in memory, and Granite's. */
const FUSED = [
  ['experts.gate_up_proj', 'experts.down_proj'],
  ['input_linear.weight', 'output_linear.weight'],
] as const;

function expertRanges(
  source: TensorSource,
  files: readonly string[],
  { hiddenSize: C, numExperts: E, expertWidth: F }: ExpertSizes,
): { gate: Range[]; up: Range[]; down: Range[] } {
  const all = <T>(of: (expert: number) => T[]) => Array.from({ length: E }, (_, expert) => of(expert)).flat();
  for (const file of files) {
    for (const [gateUp, down] of FUSED) {
      if (!source.has(`${file}.${gateUp}`)) continue;
      const rows = (expert: number, half: number) =>
        source.rows(`${file}.${gateUp}`, [E, 2 * F, C], expert * 2 * F + half * F, F);
      return {
        gate: all((expert) => rows(expert, 0)),
        up: all((expert) => rows(expert, 1)),
        down: source.whole(`${file}.${down}`, [E, C, F]),
      };
    }
    for (const [gate, up, down] of CLASSIC) {
      if (!source.has(`${file}.experts.0.${gate}.weight`)) continue;
      const each = (name: string, shape: readonly number[]) =>
        all((expert) => source.whole(`${file}.experts.${expert}.${name}.weight`, shape));
      return { gate: each(gate, [F, C]), up: each(up, [F, C]), down: each(down, [C, F]) };
    }
  }
  throw disagreement(source.directory, `no experts are found under ${files.join(' or ')}`);
}

/** Granite's shared expert: input [2S,C] is gate, then up; output [C,S]. */
export function sharedExpert(source: TensorSource, layer: number, C: number, S: number): PlannedTensor[] {
  const input = `model.layers.${layer}.shared_mlp.input_linear.weight`;
  const target = `blk.${layer}.ffn`;
  return [
    { name: `${target}_gate_shexp.weight`, shape: [S, C], from: source.rows(input, [2 * S, C], 0, S) },
    { name: `${target}_up_shexp.weight`, shape: [S, C], from: source.rows(input, [2 * S, C], S, S) },
    {
      name: `${target}_down_shexp.weight`,
      shape: [C, S],
      from: source.whole(`model.layers.${layer}.shared_mlp.output_linear.weight`, [C, S]),
    },
  ];
}
