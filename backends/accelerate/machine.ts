// What the backend asks of its surroundings: the machine that it runs on, and two variables of the environment.

export const platform: NodeJS.Platform = process.platform;

export const architecture: string = process.arch;

/** Version of Node.js's binary interface. */
export const abiVersion: string = process.versions.modules;

/** Compiler that CXX names. */
export function compilerOfEnvironment(): string | undefined {
  return process.env['CXX'] || undefined;
}

/** Instruction set that GEMMOE_ISA forces. */
export function isaOfEnvironment(): string {
  return process.env['GEMMOE_ISA'] ?? '';
}

/** An addon to load in place of the built one: one for another machine, or with sanitizers. */
export function addonOfEnvironment(): string | undefined {
  return process.env['GEMMOE_ADDON'] || undefined;
}
