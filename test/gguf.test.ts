// GGUF files: what is written is what the directory holds, in llama.cpp's names and order.

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { byteTokenizer } from '../core/data/bpe-tokenizer.ts';
import { GemmoeError } from '../core/errors.ts';
import { exportGguf } from '../core/formats/gguf/export.ts';
import { fromQ8, toQ8 } from '../core/formats/gguf/q8.ts';
import { type GgufFile, openGguf } from '../core/formats/gguf/read-gguf.ts';
import { bool, f32, floats, integers, strings, text, u32 } from '../core/formats/gguf/types.ts';
import { writeGguf } from '../core/formats/gguf/write-gguf.ts';
import { openSafetensors, writeSafetensors } from '../core/formats/safetensors.ts';
import { commandLine } from './support/cli.ts';
import { GGUF_FAMILIES, withCharacters } from './support/gguf.ts';
import { FIXTURES, missingData, readJson, SHARED_DATA } from './support/golden.ts';
import { refusal } from './support/refusal.ts';

const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-gguf-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const HF = join(FIXTURES, 'hf');
let count = 0;
const fresh = () => join(scratch, `x${count++}`);

/** What a file holds once it is closed. */
function contents(path: string): {
  metadata: GgufFile['metadata'];
  types: Map<string, string>;
  read: (name: string) => number[];
} {
  const file = openGguf(path);
  const values = new Map([...file.tensors.keys()].map((name) => [name, () => [...file.read(name)]]));
  const read = new Map(
    [...file.tensors]
      .filter(([, { type }]) => ['F32', 'F16', 'BF16', 'Q8_0'].includes(type))
      .map(([name]) => [name, values.get(name)?.() ?? []]),
  );
  file.close();
  const types = new Map([...file.tensors].map(([name, { type, shape }]) => [name, `${type} ${shape.join('x')}`]));
  return { metadata: file.metadata, types, read: (name) => read.get(name) ?? [] };
}

/** A family as GGUF. */
function exported(family: string, options = {}) {
  const path = fresh();
  const summary = exportGguf(join(HF, family), path, options);
  return { path, summary, ...contents(path) };
}

function stored(directory: string, name: string): number[] {
  const file = openSafetensors(join(directory, 'model.safetensors'));
  const shape = file.tensors.get(name)?.shape ?? [];
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  file.read(name, values);
  file.close();
  return [...values];
}

/** A copy of a family whose config.json or tokenizer files are changed. */
function changed(family: string, config: Record<string, unknown>, files: Record<string, unknown> = {}): string {
  const directory = fresh();
  cpSync(join(HF, family), directory, { recursive: true });
  const original = readJson<Record<string, unknown>>(directory, 'config.json');
  writeFileSync(join(directory, 'config.json'), JSON.stringify({ ...original, ...config }));
  for (const [name, value] of Object.entries(files)) writeFileSync(join(directory, name), JSON.stringify(value));
  return directory;
}

describe('a file', () => {
  const path = join(scratch, 'all.gguf');
  const metadata = new Map([
    ['a.u32', u32(4294967295)],
    ['a.f32', f32(1.5)],
    ['a.bool', bool(true)],
    ['a.text', text('naïve 𝄞')],
    ['a.strings', strings(['', 'two', '—'])],
    ['a.integers', integers([-1, 2])],
    ['a.floats', floats([0.25])],
    ['a.none', strings([])],
  ]);
  const values = Float32Array.from({ length: 128 }, (_, i) => Math.fround(Math.sin(i) * 3));
  const tensors = (['F32', 'F16', 'BF16', 'Q8_0'] as const).map((type) => ({
    name: `t.${type}`,
    type,
    shape: [2, 64],
    pieces: [values.subarray(0, 32), values.subarray(32)],
  }));
  tensors.push({ name: 'odd', type: 'F32', shape: [3], pieces: [Float32Array.of(1, 2, 3)] } as never);
  writeGguf(path, metadata, tensors);

  test('gives back metadata and tensors', () => {
    const file = openGguf(path);
    expect([...file.metadata.values()]).toEqual([
      4294967295,
      1.5,
      true,
      'naïve 𝄞',
      ['', 'two', '—'],
      [-1, 2],
      [0.25],
      [],
    ]);
    expect([...file.read('t.F32')]).toEqual([...values]);
    expect([...file.read('odd')]).toEqual([1, 2, 3]);
    for (const [name, bound] of [
      ['t.F16', 2 ** -11],
      ['t.BF16', 2 ** -8],
      ['t.Q8_0', 1 / 127],
    ] as const) {
      const read = file.read(name);
      const worst = Math.max(...read.map((value, i) => Math.abs(value - values[i]) / 3));
      expect(worst).toBeLessThan(bound);
      expect(worst).toBeGreaterThan(0);
    }
    for (const { begin } of file.tensors.values()) expect(begin % 32).toBe(0);
    file.close();
  });

  test('begins as the format says', () => {
    const bytes = readFileSync(path);
    expect(bytes.subarray(0, 4).toString()).toBe('GGUF');
    expect(bytes.readUInt32LE(4)).toBe(3);
    expect(bytes.readBigUInt64LE(8)).toBe(5n);
    expect(bytes.readBigUInt64LE(16)).toBe(8n);
    expect(bytes.length % 32).toBe(0);
  });

  test('cut short anywhere is refused', () => {
    const bytes = readFileSync(path);
    const cut = join(scratch, 'cut.gguf');
    for (let length = 0; length < bytes.length - 32; length += 7) {
      writeFileSync(cut, bytes.subarray(0, length));
      expect(refusal(() => openGguf(cut)).code).toBe('bad-data');
    }
  });

  test('with any byte of its header changed is refused or read, without another fault', () => {
    const bytes = readFileSync(path);
    const broken = join(scratch, 'broken.gguf');
    let refused = 0;
    for (let at = 0; at < 420; at++) {
      const copy = Buffer.from(bytes);
      copy[at] ^= 0xff;
      writeFileSync(broken, copy);
      try {
        openGguf(broken).close();
      } catch (error) {
        expect(error).toBeInstanceOf(GemmoeError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(50);
  });

  test('given too few elements is a fault', () => {
    const short = [{ name: 'x', type: 'F32', shape: [4], pieces: [Float32Array.of(1)] } as const];
    expect(() => writeGguf(join(scratch, 'short.gguf'), new Map(), short)).toThrow(/x \[4\] was given 4 of 16 bytes/);
  });
});

describe('Q8_0', () => {
  test('is a float16 scale and 32 bytes, rounded half away from zero', () => {
    const values = new Float32Array(32);
    values.set([127, -127, 0.5, -0.5, 1.5, 2.49]);
    const blocks = new Uint8Array(34);
    toQ8(blocks, values);
    expect([blocks[0], blocks[1]]).toEqual([0x00, 0x3c]); // 1 in float16
    expect([...new Int8Array(blocks.buffer, 2, 6)]).toEqual([127, -127, 1, -1, 2, 2]);
    const back = new Float32Array(32);
    fromQ8(back, blocks);
    expect([...back.subarray(0, 6)]).toEqual([127, -127, 1, -1, 2, 2]);
  });

  test('of zeros is zeros', () => {
    const blocks = new Uint8Array(34).fill(9);
    toQ8(blocks, new Float32Array(32));
    expect([...blocks]).toEqual(Array.from({ length: 34 }, () => 0));
  });
});

describe('tensors', () => {
  test('of a Mixtral: experts stacked, routers and norms float32', () => {
    const { types, read } = exported('mixtral', { type: 'F16' });
    const {
      num_local_experts: E,
      intermediate_size: F,
      hidden_size: C,
    } = readJson<Record<string, number>>(HF, 'mixtral', 'config.json');
    expect(types.get('blk.1.ffn_gate_exps.weight')).toBe(`F16 ${E}x${F}x${C}`);
    expect(types.get('blk.1.ffn_down_exps.weight')).toBe(`F16 ${E}x${C}x${F}`);
    expect(types.get('blk.1.ffn_gate_inp.weight')).toBe(`F32 ${E}x${C}`);
    expect(types.get('output_norm.weight')).toBe(`F32 ${C}`);
    const f32File = exported('mixtral');
    expect(f32File.read('blk.1.ffn_up_exps.weight').slice(2 * F * C, 3 * F * C)).toEqual(
      stored(join(HF, 'mixtral'), 'model.layers.1.block_sparse_moe.experts.2.w3.weight'),
    );
    expect(read('blk.0.ffn_gate_inp.weight')).toEqual(
      stored(join(HF, 'mixtral'), 'model.layers.0.block_sparse_moe.gate.weight'),
    );
  });

  test('query and key rows change places for interleaved rope, value rows do not', () => {
    const { read } = exported('llama');
    const { hidden_size: C, head_dim: D } = readJson<Record<string, number>>(HF, 'llama', 'config.json');
    const row = (values: number[], i: number) => values.slice(i * C, (i + 1) * C);
    for (const [ours, theirs] of [
      ['q', 'attn_q'],
      ['k', 'attn_k'],
    ]) {
      const before = stored(join(HF, 'llama'), `model.layers.0.self_attn.${ours}_proj.weight`);
      const after = read(`blk.0.${theirs}.weight`);
      for (let head = 0; head < before.length / C / D; head++) {
        for (let i = 0; i < D / 2; i++) {
          expect(row(after, head * D + 2 * i)).toEqual(row(before, head * D + i));
          expect(row(after, head * D + 2 * i + 1)).toEqual(row(before, head * D + i + D / 2));
        }
      }
    }
    expect(read('blk.0.attn_v.weight')).toEqual(stored(join(HF, 'llama'), 'model.layers.0.self_attn.v_proj.weight'));
    const qwen = exported('qwen2');
    expect(qwen.read('blk.0.attn_q.weight')).toEqual(
      stored(join(HF, 'qwen2'), 'model.layers.0.self_attn.q_proj.weight'),
    );
  });

  test('of both layouts of experts are the same', () => {
    const directory = fresh();
    cpSync(join(HF, 'mixtral'), directory, { recursive: true });
    const {
      num_local_experts: E,
      intermediate_size: F,
      hidden_size: C,
      num_hidden_layers: L,
    } = readJson<Record<string, number>>(directory, 'config.json');
    const file = openSafetensors(join(directory, 'model.safetensors'));
    const names = [...file.tensors.keys()].filter((name) => !name.includes('.experts.'));
    const kept = names.map((name) => ({
      name: name.replace('block_sparse_moe', 'mlp'),
      dtype: 'F32' as const,
      shape: file.tensors.get(name)?.shape ?? [],
      parts: [Float32Array.from(stored(directory, name))],
    }));
    file.close();
    const fused = Array.from({ length: L }, (_, layer) => {
      const weight = (e: number, w: string) =>
        stored(directory, `model.layers.${layer}.block_sparse_moe.experts.${e}.${w}.weight`);
      const all = (of: (e: number) => number[]) => [
        Float32Array.from(Array.from({ length: E }, (__, e) => of(e)).flat()),
      ];
      const name = `model.layers.${layer}.mlp.experts`;
      return [
        {
          name: `${name}.gate_up_proj`,
          dtype: 'F32' as const,
          shape: [E, 2 * F, C],
          parts: all((e) => [...weight(e, 'w1'), ...weight(e, 'w3')]),
        },
        { name: `${name}.down_proj`, dtype: 'F32' as const, shape: [E, C, F], parts: all((e) => weight(e, 'w2')) },
      ];
    }).flat();
    writeSafetensors(join(directory, 'model.safetensors'), [...kept, ...fused]);
    const path = fresh();
    exportGguf(directory, path);
    const [a, b] = [exported('mixtral'), contents(path)];
    expect(b.types).toEqual(a.types);
    for (const name of a.types.keys()) expect(b.read(name)).toEqual(a.read(name));
  });

  test('in Q8_0 where rows are whole blocks, F16 where they are not', () => {
    const { summary, types } = exported('granitemoe', { type: 'Q8_0' });
    expect(types.get('blk.0.attn_q.weight')).toBe('Q8_0 32x32');
    expect(types.get('blk.0.ffn_down_exps.weight')).toBe('F16 8x32x24');
    expect(summary.notes).toContain('2 tensors whose rows are no multiple of 32 are stored in F16');
  });

  test.each(GGUF_FAMILIES)('%s has a place for every tensor', (family) => {
    expect(exported(family).summary.tensors).toBeGreaterThan(10);
  });
});

describe('metadata', () => {
  test('of a Mixtral', () => {
    const { metadata, summary } = exported('mixtral', { type: 'BF16' });
    const config = readJson<Record<string, number>>(HF, 'mixtral', 'config.json');
    expect(Object.fromEntries(metadata)).toMatchObject({
      'general.architecture': 'llama',
      'general.file_type': 32,
      'llama.expert_count': config['num_local_experts'],
      'llama.expert_used_count': config['num_experts_per_tok'],
      'llama.feed_forward_length': config['intermediate_size'],
      'llama.rope.freq_base': 1e6,
      'llama.attention.head_count_kv': config['num_key_value_heads'],
      'tokenizer.ggml.model': 'none',
    });
    expect(summary).toMatchObject({ architecture: 'llama', type: 'BF16' });
  });

  test('of stretched rope', () => {
    const linear = exported('llama_linear').metadata;
    expect(linear.get('llama.rope.scaling.type')).toBe('linear');
    expect(linear.get('llama.rope.scaling.factor')).toBe(2);
    expect(exported('llama_yarn').metadata.get('llama.rope.scaling.original_context_length')).toBe(16);
    const { read } = exported('llama3');
    const factors = read('rope_freqs.weight');
    expect(factors[0]).toBeCloseTo(1.73594, 5); // a wave of 2π tokens, between 16/4 and 16/1
    expect(factors.at(-1)).toBe(8);
  });

  test('a sliding window cuts the context, and a note says so', () => {
    const path = fresh();
    const { notes } = exportGguf(changed('llama', { model_type: 'mistral', sliding_window: 7 }), path);
    expect(notes[0]).toContain('the context is cut to 7');
    expect(contents(path).metadata.get('llama.context_length')).toBe(7);
  });
});

describe('tokenizers', () => {
  const withFiles = (files: Record<string, unknown>, config: Record<string, unknown> = {}) => {
    const path = fresh();
    const directory = changed(
      'mixtral',
      { bos_token_id: null, eos_token_id: null, pad_token_id: null, ...config },
      files,
    );
    rmSync(join(directory, 'generation_config.json'), { force: true });
    exportGguf(directory, path);
    return contents(path).metadata;
  };

  test('of characters go without a token that ends the text', () => {
    const directory = fresh();
    const tokenizer = withCharacters('mixtral', directory);
    const config = readJson<Record<string, unknown>>(directory, 'config.json');
    writeFileSync(
      join(directory, 'config.json'),
      JSON.stringify({ ...config, eos_token_id: null, bos_token_id: null }),
    );
    rmSync(join(directory, 'generation_config.json'));
    const path = fresh();
    exportGguf(directory, path);
    const { metadata } = contents(path);
    expect(metadata.get('tokenizer.ggml.model')).toBe('rwkv');
    expect((metadata.get('tokenizer.ggml.tokens') as string[]).slice(0, 4)).toEqual(['\\n', '\\t', '\\\\', 'é']);
    expect(metadata.has('tokenizer.ggml.eos_token_id')).toBe(false);
    expect(tokenizer.endOfText).toBeUndefined();
  });

  const bytes = byteTokenizer().toJSON() as { model: { vocab: Record<string, number>; merges: unknown[] } };
  /** A byte-level tokenizer small enough for the fixture's 96 rows. */
  const small = (extra: object = {}, model: object = {}) => ({
    ...bytes,
    added_tokens: [{ id: 90, content: '<|endoftext|>', special: true }],
    model: { ...bytes.model, vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'], ...model },
    ...extra,
  });

  test('of bytes keep merges and rules; rows beyond them are unused', () => {
    const metadata = withFiles({
      'tokenizer.json': small({ pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true } }),
    });
    expect(metadata.get('tokenizer.ggml.model')).toBe('gpt2');
    expect(metadata.get('tokenizer.ggml.pre')).toBe('trillion');
    expect(metadata.get('tokenizer.ggml.merges')).toEqual(['a b']);
    expect((metadata.get('tokenizer.ggml.tokens') as string[])[50]).toBe('[PAD50]');
    const types = metadata.get('tokenizer.ggml.token_type') as number[];
    expect([types[0], types[50], types[90]]).toEqual([1, 5, 3]);
    expect(metadata.get('tokenizer.ggml.eos_token_id')).toBe(90);
    expect(metadata.get('tokenizer.ggml.add_bos_token')).toBe(false);
  });

  const split = (regex: string) => ({
    type: 'Sequence',
    pretokenizers: [
      { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated' },
      { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
    ],
  });
  const REST = '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
  const START = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";

  test.each([
    ['qwen2', split(`${START}|\\p{N}${REST}`), {}, {}],
    ['smaug-bpe', split(`${START}|\\p{N}{1,3}${REST}`), {}, {}],
    ['llama-bpe', split(`${START}|\\p{N}{1,3}${REST}`), { ignore_merges: true }, {}],
    ['gpt-2', { type: 'ByteLevel' }, {}, { clean_up_tokenization_spaces: true }],
    [
      'smollm',
      { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, { type: 'ByteLevel' }] },
      {},
      {},
    ],
  ])('the rules of %s are recognised', (name, pre_tokenizer, model, settings) => {
    const metadata = withFiles({
      'tokenizer.json': small({ pre_tokenizer }, model),
      'tokenizer_config.json': settings,
    });
    expect(metadata.get('tokenizer.ggml.pre')).toBe(name);
  });

  test('special tokens come from tokenizer_config.json, then generation_config.json, then config.json', () => {
    const metadata = withFiles(
      {
        'tokenizer.json': small({
          pre_tokenizer: { type: 'ByteLevel' },
          added_tokens: ['<s>', '<end>', '<turn>', '<pad>'].map((content, i) => ({
            id: 80 + i,
            content,
            special: true,
          })),
          post_processor: {
            type: 'TemplateProcessing',
            single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
          },
        }),
        'tokenizer_config.json': {
          bos_token: { content: '<s>' },
          eos_token: '<end>',
          pad_token: '<pad>',
          chat_template: '{{ bos_token }}',
        },
      },
      { eos_token_id: [81, 82] },
    );
    const ids = ['bos', 'eos', 'eot', 'padding'].map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`));
    expect(ids).toEqual([80, 81, 82, 83]);
    expect(metadata.get('tokenizer.ggml.add_bos_token')).toBe(true);
    expect(metadata.get('tokenizer.chat_template')).toBe('{{ bos_token }}');
  });

  test.skipIf(missingData('stories260k') !== undefined)(
    'of SentencePiece: scores fall with the rank of the merge',
    () => {
      const path = fresh();
      exportGguf(join(SHARED_DATA, 'stories260k'), path);
      const { metadata } = contents(path);
      expect(metadata.get('tokenizer.ggml.model')).toBe('llama');
      const scores = metadata.get('tokenizer.ggml.scores') as number[];
      const types = metadata.get('tokenizer.ggml.token_type') as number[];
      expect(types.slice(0, 4)).toEqual([2, 3, 3, 6]);
      expect(scores[259]).toBe(0);
      expect(scores[260]).toBeLessThan(0);
      expect(metadata.get('tokenizer.ggml.add_space_prefix')).toBe(true);
    },
  );

  test('of Unigram keep their scores', () => {
    const metadata = withFiles({
      'tokenizer.json': {
        added_tokens: [{ id: 1, content: '</s>', special: true }],
        pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
        decoder: { type: 'Metaspace', replacement: '▁' },
        model: {
          type: 'Unigram',
          unk_id: 0,
          vocab: [
            ['<unk>', 0],
            ['</s>', 0],
            ['▁a', -1.5],
            ['b', -2],
          ],
        },
      },
    });
    expect(metadata.get('tokenizer.ggml.model')).toBe('t5');
    expect((metadata.get('tokenizer.ggml.scores') as number[]).slice(0, 5)).toEqual([0, 0, -1.5, -2, -2]);
    expect(metadata.get('tokenizer.ggml.unknown_token_id')).toBe(0);
    expect(metadata.get('tokenizer.ggml.add_space_prefix')).toBe(true);
  });

  test.each([
    ['rules without a name', { pre_tokenizer: { type: 'Whitespace' } }, /cuts text by rules/],
    ['no end', { pre_tokenizer: { type: 'ByteLevel' }, added_tokens: [] }, /no token ends a text.*\[PAD11\]/],
    [
      'an id beyond the table',
      { pre_tokenizer: { type: 'ByteLevel' }, added_tokens: [{ id: 96, content: 'x' }] },
      /has id 96, but the model has 96 rows/,
    ],
    ['another kind', { model: { type: 'WordPiece', vocab: {} } }, /of type WordPiece/],
  ])('with %s are refused', (_, extra, message) => {
    expect(refusal(() => withFiles({ 'tokenizer.json': small(extra) })).message).toMatch(message);
  });
});

describe('what llama.cpp would compute otherwise is refused', () => {
  test.each([
    ['llama', { model_type: 'gpt_neox' }, /model_type "gpt_neox" cannot be written as GGUF/],
    ['llama', { hidden_act: 'gelu' }, /hidden_act is "gelu"/],
    ['llama', { quantization_config: {} }, /quantization_config/],
    ['llama', { rope_parameters: { rope_type: 'longrope' } }, /rope_type of rope is "longrope"/],
    ['llama', { rope_parameters: { rope_type: 'yarn', factor: 2, mscale: 1 } }, /mscale of rope is 1/],
    ['llama', { rope_parameters: { rope_type: 'yarn', factor: 2, beta_fast: 16 } }, /beta_fast of rope is 16/],
    [
      'qwen3_moe',
      { norm_topk_prob: false },
      /norm_topk_prob is false, but llama.cpp computes this family as if it were true/,
    ],
    ['qwen3_moe', { mlp_only_layers: [0] }, /mlp_only_layers is \[0\]/],
    ['qwen3_moe', { decoder_sparse_step: 2 }, /decoder_sparse_step is 2/],
    ['olmoe', { norm_topk_prob: true }, /norm_topk_prob is true/],
    ['olmoe', { clip_qkv: 8 }, /clip_qkv is 8/],
    ['olmoe', { num_key_value_heads: 2 }, /num_key_value_heads is 2/],
    ['qwen2', { model_type: 'llama', num_hidden_layers: 1 }, /tensor model.layers.1.* has no place/],
    ['llama', { num_hidden_layers: 3 }, /tensor model.layers.2.* is missing/],
    ['llama', { intermediate_size: 40 }, /gate_proj.weight is \[.*\], but config.json implies \[40,/],
  ])('%s with %j', (family, config, message) => {
    const path = fresh();
    expect(refusal(() => exportGguf(changed(family, config), path)).message).toMatch(message);
    expect(existsSync(path)).toBe(false);
  });

  test('a weight beyond float16, in float16', () => {
    const directory = changed('llama', {});
    const name = 'model.layers.0.mlp.up_proj.weight';
    const file = openSafetensors(join(directory, 'model.safetensors'));
    const tensors = [...file.tensors].map(([tensor, { shape }]) => ({
      name: tensor,
      dtype: 'F32' as const,
      shape,
      parts: [Float32Array.from(stored(directory, tensor), (x, i) => (tensor === name && i === 5 ? 1e6 : x))],
    }));
    file.close();
    writeSafetensors(join(directory, 'model.safetensors'), tensors);
    expect(refusal(() => exportGguf(directory, fresh(), { type: 'F16' })).message).toMatch(
      /ffn_up.weight holds 1000000, which float16/,
    );
    exportGguf(directory, fresh(), { type: 'BF16' });
  });
});

describe('as a command', () => {
  const { gemmoe, json } = commandLine(scratch);

  test('convert writes a file and keeps one that is there; inspect shows it', async () => {
    const directory = join(HF, 'mixtral');
    const made = await json<{ tensors: number; notes: string[] }>([
      'convert',
      directory,
      'm.gguf',
      '--to',
      'gguf',
      '--dtype',
      'q8_0',
    ]);
    expect(made.notes[0]).toContain('no tokenizer.json');
    const before = readFileSync(join(scratch, 'm.gguf'));
    const again = await gemmoe(['convert', directory, 'm.gguf', '--to', 'gguf']);
    expect(again.code).toBe(1);
    expect(again.err).toContain('m.gguf is there already');
    expect(readFileSync(join(scratch, 'm.gguf')).equals(before)).toBe(true);
    expect((await gemmoe(['convert', directory, 'm.gguf', '--to', 'gguf', '--force'])).code).toBe(0);
    const { out } = await gemmoe(['inspect', 'm.gguf']);
    expect(out).toMatch(/m.gguf: GGUF 3, [\d,]+ parameters/);
    expect(out).toMatch(/llama.expert_count +\d+\n/);
    expect(out).toMatch(/blk.0.ffn_down_exps.weight +F32 +\d+ x \d+ x \d+\n/);
    const seen = await json<{ tensors: object[]; metadata: Record<string, unknown> }>(['inspect', 'm.gguf']);
    expect(seen.tensors).toHaveLength(made.tensors);
    expect(seen.metadata['general.architecture']).toBe('llama');
  });

  test('shards have no place in it', async () => {
    const { code, err } = await gemmoe([
      'convert',
      join(HF, 'mixtral'),
      's.gguf',
      '--to',
      'gguf',
      '--max-shard-size',
      '1GB',
    ]);
    expect([code, err]).toEqual([2, expect.stringContaining('no meaning with --to gguf')]);
  });

  test('a folder in its place, and a file that is no GGUF, are refused', async () => {
    expect((await gemmoe(['convert', join(HF, 'mixtral'), '.', '--to', 'gguf', '--force'])).err).toContain(
      'is a folder',
    );
    writeFileSync(join(scratch, 'no.gguf'), 'this is some text, long enough');
    expect((await gemmoe(['inspect', 'no.gguf'])).err).toContain('does not begin as a GGUF file does');
    truncateSync(join(scratch, 'no.gguf'), 3);
    expect((await gemmoe(['inspect', 'no.gguf'])).code).toBe(1);
  });
});
