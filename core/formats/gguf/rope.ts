// Rope settings of a config.json as llama.cpp wants them: keys, and for Llama 3 a tensor of factors.

import { GemmoeError } from '../../errors.ts';
import { ConfigReader, type RawConfig } from '../families/family.ts';
import { f32, type Metadata, text, u32 } from './types.ts';

/** Fields that a kind of scaling reads beside its base. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  default: [],
  linear: ['factor'],
  yarn: ['factor', 'original_max_position_embeddings', 'beta_fast', 'beta_slow', 'truncate'],
  llama3: ['factor', 'original_max_position_embeddings', 'low_freq_factor', 'high_freq_factor'],
};

/** What every kind may say beside its own fields. */
const COMMON = ['rope_type', 'type', 'rope_theta', 'partial_rotary_factor'];

/** yarn's betas as llama.cpp has them built in. */
const BETAS = { beta_fast: 32, beta_slow: 1 } as const;

const ORIGINAL_LENGTH = 'original_max_position_embeddings';

/**
 * Writes the rope keys of `architecture`. What is returned divides each frequency, [D/2], where the kind needs it.
 * @throws GemmoeError for kinds and fields that llama.cpp would not compute as transformers does
 */
export function ropeMetadata(
  metadata: Metadata,
  architecture: string,
  reader: ConfigReader,
  headDim: number,
  standardTheta: number,
): Float32Array | undefined {
  const rope = ropeObject(reader);
  const kind = rope.raw['rope_type'] ?? rope.raw['type'] ?? 'default';
  const known = typeof kind === 'string' && Object.hasOwn(KNOWN, kind) ? KNOWN[kind] : undefined;
  if (!known) throw unsupported(reader, 'rope_type', kind);
  for (const [key, value] of Object.entries(rope.raw)) {
    if (value === null || COMMON.includes(key) || known.includes(key)) continue;
    throw unsupported(reader, key, value);
  }
  const theta = rope.number('rope_theta', reader.number('rope_theta', standardTheta));
  const partial = rope.number('partial_rotary_factor', reader.number('partial_rotary_factor', 1));
  if (partial !== 1) throw unsupported(reader, 'partial_rotary_factor', partial);
  const key = `${architecture}.rope`;
  metadata.set(`${key}.dimension_count`, u32(headDim));
  metadata.set(`${key}.freq_base`, f32(theta));
  if (kind === 'default') return undefined;
  if (kind === 'llama3') return llama3Factors(reader, rope, headDim, theta);
  metadata.set(`${key}.scaling.type`, text(kind as string));
  metadata.set(`${key}.scaling.factor`, f32(rope.number('factor')));
  if (kind === 'yarn') {
    for (const [name, standard] of Object.entries(BETAS)) {
      const value = rope.number(name, standard);
      if (value !== standard) throw unsupported(reader, name, value);
    }
    if (rope.raw['truncate'] === false) throw unsupported(reader, 'truncate', false);
    metadata.set(`${key}.scaling.original_context_length`, u32(originalLength(reader, rope)));
  }
  return undefined;
}

/** Factor of each frequency: long waves are divided by `factor`, short ones kept, those between blended. */
function llama3Factors(reader: ConfigReader, rope: ConfigReader, headDim: number, theta: number): Float32Array {
  const factor = rope.number('factor');
  const low = rope.number('low_freq_factor');
  const high = rope.number('high_freq_factor');
  const original = originalLength(reader, rope);
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / headDim);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** The length before stretching; the top-level field wins over the nested one. */
function originalLength(reader: ConfigReader, rope: ConfigReader): number {
  return reader.size(ORIGINAL_LENGTH, rope.size(ORIGINAL_LENGTH, reader.size('max_position_embeddings')));
}

/** The rope object of transformers 4 or 5; empty where there is none. */
function ropeObject(reader: ConfigReader): ConfigReader {
  const old = reader.raw['rope_scaling'] as RawConfig | null | undefined;
  const current = reader.raw['rope_parameters'] as RawConfig | null | undefined;
  return new ConfigReader(`${reader.path}: rope`, { ...current, ...old });
}

function unsupported(reader: ConfigReader, key: string, value: unknown): GemmoeError {
  return new GemmoeError(
    'unavailable',
    `${reader.path}: ${key} of rope is ${JSON.stringify(value)}, which llama.cpp does not compute in the same way`,
    `kinds that are written: ${Object.keys(KNOWN).join(', ')}`,
  );
}
