// JSON.parse keeps the last of two equal keys and says nothing; a lying file must be noticed.

/** The first key that stands twice in one object of valid JSON text, at any depth; undefined when there is none. */
export function duplicateKey(text: string): string | undefined {
  const open: (Set<string> | null)[] = []; // keys of each open object, null for an array
  let at = 0;
  let lastString: string | undefined;
  while (at < text.length) {
    const character = text[at];
    if (character === '"') {
      const end = endOfString(text, at);
      lastString = text.slice(at, end);
      at = end;
      continue;
    }
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(null);
    else if (character === '}' || character === ']') open.pop();
    else if (character === ':' && lastString !== undefined) {
      const key = JSON.parse(lastString) as string;
      const keys = open.at(-1);
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
    at++;
  }
  return undefined;
}

/** Index behind the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}
