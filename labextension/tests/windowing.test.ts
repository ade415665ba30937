import assert from 'node:assert/strict';
import { test } from 'node:test';

import { moveCursor, pagesFor, scrollToShow, visibleRange } from '../src/windowing';

test('only the rows in view and a few more are drawn', () => {
  assert.deepEqual(visibleRange(0, 560, 28, 10_000), { first: 0, last: 26 });
  assert.deepEqual(visibleRange(28_000, 560, 28, 10_000), { first: 994, last: 1026 });
  assert.deepEqual(visibleRange(279_440, 560, 28, 10_000), { first: 9974, last: 10_000 });
});

test('an empty list, and one that shrank while it was scrolled, draw nothing that is not there', () => {
  assert.deepEqual(visibleRange(0, 560, 28, 0), { first: 0, last: 0 });
  assert.deepEqual(visibleRange(28_000, 560, 28, 10), { first: 10, last: 10 });
});

test('pages cover the range', () => {
  assert.deepEqual(pagesFor({ first: 0, last: 30 }, 200), [0]);
  assert.deepEqual(pagesFor({ first: 190, last: 220 }, 200), [0, 200]);
  assert.deepEqual(pagesFor({ first: 5, last: 5 }, 200), [0]);
  assert.deepEqual(pagesFor({ first: 0, last: 0 }, 200), []);
});

test('scrolling moves no further than it must', () => {
  assert.equal(scrollToShow(3, 0, 280, 28), 0);
  assert.equal(scrollToShow(10, 0, 280, 28), 28);
  assert.equal(scrollToShow(2, 140, 280, 28), 56);
});

test('keys move the cursor within the list', () => {
  assert.equal(moveCursor('ArrowDown', 0, 5, 3), 1);
  assert.equal(moveCursor('ArrowDown', 4, 5, 3), 4);
  assert.equal(moveCursor('ArrowUp', 0, 5, 3), 0);
  assert.equal(moveCursor('PageDown', 0, 100, 20), 19);
  assert.equal(moveCursor('PageUp', 50, 100, 20), 31);
  assert.equal(moveCursor('Home', 3, 5, 3), 0);
  assert.equal(moveCursor('End', 0, 5, 3), 4);
  assert.equal(moveCursor('a', 0, 5, 3), null);
  assert.equal(moveCursor('End', 0, 0, 3), null);
});
