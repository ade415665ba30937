import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IKept, changedLines, isSameSource, plainLines } from '../src/sources';

const whole = (source: string): IKept => ({ source, is_whole: true, is_cut: false });
const redacted = (source: string): IKept => ({ source, is_whole: false, is_cut: false });
const cut = (source: string): IKept => ({ source, is_whole: false, is_cut: true });

/** Return the changed lines as text. */
function shown(then: IKept, now: string, around?: number): string[] {
  return changedLines(then, now, around).map(line => line.mark + line.text);
}

test('a source is the same only if every character is', () => {
  assert.equal(isSameSource(whole('a\nb'), 'a\nb'), true);
  assert.equal(isSameSource(whole('a\nb'), 'a\nb '), false);
  assert.equal(isSameSource(whole(''), ''), true);
});

test('changed lines stand in order, with those around them', () => {
  const then = 'for x in loader:\n    y = net(x)\n    step(y)\nend()';
  const now = 'for x in loader:\n    y = net(x) * 2\n    step(y)\nend()\nmore()';
  assert.deepEqual(shown(whole(then), now), [
    ' for x in loader:',
    '-    y = net(x)',
    '+    y = net(x) * 2',
    '     step(y)',
    ' end()',
    '+more()'
  ]);
});

test('what did not change is left out between changes', () => {
  const lines = Array.from({ length: 20 }, (_, i) => `line ${i}`);
  const now = lines.map((line, i) => (i === 5 || i === 15 ? `${line}!` : line));
  assert.deepEqual(shown(whole(lines.join('\n')), now.join('\n'), 1), [
    '…', ' line 4', '-line 5', '+line 5!', ' line 6', '…', ' line 14', '-line 15', '+line 15!', ' line 16', '…'
  ]);
});

test('lines that moved, came or went are few', () => {
  assert.deepEqual(shown(whole('a\nb\nc\nd'), 'a\nc\nd\nb'), [' a', '-b', ' c', ' d', '+b']);
  assert.deepEqual(shown(whole('a\nb'), ''), ['-a', '-b', '+']);
  assert.deepEqual(shown(whole('same'), 'same'), ['…']);
});

test('a secret that was taken out is no change', () => {
  const then = 'client = Client(token="[redacted]", retries=3)\nclient.go()';
  assert.equal(isSameSource(redacted(then), "client = Client(token='hf_abc', retries=3)\nclient.go()"), true);
  assert.equal(isSameSource(redacted(then), "client = Client(token='hf_abc', retries=4)\nclient.go()"), false);
  assert.deepEqual(shown(redacted(then), "client = Client(token='hf_abc', retries=3)\nclient.stop()"), [
    ' client = Client(token="[redacted]", retries=3)',
    '-client.go()',
    '+client.stop()'
  ]);
  assert.equal(isSameSource(whole('x = "[redacted]"'), 'x = "else"'), false);
});

test('a line of many secrets is compared at once, and each of them is something', () => {
  const many = `keys = [${'"[redacted]", '.repeat(40)}]`;
  const now = (words: string[]): string => `keys = [${words.map(word => `'${word}', `).join('')}]`;
  assert.equal(isSameSource(redacted(many), now(Array<string>(40).fill('a'))), true);
  assert.equal(isSameSource(redacted(many), now(Array<string>(39).fill('a'))), false);
  assert.equal(isSameSource(redacted('"[redacted]"'.repeat(40) + '!'), 'x'.repeat(5000)), false);
  assert.equal(isSameSource(redacted('f("[redacted]")'), 'f()'), false);
  assert.equal(isSameSource(redacted('a "[redacted]" a'), 'a a'), false);
});

test('an end that was not kept is no change', () => {
  assert.equal(isSameSource(cut('a\nb\nhalf a li'), 'a\nb\nhalf a line\nand more'), true);
  assert.equal(isSameSource(cut('a\nb\nhalf a li'), 'a\nB\nhalf a line\nand more'), false);
  assert.deepEqual(shown(cut('a\nb\nhalf'), 'a\nB\nhalf a line'), [' a', '-b', '+B']);
  assert.deepEqual(shown(cut('a\nb\nhalf'), 'a\nnew\nb\nhalf a line\nend'), [' a', '+new', ' b']);
});

test('very long sources are compared at once', () => {
  const many = (word: string): string => Array.from({ length: 3000 }, (_, i) => `${word} ${i}`).join('\n');
  const lines = changedLines(whole(`head\n${many('old')}\ntail`), `head\n${many('new')}\ntail`);
  assert.equal(lines.length, 6002);
  assert.deepEqual([lines[0].text, lines[6001].text], ['head', 'tail']);
});

test('a plain source has no marks', () => {
  assert.deepEqual(plainLines('a\n\nb'), [
    { mark: ' ', text: 'a' },
    { mark: ' ', text: '' },
    { mark: ' ', text: 'b' }
  ]);
});
