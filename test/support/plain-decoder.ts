// A decoder written once more, one number at a time and by the names that stand in the files: what families without a fixture are
// compared with. Slow, in float64, and with nothing in common with core/model.

export interface StoredFloats {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

export interface PlainDecoder {
  readonly tensors: ReadonlyMap<string, StoredFloats>;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly eps: number;
  /** Angle of pair i at a position, and the factor on cosine and sine. */
  readonly angle: (position: number, i: number) => number;
  readonly ropeFactor?: number;
  /** Pairs of neighbours instead of the two halves. */
  readonly interleaved?: boolean;
  /** Mean is taken off and a bias added. */
  readonly layerNorm?: boolean;
  /** Feed-forward layer of one token. */
  readonly feedForward: (layer: number, x: number[]) => number[];
}

/** y = W·x (+ b) of the tensors NAME.weight and, where it is there, NAME.bias. */
export function project(tensors: ReadonlyMap<string, StoredFloats>, name: string, x: readonly number[]): number[] {
  const weight = tensors.get(`${name}.weight`);
  if (!weight) throw new Error(`no tensor ${name}.weight`);
  const bias = tensors.get(`${name}.bias`)?.data;
  const [rows, columns] = weight.shape;
  return Array.from({ length: rows }, (_, r) => {
    let sum = bias ? bias[r] : 0;
    for (let c = 0; c < columns; c++) sum += weight.data[r * columns + c] * x[c];
    return sum;
  });
}

/** down(SiLU(gate x) ⊙ up x), the three named under `name`. */
export function swiglu(
  tensors: ReadonlyMap<string, StoredFloats>,
  name: string,
  x: readonly number[],
  [gate, up, down]: readonly [string, string, string] = ['gate_proj', 'up_proj', 'down_proj'],
): number[] {
  const [g, u] = [project(tensors, `${name}.${gate}`, x), project(tensors, `${name}.${up}`, x)];
  return project(
    tensors,
    `${name}.${down}`,
    g.map((value, i) => (value / (1 + Math.exp(-value))) * u[i]),
  );
}

export const plus = (a: readonly number[], b: readonly number[]) => a.map((value, i) => value + b[i]);
export const times = (a: readonly number[], factor: number) => a.map((value) => value * factor);

export function softmax(x: readonly number[]): number[] {
  const e = x.map((value) => Math.exp(value - Math.max(...x)));
  const sum = e.reduce((total, value) => total + value, 0);
  return e.map((value) => value / sum);
}

/** Logits of every position of one sequence. */
export function plainLogits(decoder: PlainDecoder, ids: readonly number[]): number[][] {
  const { tensors, layers, heads, kvHeads, headDim: D } = decoder;
  const table = tensors.get('model.embed_tokens.weight');
  if (!table) throw new Error('no embedding');
  const C = table.shape[1];
  const row = (id: number) => Array.from({ length: C }, (_, c) => table.data[id * C + c]);
  let stream = ids.map(row);
  for (let layer = 0; layer < layers; layer++) {
    const name = `model.layers.${layer}`;
    const normed = stream.map((x) => norm(decoder, `${name}.input_layernorm`, x));
    const split = (part: string, count: number, isTurned: boolean) =>
      normed.map((x, position) => {
        const all = project(tensors, `${name}.self_attn.${part}_proj`, x);
        return Array.from({ length: count }, (_, h) => {
          const head = all.slice(h * D, (h + 1) * D);
          return isTurned ? turn(decoder, head, position) : head;
        });
      });
    const [q, k, v] = [split('q', heads, true), split('k', kvHeads, true), split('v', kvHeads, false)];
    stream = stream.map((x, t) => {
      const mixed = Array.from({ length: heads }, (_, h) => {
        const kv = Math.floor(h / (heads / kvHeads));
        const scores = Array.from({ length: t + 1 }, (_, j) => dot(q[t][h], k[j][kv]) / Math.sqrt(D));
        const shares = softmax(scores);
        return Array.from({ length: D }, (_, i) => shares.reduce((sum, share, j) => sum + share * v[j][kv][i], 0));
      }).flat();
      const middle = plus(x, project(tensors, `${name}.self_attn.o_proj`, mixed));
      return plus(middle, decoder.feedForward(layer, norm(decoder, `${name}.post_attention_layernorm`, middle)));
    });
  }
  const head = tensors.has('lm_head.weight') ? 'lm_head' : 'model.embed_tokens';
  return stream.map((x) => project(tensors, head, norm(decoder, 'model.norm', x)));
}

function norm({ tensors, eps, layerNorm = false }: PlainDecoder, name: string, x: readonly number[]): number[] {
  const mean = layerNorm ? x.reduce((sum, value) => sum + value, 0) / x.length : 0;
  const centred = x.map((value) => value - mean);
  const r = 1 / Math.sqrt(dot(centred, centred) / x.length + eps);
  const gamma = tensors.get(`${name}.weight`)?.data ?? [];
  const beta = layerNorm ? tensors.get(`${name}.bias`)?.data : undefined;
  return centred.map((value, i) => value * r * gamma[i] + (beta ? beta[i] : 0));
}

function turn(
  { angle, ropeFactor = 1, interleaved = false }: PlainDecoder,
  head: number[],
  position: number,
): number[] {
  const half = head.length / 2;
  const out = [...head];
  for (let i = 0; i < half; i++) {
    const [a, b] = interleaved ? [2 * i, 2 * i + 1] : [i, i + half];
    const [cos, sin] = [Math.cos(angle(position, i)), Math.sin(angle(position, i))];
    out[a] = ropeFactor * (head[a] * cos - head[b] * sin);
    out[b] = ropeFactor * (head[b] * cos + head[a] * sin);
  }
  return out;
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}
