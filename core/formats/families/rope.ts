// Rope settings of config.json: transformers 4 has rope_theta and rope_scaling, transformers 5 rope_parameters for both.

import { type ModelConfig, ropeBase } from '../../model/config.ts';
import type { RopeScaling } from '../../model/rope-scaling.ts';
import type { ConfigReader, RawConfig } from './family.ts';

const LENGTH = 'max_position_embeddings';
const ORIGINAL_LENGTH = 'original_max_position_embeddings';

/** What every kind of scaling may say beside its own fields. */
const COMMON = ['rope_type', 'type', 'rope_theta', 'partial_rotary_factor'];

/** Our name of each field, by kind; those of `originalLength` and of numbers that may be missing are read apart. */
const FIELDS: Readonly<Record<RopeScaling['kind'], Readonly<Record<string, string>>>> = {
  linear: { factor: 'factor' },
  dynamic: { factor: 'factor', originalLength: ORIGINAL_LENGTH },
  yarn: {
    factor: 'factor',
    originalLength: ORIGINAL_LENGTH,
    betaFast: 'beta_fast',
    betaSlow: 'beta_slow',
    truncate: 'truncate',
    attentionFactor: 'attention_factor',
    mscale: 'mscale',
    mscaleAllDim: 'mscale_all_dim',
  },
  llama3: {
    factor: 'factor',
    originalLength: ORIGINAL_LENGTH,
    lowFrequencyFactor: 'low_freq_factor',
    highFrequencyFactor: 'high_freq_factor',
  },
  longrope: {
    originalLength: ORIGINAL_LENGTH,
    factor: 'factor',
    shortFactors: 'short_factor',
    longFactors: 'long_factor',
    attentionFactor: 'attention_factor',
    shortMscale: 'short_mscale',
    longMscale: 'long_mscale',
  },
};

/** Early files' name of longrope. */
const ALIASES: Readonly<Record<string, string>> = { su: 'longrope' };

/** The base, the scaling if there is any, and the longest sequence. @throws GemmoeError for kinds and fields that are not understood */
export function readRope(
  reader: ConfigReader,
  standardTheta: number,
): Pick<ModelConfig, 'ropeTheta' | 'ropeScaling' | 'maxSequenceLength'> {
  reader.require('partial_rotary_factor', 1);
  const length = reader.size(LENGTH);
  const rope = ropeObject(reader);
  const ropeTheta = rope.number('rope_theta', standardTheta);
  if (ropeTheta <= 0) throw rope.wrong('rope_theta', ropeTheta, 'a number above 0');
  rope.require('partial_rotary_factor', 1);
  const named = String(rope.raw['rope_type'] ?? rope.raw['type'] ?? 'default');
  const kind = ALIASES[named] ?? named;
  if (kind === 'default') {
    refuseOthers(rope, []);
    return { ropeTheta, maxSequenceLength: length };
  }
  if (!Object.hasOwn(FIELDS, kind)) {
    throw rope.unsupported('rope_type', named, ['default', ...Object.keys(FIELDS)].join(', '));
  }
  const ropeScaling = readScaling(reader, rope, kind as RopeScaling['kind'], length);
  if (ropeScaling.kind !== 'dynamic') return { ropeTheta, ropeScaling, maxSequenceLength: length };
  // the length in the file is the one that was trained; what it is stretched to is nowhere said
  const longest = Math.floor(ropeScaling.originalLength * ropeScaling.factor);
  return { ropeTheta, ropeScaling, maxSequenceLength: Math.max(length, longest) };
}

function readScaling(reader: ConfigReader, rope: ConfigReader, kind: RopeScaling['kind'], length: number): RopeScaling {
  refuseOthers(rope, Object.values(FIELDS[kind]));
  const original = reader.size(ORIGINAL_LENGTH, rope.size(ORIGINAL_LENGTH, length));
  const found: Record<string, unknown> = { kind };
  for (const [ours, theirs] of Object.entries(FIELDS[kind])) {
    const value = ours === 'originalLength' ? original : rope.raw[theirs];
    if (value !== undefined && value !== null) found[ours] = value;
  }
  if (kind === 'yarn') found['factor'] ??= length / original;
  for (const key of Object.keys(FIELDS[kind])) check(rope, FIELDS[kind][key], found[key], REQUIRED[kind].includes(key));
  return found as RopeScaling; // parseModelConfig checks ranges
}

const REQUIRED: Readonly<Record<RopeScaling['kind'], readonly string[]>> = {
  linear: ['factor'],
  dynamic: ['factor'],
  yarn: ['factor'],
  llama3: ['factor', 'lowFrequencyFactor', 'highFrequencyFactor'],
  longrope: ['shortFactors', 'longFactors'],
};

/** Refuses a field that is missing or of another type, under the name that it has in the file. */
function check(rope: ConfigReader, field: string, value: unknown, isRequired: boolean): void {
  if (value === undefined && !isRequired) return;
  if (field === 'truncate') return void rope.boolean(field, true);
  const isList = field === 'short_factor' || field === 'long_factor';
  const numbers = isList ? value : [value];
  if (Array.isArray(numbers) && numbers.every((number) => typeof number === 'number' && Number.isFinite(number)))
    return;
  throw rope.wrong(field, value, isList ? 'a list of numbers' : 'a number');
}

/** Refuses what the kind does not read: it may ask for something that would be computed wrongly. */
function refuseOthers(rope: ConfigReader, known: readonly string[]): void {
  for (const [field, value] of Object.entries(rope.raw)) {
    if (value !== null && !COMMON.includes(field) && !known.includes(field)) throw rope.unsupported(field, value);
  }
}

/** Both forms as one object, under the name of the form that is there. @throws GemmoeError where they contradict each other */
function ropeObject(reader: ConfigReader): ConfigReader {
  const old = objectAt(reader, 'rope_scaling');
  const current = objectAt(reader, 'rope_parameters');
  const base = reader.raw['rope_theta'] ?? undefined;
  const merged: Record<string, unknown> = { ...(base !== undefined && { rope_theta: base }) };
  for (const [form, fields] of [
    ['rope_parameters', current],
    ['rope_scaling', old],
  ] as const) {
    for (const [field, value] of Object.entries(fields ?? {})) {
      const key = field === 'type' ? 'rope_type' : field;
      const before = merged[key];
      if (before !== undefined && value !== null && JSON.stringify(before) !== JSON.stringify(value)) {
        throw reader.contradiction(`${form}.${field}`, value, key, before);
      }
      if (value !== null) merged[key] = value;
    }
  }
  const form = current ? 'rope_parameters' : 'rope_scaling';
  return reader.within(old || current ? `${form}.` : '', merged);
}

function objectAt(reader: ConfigReader, key: string): RawConfig | undefined {
  const rope = reader.raw[key] ?? undefined;
  if (rope === undefined) return undefined;
  if (typeof rope !== 'object' || Array.isArray(rope)) throw reader.wrong(key, rope, 'an object');
  for (const [field, value] of Object.entries(rope as RawConfig)) {
    // transformers 5 may nest one object per kind of layer
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      throw reader.unsupported(`${key}.${field}`, value);
    }
  }
  return rope as RawConfig;
}

/** The fields in both forms; the NTK-aware stretch is in the base, so that every reader computes the same. */
export function writeRope(config: ModelConfig): Record<string, unknown> {
  const theta = ropeBase(config);
  const { ropeScaling: scaling } = config;
  if (!scaling) {
    return { rope_theta: theta, rope_scaling: null, rope_parameters: { rope_type: 'default', rope_theta: theta } };
  }
  const values: Readonly<Record<string, unknown>> = scaling;
  const fields = Object.fromEntries(
    Object.entries(FIELDS[scaling.kind])
      .filter(([ours]) => values[ours] !== undefined)
      .map(([ours, theirs]) => [theirs, values[ours]]),
  );
  // the code that comes with Phi's checkpoints counts the fields and knows `type` alone
  const name = { ...(scaling.kind !== 'longrope' && { rope_type: scaling.kind }), type: scaling.kind };
  return {
    ...(scaling.kind === 'dynamic' && { [LENGTH]: scaling.originalLength }),
    rope_theta: theta,
    rope_scaling: { ...name, ...fields },
    rope_parameters: { rope_type: scaling.kind, rope_theta: theta, ...fields },
  };
}
