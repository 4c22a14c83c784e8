// What a model family is: how its config.json reads, and where its tensors live in our parameters.

import { GemmoeError } from '../../errors.ts';
import type { ModelConfig } from '../../model/config.ts';

/** config.json as parsed. */
export type RawConfig = Readonly<Record<string, unknown>>;

/** A tensor of a file and the elements of a parameter that it is: whole rows, so always one contiguous range. */
export interface TensorPlace {
  /** Name in the file. */
  readonly name: string;
  readonly shape: readonly number[];
  /** Name in the ParameterStore. */
  readonly parameter: string;
  /** First element within the parameter. */
  readonly offset: number;
}

/** One family: pure functions from and to its files. */
export interface Family {
  /** `model_type` in config.json. */
  readonly modelType: string;
  /** `architectures` in config.json. */
  readonly architecture: string;
  /** Whether our model of this shape is exported as this family. */
  readonly exports: (config: ModelConfig) => boolean;
  /** @throws GemmoeError naming a field that is missing, wrong, or asks for what the model does not do */
  readonly fromConfig: (reader: ConfigReader) => ModelConfig;
  /** The fields of config.json that belong to this family alone. */
  readonly toConfig: (config: ModelConfig) => Record<string, unknown>;
  /** Layouts a file may have, the one that is written first; the one with most of its names in the files is read. */
  readonly layouts: (config: ModelConfig) => readonly (readonly TensorPlace[])[];
  /** Whether its files have a place of their own for routers' selection biases; false by default. */
  readonly hasSelectionBias?: boolean;
  /** Tensors in its files that the model has no use for; none by default. */
  readonly ignores?: (name: string) => boolean;
}

/** Reads fields of a config.json and refuses what is not understood, by name and value. */
export class ConfigReader {
  readonly path: string;
  readonly raw: RawConfig;
  /** Before every field's name, where the fields are those of an object within the file. */
  private readonly prefix: string;

  constructor(path: string, raw: RawConfig, prefix = '') {
    this.path = path;
    this.raw = raw;
    this.prefix = prefix;
  }

  /** A number, or `fallback` where the field is missing or null. */
  number(key: string, fallback?: number): number {
    const value = this.raw[key] ?? fallback;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw this.wrong(key, value, 'a number');
  }

  /** A size: a whole number of at least `least`. */
  size(key: string, fallback?: number, least = 1): number {
    const value = this.raw[key] ?? fallback;
    if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
    throw this.wrong(key, value, `a whole number of at least ${least}`);
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.raw[key] ?? fallback;
    if (typeof value === 'boolean') return value;
    throw this.wrong(key, value, 'true or false');
  }

  choice<T extends string>(key: string, choices: readonly T[], fallback: T): T {
    const value = this.raw[key] ?? fallback;
    const found = choices.find((choice) => choice === value);
    if (found !== undefined) return found;
    throw this.wrong(key, value, choices.map((choice) => JSON.stringify(choice)).join(' or '));
  }

  /** Refuses any value but `supported`; a missing or null field passes. */
  require(key: string, supported: string | number | boolean): void {
    const value = this.raw[key];
    if (value === undefined || value === null || value === supported) return;
    throw this.unsupported(key, value, supported);
  }

  /** Refuses a field that is set at all. */
  refuse(key: string): void {
    const value = this.raw[key];
    if (value === undefined || value === null || value === false) return;
    throw this.unsupported(key, value);
  }

  /** Fields of an object within the file, named with `prefix` in what is refused. */
  within(prefix: string, raw: RawConfig): ConfigReader {
    return new ConfigReader(this.path, raw, prefix);
  }

  unsupported(key: string, value: unknown, supported?: string | number | boolean): GemmoeError {
    const what = supported === undefined ? 'which is' : `and anything but ${JSON.stringify(supported)} is`;
    return new GemmoeError(
      'unavailable',
      `${this.path}: ${this.prefix}${key} is ${JSON.stringify(value)}, ${what} not supported`,
      'this checkpoint cannot be run: it would be computed wrongly',
    );
  }

  contradiction(key: string, value: unknown, other: string, otherValue: unknown): GemmoeError {
    const found = `${this.prefix}${key} is ${JSON.stringify(value)}, but ${this.prefix}${other} is ${JSON.stringify(otherValue)}`;
    return new GemmoeError('bad-config', `${this.path}: ${found}`, 'correct config.json: they mean the same');
  }

  wrong(key: string, value: unknown, wanted: string): GemmoeError {
    const found = value === undefined ? 'is missing' : `is ${JSON.stringify(value)}`;
    return new GemmoeError(
      'bad-config',
      `${this.path}: ${this.prefix}${key} ${found}; ${wanted} is wanted`,
      'correct config.json',
    );
  }
}
