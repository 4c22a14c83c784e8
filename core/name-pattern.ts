// Patterns that name parameters and layers: * stands for anything, | separates several.

/** Matches a whole name that is one of the pattern's. */
export function namePattern(pattern: string): RegExp {
  const alternatives = pattern.split('|').map((part) => part.replace(/[.+?^${}()[\]\\]/g, '\\$&').replace(/\*/g, '.*'));
  return new RegExp(`^(?:${alternatives.join('|')})$`);
}
