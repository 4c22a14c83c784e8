// Tokenizers and the BPE trainer, against Hugging Face's library and what its trainer made of the same text.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { BpeTokenizer, byteTokenizer, END_OF_TEXT } from '../core/data/bpe-tokenizer.ts';
import { trainBpe, WordCounter } from '../core/data/bpe-trainer.ts';
import { lastSafeCut, splitWords } from '../core/data/byte-level.ts';
import { CharacterSet, CharacterTokenizer } from '../core/data/character-tokenizer.ts';
import { StreamingDecoder } from '../core/data/streaming-decoder.ts';
import type { Tokenizer } from '../core/data/tokenizer.ts';
import { loadTokenizer, tokenizerFromJSON } from '../core/data/tokenizers.ts';
import { GemmoeError } from '../core/errors.ts';

const FIXTURE = join(import.meta.dirname, 'fixtures', 'tokenizer');
const STORIES = join(import.meta.dirname, '..', '..', 'shared', 'data', 'stories260k');
const scratch = mkdtempSync(join(tmpdir(), 'gemmoe-tokenizers-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Fixture {
  vocab_size: number;
  min_frequency: number;
  samples: { text: string; ids: number[]; decoded: string }[];
}
const expected = JSON.parse(readFileSync(join(FIXTURE, 'expected.json'), 'utf8')) as Fixture;
const corpus = readFileSync(join(FIXTURE, 'corpus.txt'), 'utf8');
const fixtureJson = JSON.parse(readFileSync(join(FIXTURE, 'tokenizer.json'), 'utf8')) as Record<string, unknown>;
const fixture = tokenizerFromJSON(fixtureJson);

const AWKWARD = [
  ...expected.samples.map((sample) => sample.text),
  "we'll I'M 'tis it's'd don't  can't",
  'a  b   c\t\td\r\n\r\n  e \n',
  '   leading and trailing   ',
  'non\u00a0breaking\u2003em\u3000ideographic \u0085next\u2028line\ufeffmark\u200bzero\u180e',
  '１２３ ½ Ⅷ 42nd v1.2.3 x²',
  'e\u0301 combining \u0915\u094d\u0937 क्ष ﷽ ß ŉ',
  '👩‍👩‍👧 🇩🇪 👍🏽 𝔘𝔫𝔦',
  `one${END_OF_TEXT}two ${END_OF_TEXT}${END_OF_TEXT} <|endof text|>`,
  '_under_scores__ --- ... !!!??? (a)[b]{c}',
  '\u0000\u0001\u001f\u007f',
  '__proto__ constructor toString',
  'A'.repeat(70) + 'ab'.repeat(50),
];

function trained(text: string, vocabSize: number, minFrequency = 2) {
  const words = new WordCounter();
  words.add(text);
  return trainBpe(words.counts, { vocabSize, minFrequency, special: [END_OF_TEXT] });
}

function library(tokenizer: Tokenizer): (text: string) => number[] {
  const loaded = new LibraryTokenizer(structuredClone(tokenizer.toJSON()), {});
  return (text) => [...loaded.encode(text, { add_special_tokens: false }).ids];
}

/** Any text that UTF-8 can hold. */
const anyText = fc.string({ unit: 'binary', maxLength: 60 }).filter((text) => !/\p{Surrogate}/u.test(text));

describe('BPE trainer', () => {
  const vocabulary = trained(corpus, expected.vocab_size, expected.min_frequency);

  test('makes the tokenizer.json that Hugging Face tokenizers makes', () => {
    expect(new BpeTokenizer(vocabulary).toJSON()).toEqual(fixtureJson);
  });

  test.each(expected.samples)('gives the ids and the decoding of $text', ({ text, ids, decoded }) => {
    const tokenizer = new BpeTokenizer(vocabulary);
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids, { specialTokens: true })).toBe(decoded);
  });

  test('does not depend on how the text was cut', () => {
    const words = new WordCounter();
    let rest = corpus.slice(0, 20_000);
    while (rest.length > 100) {
      const cut = lastSafeCut(rest.slice(0, 97));
      words.add(rest.slice(0, cut));
      rest = rest.slice(cut);
    }
    words.add(rest);
    const parts = trainBpe(words.counts, { vocabSize: 400, special: [END_OF_TEXT] });
    expect(parts).toEqual(trained(corpus.slice(0, 20_000), 400));
  });

  test('merges only pairs that are frequent enough, and stops when there are none', () => {
    // "ab" three times, " ab" and "cd" only twice
    expect(trained('ab ab ab cd cd', 1000, 3).merges).toEqual([['a', 'b']]);
    expect(trained('ab ab ab cd cd', 1000, 2).merges).toEqual([
      ['a', 'b'],
      ['c', 'd'],
      ['Ġ', 'ab'],
      ['Ġ', 'cd'],
    ]);
    expect(trained('abc', 1000, 2).merges).toEqual([]);
  });

  test('of pairs as frequent takes the one with the lower ids', () => {
    expect(trained('zy zy xw xw', 258, 2).merges).toEqual([['x', 'w']]);
  });

  test('counts overlapping pairs of a run as the merges go', () => {
    // aaaa -> (aa)(aa) -> aaaa
    expect(trained('aaaa aaaa', 1000, 2).merges.slice(0, 2)).toEqual([
      ['a', 'a'],
      ['aa', 'aa'],
    ]);
  });

  test('puts special tokens first and refuses a vocabulary that cannot hold the bytes', () => {
    const words = new Map([['ab', 5]]);
    const { tokens } = trainBpe(words, { vocabSize: 259, special: ['<s>', '</s>'] });
    expect(tokens.slice(0, 3)).toEqual(['<s>', '</s>', '!']);
    expect(tokens).toHaveLength(259);
    expect(() => trainBpe(words, { vocabSize: 257, special: ['<s>', '</s>'] })).toThrow(/257 .* 2 special.*/);
  });
});

describe('our BPE tokenizer', () => {
  const byLibrary = library(fixture);

  test('is what a byte-level tokenizer.json loads as', () => {
    expect(fixture).toBeInstanceOf(BpeTokenizer);
    expect(fixture).toMatchObject({ kind: 'bpe', vocabSize: 700, endOfText: 0 });
  });

  test.each(AWKWARD)('encodes %j as the library does', (text) => {
    expect(fixture.encode(text)).toEqual(byLibrary(text));
  });

  test('encodes and decodes any text as the library does, and gives it back', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const ids = fixture.encode(text);
        expect(ids).toEqual(byLibrary(text));
        expect(fixture.decode(ids)).toBe(text);
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  test('encodes a long word in reasonable time, as the pairwise definition does', () => {
    const word = 'thethatandyou'.repeat(40);
    expect(fixture.encode(word)).toEqual(byLibrary(word));
    // quadratic work on this would take minutes
    expect(fixture.decode(fixture.encode('ab'.repeat(200_000)))).toHaveLength(400_000);
  });

  test('leaves special tokens out of text unless asked', () => {
    const ids = fixture.encode(`a${END_OF_TEXT}b`);
    expect(ids[1]).toBe(0);
    expect(fixture.decode(ids)).toBe('ab');
    expect(fixture.decode(ids, { specialTokens: true })).toBe(`a${END_OF_TEXT}b`);
  });

  test('finds the longest of special tokens that begin alike', () => {
    const { tokens, merges } = trained('', 257);
    const tokenizer = new BpeTokenizer({ tokens: [...tokens, '<a>', '<a>>'], merges, special: ['<a>', '<a>>'] });
    expect(tokenizer.encode('<a>><a>')).toEqual([258, 257]);
    expect(tokenizer.encode('<a>><a>')).toEqual(library(tokenizer)('<a>><a>'));
  });

  test('decodes invalid UTF-8 as U+FFFD and passes over ids that are none', () => {
    const [first] = fixture.encode('東');
    expect(fixture.decode([first])).toBe('\u{FFFD}');
    expect(fixture.decode([9999])).toBe('');
  });

  test('is not used where the file asks for more than it does', () => {
    const unusual: [string, (json: Record<string, any>) => void][] = [
      ['normalizer', (json) => (json['normalizer'] = { type: 'NFC' })],
      ['prefix space', (json) => (json['pre_tokenizer'].add_prefix_space = true)],
      ['no splitting', (json) => (json['pre_tokenizer'].use_regex = false)],
      ['ignore_merges', (json) => (json['model'].ignore_merges = true)],
      ['added token that swallows spaces', (json) => (json['added_tokens'][0].lstrip = true)],
      ['added token of whole words', (json) => (json['added_tokens'][0].single_word = true)],
      ['added token that is not special', (json) => (json['added_tokens'][0].special = false)],
      ['a hole in the ids', (json) => (json['model'].vocab['zz'] = 800)],
      ['a byte without token', (json) => delete json['model'].vocab['ÿ']],
    ];
    for (const [name, change] of unusual) {
      const json = structuredClone(fixtureJson);
      change(json);
      expect(tokenizerFromJSON(json).kind, name).toBe('file');
    }
  });

  test('takes merges in both spellings and the end of text from the configuration', () => {
    const json = structuredClone(fixtureJson) as { model: { merges: unknown[] }; added_tokens: { content: string }[] };
    json.model.merges = (json.model.merges as [string, string][]).map((pair) => pair.join(' '));
    expect(tokenizerFromJSON(json as never).encode(corpus.slice(0, 500))).toEqual(fixture.encode(corpus.slice(0, 500)));
    json.added_tokens[0].content = '<eos>';
    expect(tokenizerFromJSON(json as never).endOfText).toBeUndefined();
    expect(tokenizerFromJSON(json as never, { eos_token: '<eos>' }).endOfText).toBe(0);
    expect(tokenizerFromJSON(json as never, { eos_token: { content: '<eos>' } }).endOfText).toBe(0);
  });
});

describe('splitting into words', () => {
  test('keeps every character, and safe cuts do not change it', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'é', '1', ' ', '\n', '\u0085', '!', "'s", '🙂')), (pieces) => {
        const text = pieces.join('');
        const cut = lastSafeCut(text);
        expect(splitWords(text).join('')).toBe(text);
        expect([...splitWords(text.slice(0, cut)), ...splitWords(text.slice(cut))]).toEqual(splitWords(text));
      }),
      { numRuns: 500, seed: 2 },
    );
  });
});

describe('byte tokenizer', () => {
  const bytes = byteTokenizer();

  test('has the 256 bytes and an end of text', () => {
    expect(bytes).toMatchObject({ kind: 'byte', vocabSize: 257, endOfText: 256 });
    expect(bytes.encode('A\u00e9\n')).toEqual([65, 0xc3, 0xa9, 10]);
  });

  test.each(AWKWARD)('the library loads its file and encodes %j the same', (text) => {
    expect(library(bytes)(text)).toEqual(bytes.encode(text));
  });

  test('gives every text back', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(bytes.decode(bytes.encode(text))).toBe(text);
      }),
      { numRuns: 200, seed: 3 },
    );
  });

  test('loads from its own file as the same kind', () => {
    const again = tokenizerFromJSON(JSON.parse(JSON.stringify(bytes.toJSON())));
    expect(again).toMatchObject({ kind: 'byte', vocabSize: 257, endOfText: 256 });
    expect(again.toJSON()).toEqual(bytes.toJSON());
  });
});

describe('character tokenizer', () => {
  const characters = new CharacterSet();
  for (const text of AWKWARD) characters.add(text);
  const plain = characters.tokenizer(false);
  const withEnd = characters.tokenizer(true);

  test('numbers the characters by code point', () => {
    const set = new CharacterSet();
    set.add('hello 🙂é');
    const tokenizer = set.tokenizer(true);
    expect(tokenizer.encode(' ehloé🙂')).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(tokenizer).toMatchObject({ vocabSize: 8, endOfText: 7 });
    expect(set.tokenizer(false).endOfText).toBeUndefined();
  });

  test.each(AWKWARD)('the library loads its file and encodes %j the same', (text) => {
    for (const tokenizer of [plain, withEnd]) {
      expect(library(tokenizer)(text)).toEqual(tokenizer.encode(text));
      expect(tokenizer.decode(tokenizer.encode(text), { specialTokens: true })).toBe(text);
    }
  });

  test('loads from its own file as the same kind', () => {
    for (const tokenizer of [plain, withEnd]) {
      const again = tokenizerFromJSON(JSON.parse(JSON.stringify(tokenizer.toJSON())));
      expect(again).toBeInstanceOf(CharacterTokenizer);
      expect(again.toJSON()).toEqual(tokenizer.toJSON());
    }
  });

  test('the library decodes what it encoded', () => {
    const loaded = new LibraryTokenizer(withEnd.toJSON(), {});
    const ids = withEnd.encode('a  b\n');
    expect(loaded.decode(ids, { clean_up_tokenization_spaces: false })).toBe('a  b\n');
  });

  test('names a character that it does not know', () => {
    expect(() => plain.encode('漢')).toThrow(/"漢" \(U\+6F22\)/);
    expect(() => plain.encode('漢')).toThrow(GemmoeError);
  });
});

describe('tokenizer files', () => {
  const write = (name: string, content: string) => {
    const path = join(scratch, name);
    writeFileSync(path, content);
    return path;
  };

  test('load by file and by folder', () => {
    expect(loadTokenizer(FIXTURE).vocabSize).toBe(700);
    expect(loadTokenizer(join(FIXTURE, 'tokenizer.json')).vocabSize).toBe(700);
  });

  test.each([
    ['absent.json', undefined, /there is no .*absent\.json/],
    ['broken.json', '{"model":', /broken\.json is not JSON/],
    ['list.json', '[1]', /list\.json holds no JSON object/],
    ['empty.json', '{}', /empty\.json is no tokenizer\.json/],
    ['huge.json', '{"model":{"type":"BPE","vocab":{"a":1e12},"merges":[]}}', /huge\.json .* too large/],
    ['merge.json', mergeOfNothing(), /merge\.json .* no token "ÿÿ"/],
  ])('%s is refused by name', (name, content, message) => {
    const path = content === undefined ? join(scratch, name) : write(name, content);
    expect(() => loadTokenizer(path)).toThrow(GemmoeError);
    expect(() => loadTokenizer(path)).toThrow(message);
  });

  /** A merge whose result is not in the vocabulary. */
  function mergeOfNothing(): string {
    const json = structuredClone(fixtureJson) as { model: { merges: unknown[] } };
    json.model.merges = [['ÿ', 'ÿ']];
    return JSON.stringify(json);
  }
});

/** A SentencePiece-style tokenizer with byte fallback, as Mixtral's, in small. */
function sentencePieceJson(): Record<string, unknown> {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const vocab = ['<unk>', '<s>', '</s>', ...bytes, '▁', 'a', 'b', 'c', '▁a', 'bc', '▁b'];
  return {
    version: '1.0',
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({
      id,
      content,
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
      merges: [
        ['▁', 'a'],
        ['b', 'c'],
        ['▁', 'b'],
      ],
    },
  };
}

describe('streaming decoder', () => {
  const sentencePiece = tokenizerFromJSON(sentencePieceJson());
  const tokenizers: [string, Tokenizer][] = [
    ['byte', byteTokenizer()],
    ['bpe', fixture],
    ['SentencePiece', sentencePiece],
  ];
  const texts = ['a bc  b a', '東京の夜は静かだ、とても静かだ。', '🙂🙃👩‍👩‍👧 é', 'abc\n  a b\t', 'caf\u00e9 \u{FFFD} b'];

  test.each(tokenizers)('%s: pieces joined are the text of all', (_, tokenizer) => {
    for (const text of texts) {
      const ids = tokenizer.encode(text);
      const decoder = new StreamingDecoder(tokenizer);
      const pieces = ids.map((id) => decoder.push(id));
      expect(pieces.join('') + decoder.flush()).toBe(tokenizer.decode(ids));
      // nothing was held back for longer than a character takes, and the space that SentencePiece begins with
      for (let i = 5; i < pieces.length; i++) expect(pieces.slice(i - 5, i).join('')).not.toBe('');
    }
  });

  test.each(tokenizers)('%s: what follows a prompt is what it adds to the text', (_, tokenizer) => {
    for (const text of texts) {
      const ids = tokenizer.encode(text);
      for (let cut = 0; cut <= ids.length; cut++) {
        const decoder = new StreamingDecoder(tokenizer, ids.slice(0, cut));
        const before = tokenizer.decode(ids.slice(0, cut)).replace(/\u{FFFD}+$/u, '');
        const rest = ids.slice(cut).map((id) => decoder.push(id));
        if (text.includes('\u{FFFD}')) continue; // whether it is broken cannot be told at the end of a prompt
        expect(before + rest.join('') + decoder.flush()).toBe(tokenizer.decode(ids));
      }
    }
  });

  test('gives a character when its last byte comes, and no sooner', () => {
    const decoder = new StreamingDecoder(byteTokenizer());
    expect([0x61, 0xf0, 0x9f, 0x99, 0x82, 0x62].map((byte) => decoder.push(byte))).toEqual([
      'a',
      '',
      '',
      '',
      '🙂',
      'b',
    ]);
    expect(decoder.flush()).toBe('');
  });

  test('gives broken bytes as U+FFFD, at the latest at the end', () => {
    const bytes = byteTokenizer();
    const streams = fc.array(fc.constantFrom(0x61, 0x80, 0xc3, 0xa9, 0xe6, 0x9d, 0xb1, 0xf0, 0x9f, 0xff, 256), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(streams, (ids) => {
        const decoder = new StreamingDecoder(bytes);
        const pieces = ids.map((id) => decoder.push(id));
        expect(pieces.join('') + decoder.flush()).toBe(bytes.decode(ids));
      }),
      { numRuns: 500, seed: 4 },
    );
  });

  test('keeps the space between words of a SentencePiece tokenizer', () => {
    const ids = sentencePiece.encode('a a b bc');
    const decoder = new StreamingDecoder(sentencePiece);
    const pieces = ids.map((id) => decoder.push(id));
    expect(pieces.slice(0, 3)).toEqual(['a', ' a', ' b']);
  });
});

describe.skipIf(!existsSync(STORIES))('stories260k (skipped where ../shared/data is absent)', () => {
  const tokenizer = existsSync(STORIES) ? loadTokenizer(STORIES) : fixture;
  const story = existsSync(STORIES)
    ? (JSON.parse(readFileSync(join(STORIES, 'expected.json'), 'utf8')) as {
        prompt: string;
        prompt_ids: number[];
        greedy_ids: number[];
        text: string;
      })
    : undefined;

  test('gives the ids of the prompt and the text of the story', () => {
    expect(tokenizer.kind).toBe('file');
    expect(tokenizer.encode(story?.prompt ?? '', { specialTokens: true })).toEqual(story?.prompt_ids);
    expect(tokenizer.encode(story?.prompt ?? '')).toEqual(story?.prompt_ids.slice(1));
    const ids = [...(story?.prompt_ids ?? []), ...(story?.greedy_ids ?? [])];
    expect(tokenizer.decode(ids)).toBe(story?.text);
    expect(tokenizer.endOfText).toBe(2);
  });

  test('streams the story', () => {
    const decoder = new StreamingDecoder(tokenizer, story?.prompt_ids);
    const pieces = (story?.greedy_ids ?? []).map((id) => decoder.push(id));
    expect((story?.prompt ?? '') + pieces.join('') + decoder.flush()).toBe(story?.text);
  });
});
