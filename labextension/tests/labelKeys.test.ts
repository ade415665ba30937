import assert from 'node:assert/strict';
import { test } from 'node:test';

import { asked, IKey } from '../src/labelKeys';

const KEYS = ['1', '2', 'q'];
const press = (key: string, held: Partial<IKey> = {}): IKey => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  shiftKey: false,
  ...held
});
const what = (key: string, held: Partial<IKey> = {}, hasNotes = false) => asked(press(key, held), KEYS, hasNotes);

test('keys of classes choose them, in either case', () => {
  assert.deepEqual(what('1'), { do: 'class', at: 0 });
  assert.deepEqual(what('q'), { do: 'class', at: 2 });
  assert.deepEqual(what('Q', { shiftKey: true }), { do: 'class', at: 2 });
  assert.deepEqual(what('3'), { do: 'keep' });
});

test('a label key is kept from the notebook, whose command it may be, even where it chooses nothing', () => {
  for (const key of ['a', 'b', 'd', 'x', 'Z', '0', 'Delete']) {
    assert.deepEqual(what(key), { do: 'keep' }, key);
  }
});

test('what the application does with a key stays its own while one labels', () => {
  for (const key of ['Tab', 'F5', 'ArrowUp', 'ArrowDown', 'Shift', 'Control', 'PageDown']) {
    assert.equal(what(key), null, key);
  }
  assert.equal(what('s', { ctrlKey: true }), null);
  assert.equal(what('1', { altKey: true }), null);
  assert.equal(what('z', { ctrlKey: true, shiftKey: true }), null);
  assert.equal(what('Enter', { shiftKey: true }), null);
  assert.equal(what('Enter', { ctrlKey: true }), null);
});

test('a label is taken back, put off, confirmed, remarked on, explained and left by keys', () => {
  assert.deepEqual(what('Backspace'), { do: 'undo' });
  assert.deepEqual(what('z', { ctrlKey: true }), { do: 'undo' });
  assert.deepEqual(what('z', { metaKey: true }), { do: 'undo' });
  assert.deepEqual(what(' '), { do: 'skip' });
  assert.deepEqual(what('ArrowRight'), { do: 'skip' });
  assert.deepEqual(what('Enter'), { do: 'enter' });
  assert.deepEqual(what('?', { shiftKey: true }), { do: 'help' });
  assert.deepEqual(what('Escape'), { do: 'leave' });
  assert.deepEqual(what('n', {}, true), { do: 'note' });
  assert.deepEqual(what('n'), { do: 'keep' });
});
