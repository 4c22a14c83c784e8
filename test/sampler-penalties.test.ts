// What looks at the text so far, or at chosen tokens: penalties, bans, biases, DRY, on cases worked by hand.

import { describe, expect, test } from 'vitest';
import { createChain } from '../core/generation/sampler-chain.ts';
import { alphabetTokenizer, kept, samplers, transformed } from './support/samplers.ts';

const after = (spec: string, logits: number[], ids: number[], step = 0) => [
  ...transformed(spec, Float64Array.from(logits), { ids, step }),
];

describe('penalties', () => {
  test.each<[string, number[], number[], number[]]>([
    // once per token, prompt included: positive logits divided, others multiplied
    ['repetition-penalty:penalty=2', [3, -3, 0, 5], [0, 1, 1, 2], [1.5, -6, 0, 5]],
    ['repetition-penalty:penalty=1', [3, -3, 0, 5], [0, 1], [3, -3, 0, 5]],
    ['repetition-penalty:penalty=0.5', [3, -3], [0, 1], [6, -1.5]],
    ['repetition-penalty:penalty=2,lastN=2', [4, 4, 4], [0, 1, 2], [4, 2, 2]],
    ['repetition-penalty:penalty=2', [4, -Infinity], [0, 1], [2, -Infinity]],
    ['frequency-penalty:penalty=0.5', [1, 1, 1], [0, 1, 1, 1], [0.5, -0.5, 1]],
    ['frequency-penalty:penalty=-1', [1, 1], [0, 0], [3, 1]],
    ['frequency-penalty:penalty=1,lastN=3', [1, 1, 1], [0, 0, 0, 1, 0], [-1, 0, 1]],
    ['presence-penalty:penalty=0.5', [1, 1, 1], [0, 1, 1, 1], [0.5, 0.5, 1]],
    ['presence-penalty:penalty=1,lastN=1', [1, 1], [0, 1], [1, 0]],
    // ids that pad the table have no logit here
    ['presence-penalty:penalty=1', [1, 1], [0, 7], [0, 1]],
  ])('%s of %j after %j', (spec, logits, ids, expected) => {
    expect(after(spec, logits, ids)).toEqual(expected);
  });

  test('forget what leaves the window', () => {
    const chain = createChain('presence-penalty:penalty=9,lastN=2;greedy', samplers, 1);
    const next = (...ids: number[]) => chain.next(Float64Array.of(3, 2, 1), { ids, promptLength: 1, step: 0 });
    expect(next(0)).toBe(1);
    expect(next(0, 1)).toBe(2);
    expect(next(0, 1, 2)).toBe(0);
  });
});

describe('no-repeat-ngram', () => {
  test.each<[string, number[], number[]]>([
    // 1 2 was followed by 3, and the text ends with 1 2
    ['no-repeat-ngram:size=3', [1, 2, 3, 0, 1, 2], [0, 1, 2]],
    ['no-repeat-ngram:size=2', [1, 2, 1, 3, 1], [0, 1]],
    ['no-repeat-ngram:size=1', [1, 2], [0, 3]],
    ['no-repeat-ngram:size=2', [3, 3], [0, 1, 2]], // overlapping
    ['no-repeat-ngram:size=4', [1, 2], [0, 1, 2, 3]],
    ['no-repeat-ngram:size=0', [1, 1], [0, 1, 2, 3]],
  ])('%s after %j leaves %j', (spec, ids, left) => {
    expect(kept(spec, new Float64Array(4), { ids })).toEqual(left);
  });

  test('holds over a text', () => {
    const chain = createChain('no-repeat-ngram:size=2;sample', samplers, 1);
    const ids = [0];
    for (let step = 0; step < 20; step++) ids.push(chain.next(new Float64Array(6), { ids, promptLength: 1, step }));
    const pairs = ids.slice(1).map((id, i) => `${ids[i]} ${id}`);
    expect(new Set(pairs).size).toBe(20);
  });
});

describe('tokens that are chosen for', () => {
  test.each<[string, number[], number[], number, number[]]>([
    ['logit-bias:biases=0:1.5|2:-2', [1, 1, 1], [9], 0, [2.5, 1, -1]],
    ['logit-bias:biases=1:-inf', [1, 1, 1], [9], 0, [1, -Infinity, 1]],
    ['logit-bias:biases=1:inf', [5, 1, 1], [9], 0, [-Infinity, 0, -Infinity]],
    ['logit-bias:biases=1:inf|2:+inf', [5, 1, 1], [9], 0, [-Infinity, 0, 0]],
    ['logit-bias:biases=0 1 2:-3', [1, 1, 1], [0, 1], 0, [1, 1, -2]], // the text ends with 0 1
    ['logit-bias:biases=0 1 2:-3', [1, 1, 1], [1, 0], 0, [1, 1, 1]],
    ['logit-bias:biases=0 1 2:-3', [1, 1, 1], [1], 0, [1, 1, 1]],
    ['logit-bias:biases=2:1e1|2:1', [1, 1, 1], [1], 0, [1, 1, 12]],
    ['bad-words:ids=0|1 2', [1, 1, 1], [1], 0, [-Infinity, 1, -Infinity]],
    ['bad-words:ids=0|1 2', [1, 1, 1], [2], 0, [-Infinity, 1, 1]],
    ['ban-tokens:ids=0|2', [1, 1, 1], [1], 7, [-Infinity, 1, -Infinity]],
    ['ban-tokens:ids=0,steps=2', [1, 1], [1], 1, [-Infinity, 1]],
    ['ban-tokens:ids=0,steps=2', [1, 1], [1], 2, [1, 1]],
    ['ban-tokens:ids=0,length=3', [1, 1], [1, 1], 1, [-Infinity, 1]],
    ['ban-tokens:ids=0,length=3', [1, 1], [1, 1, 1], 1, [1, 1]],
    ['force-tokens:ids=1|0', [3, 2], [1], 0, [-Infinity, 2]],
    ['force-tokens:ids=1|0', [3, 2], [1], 1, [3, -Infinity]],
    ['force-tokens:ids=1|0', [3, 2], [1], 2, [3, 2]],
    ['force-tokens:ids=1,at=5', [3, 2], [1], 5, [-Infinity, 2]],
    ['force-tokens:ids=1', [3, -Infinity], [1], 0, [-Infinity, 0]], // even where it was banned
  ])('%s of %j after %j at step %d', (spec, logits, ids, step, expected) => {
    expect(after(spec, logits, ids, step)).toEqual(expected);
  });

  test('bad words may be text', () => {
    const tokenizer = alphabetTokenizer('abc ,');
    const left = (spec: string, ids: number[]) => kept(spec, new Float64Array(5), { ids, tokenizer });
    expect(left('bad-words:words=ab|c', [0])).toEqual([0, 3, 4]);
    expect(left('bad-words:words=ab|c', [1])).toEqual([0, 1, 3, 4]);
    expect(left('bad-words:words=\\x20a|\\x2c', [3])).toEqual([1, 2, 3]);
  });
});

describe('dry', () => {
  //                             0123456789
  const tokenizer = alphabetTokenizer('abcdefgh\n.');
  const penalties = (spec: string, text: string) => {
    const ids = tokenizer.encode(text);
    const logits = transformed(spec, new Float64Array(10), { ids, tokenizer });
    return Object.fromEntries(
      [...logits.entries()].flatMap(([id, logit]) => (logit < 0 ? [['abcdefgh\n.'[id], -logit]] : [])),
    );
  };

  test('is exponential in the length of what is repeated', () => {
    // the text ends with abc, which d followed: n = 3, 0.5·2^(3-2) = 1; with bc, which e followed: n = 2, 0.5
    expect(penalties('dry:multiplier=0.5,base=2', 'abcdxbce abc'.replace(/[x ]/g, 'f'))).toEqual({ d: 1, e: 0.5 });
    // of two occurrences the longer one counts
    expect(penalties('dry:multiplier=0.5,base=2', 'bcdgabcdhabc')).toEqual({ d: 1 });
  });

  test('leaves short repetitions alone', () => {
    expect(penalties('dry:multiplier=0.5,base=2,allowed=4', 'abcdfabc')).toEqual({});
    expect(penalties('dry:multiplier=0.5,base=2,allowed=3', 'abcdfabc')).toEqual({ d: 0.5 });
    expect(penalties('dry:multiplier=0.5,base=2,allowed=1', 'adga')).toEqual({ d: 0.5 });
    expect(penalties('dry:multiplier=0', 'abcdfabc')).toEqual({});
  });

  test('counts a run of one token with overlap', () => {
    // the newest four a stand one earlier too: n = 4
    expect(penalties('dry:multiplier=1,base=2', 'aaaaa')).toEqual({ a: 4 });
  });

  test('ends at breakers, and spares them', () => {
    expect(penalties('dry:multiplier=1,base=2', 'ab\ncdgab\nc')).toEqual({}); // only c comes after the line end
    expect(penalties('dry:multiplier=1,base=2', 'ab\ngab')).toEqual({}); // the line end itself
    expect(penalties('dry:multiplier=1,base=2', 'a\nbcdga\nbc')).toEqual({ d: 1 }); // bc, not a\nbc: 2^0
    expect(penalties('dry:multiplier=1,base=2,breakers=.', 'a\nbcdga\nbc')).toEqual({ d: 4 });
    expect(penalties('dry:multiplier=1,base=2,breakers=g', 'abcdgabc')).toEqual({ d: 2 });
    expect(penalties('dry:multiplier=1,base=2,breakers=ga', 'abcdgabc')).toEqual({ d: 1 }); // two tokens: bc is left
    expect(penalties('dry:multiplier=1,base=2,breakerIds=3', 'abcdgabc')).toEqual({});
  });

  test('looks back as far as it is told to', () => {
    expect(penalties('dry:multiplier=1,base=2,lastN=8', 'abcdgabc')).toEqual({ d: 2 });
    expect(penalties('dry:multiplier=1,base=2,lastN=7', 'abcdgabc')).toEqual({ d: 1 });
    expect(penalties('dry:multiplier=1,base=2,lastN=5', 'abcdgabc')).toEqual({});
  });

  test('stays a number however long the repetition', () => {
    const ids = Array.from({ length: 3000 }, () => 1);
    const logits = transformed('dry:multiplier=5,base=4', new Float32Array(3), { ids });
    expect(Number.isFinite(logits[1])).toBe(true);
    expect(logits[1]).toBeLessThan(-1e38);
  });
});

describe('bad input', () => {
  test.each<[string, RegExp]>([
    ['temperature:value=-1', /temperature: value: Too small.*not "-1"/],
    ['temperature:value=NaN', /temperature: value: .*not "NaN"/],
    ['dynamic-temperature:range=-1', /dynamic-temperature: range: Too small/],
    ['top-p:p=0', /top-p: p: Too small: expected number to be >0, not "0"/],
    ['top-p:p=1.01', /top-p: p: Too big/],
    ['top-k:k=2.5', /top-k: k: .*expected int.*not "2.5"/],
    ['top-k:k=-1', /top-k: k: Too small/],
    ['min-p:p=2', /min-p: p: Too big/],
    ['typical:mass=0', /typical: mass: Too small/],
    ['epsilon-cutoff:epsilon=1', /epsilon-cutoff: epsilon: Too big/],
    ['eta-cutoff:epsilon=-0.1', /eta-cutoff: epsilon: Too small/],
    ['top-a:a=2', /top-a: a: Too big/],
    ['top-n-sigma:n=-1', /top-n-sigma: n: Too small/],
    ['xtc:threshold=0', /xtc: threshold: Too small/],
    ['mirostat:tau=0', /mirostat: tau: Too small/],
    ['repetition-penalty:penalty=0', /repetition-penalty: penalty: Too small/],
    ['repetition-penalty:penalty=1.2,lastN=0', /repetition-penalty: lastN: Too small/],
    ['presence-penalty:penalty=Infinity', /presence-penalty: penalty: /],
    ['no-repeat-ngram:size=1.5', /no-repeat-ngram: size: /],
    ['dry:base=0.5', /dry: base: Too small/],
    ['dry:allowed=0', /dry: allowed: Too small/],
    ['dry:breakers=\\n', /dry: there is no tokenizer for its breakers/],
    ['dry:breakers=\\q', /dry: breakers: \\q is none of/],
    ['dry:breakers=a||b', /dry: breakers: must be texts with \| between them, none empty/],
    ['dry:breakerIds=x', /dry: breakerIds: must be ids with \| between them/],
    ['logit-bias', /logit-bias: biases: /],
    ['logit-bias:biases=5', /logit-bias: biases: must be ids and what is added.*not "5"/],
    ['logit-bias:biases=5:x', /logit-bias: biases: must be ids/],
    ['bad-words', /bad-words: no sequence is given/],
    ['bad-words:words=foo', /bad-words: there is no tokenizer for the word "foo"/],
    ['bad-words:ids=1.5', /bad-words: ids: must be sequences of ids/],
    ['ban-tokens', /ban-tokens: ids: /],
    ['ban-tokens:ids=-1', /ban-tokens: ids: must be ids/],
    ['force-tokens:ids=1,at=-1', /force-tokens: at: Too small/],
    // options of one plugin given to another
    ['top-k:p=0.5', /top-k has no option "p"/],
    ['mirostat:temperature=1', /mirostat has no option "temperature"/],
    ['greedy:k=1', /greedy has no option "k"/],
    ['presence-penalty:last-n=5', /presence-penalty has no option "last-n"/],
    ['mirostat;sample', /mirostat picks a token, so nothing can follow it/],
    ['toppp:p=0.5', /there is no sampler named "toppp"/],
  ])('"%s" is refused', (text, message) => expect(() => createChain(text, samplers, 1)).toThrow(message));

  test('hints name the nearest', () => {
    const refused = (text: string) => {
      try {
        createChain(text, samplers, 1);
      } catch (error) {
        return (error as { hint?: string }).hint;
      }
    };
    expect(refused('presence-penalty:lastn=5')).toMatch(/did you mean "lastN"/);
    expect(refused('typical-p')).toMatch(/did you mean "typical"/);
  });

  test('a breaker that the tokenizer cannot write is refused, the usual ones are passed over', () => {
    const tokenizer = alphabetTokenizer('ab');
    const make = (text: string) => () => createChain(text, samplers, 1, {}, { tokenizer });
    expect(make('dry:breakers=a|ö')).toThrow(/dry: the breaker "ö" is unknown to the tokenizer: ö has no id/);
    expect(make('dry')).not.toThrow();
  });

  test.each(['logit-bias:biases=9:1', 'bad-words:ids=0 9', 'ban-tokens:ids=9', 'force-tokens:ids=9'])(
    '%s in a vocabulary of 4 is refused',
    (text) => {
      const next = () =>
        createChain(text, samplers, 1).next(new Float64Array(4), { ids: [0], promptLength: 1, step: 0 });
      expect(next).toThrow(/token id 9 is outside the vocabulary of 4/);
    },
  );
});
