import assert from 'node:assert/strict';
import { test } from 'node:test';

import { formatNumber } from '../src/format';
import {
  asksForLog,
  extent,
  joinMarks,
  logTicks,
  nearest,
  pathOf,
  scale,
  spread,
  stepTicks,
  tickLabels,
  ticks
} from '../src/plot';

test('extremes leave out what is not finite', () => {
  assert.deepEqual(extent([3, null, -1, Infinity, NaN]), [-1, 3]);
  assert.deepEqual(extent([3, -1, 0.5], true), [0.5, 3]);
  assert.equal(extent([null, NaN]), null);
});

test('a scale maps its ends to the ends, also where the values are huge', () => {
  const huge = scale(-1.7e308, 1.7e308, 0, 100);
  assert.equal(huge.map(-1.7e308), 0);
  assert.equal(huge.map(0), 50);
  assert.equal(huge.map(1.7e308), 100);
  const log = scale(0.001, 10, 0, 4, true);
  assert.ok(Math.abs(log.map(0.1) - 2) < 1e-9);
});

test('a constant has a scale too', () => {
  assert.equal(scale(5, 5, 0, 100).map(5), 50);
  assert.equal(scale(0, 0, 0, 100).map(0), 50);
  assert.ok(Math.abs(scale(5, 5, 0, 100, true).map(5) - 50) < 1e-9);
});

test('ticks are round', () => {
  assert.deepEqual(ticks(0, 1, 4), [0, 0.25, 0.5, 0.75, 1]);
  assert.deepEqual(ticks(0.113, 0.99, 4), [0.25, 0.5, 0.75]);
  assert.deepEqual(ticks(-3, 7, 5), [-2, 0, 2, 4, 6]);
  assert.deepEqual(ticks(2, 2, 4), [2]);
  assert.deepEqual(ticks(0, Infinity, 4), [0]);
  assert.deepEqual(stepTicks(0, 3, 8), [0, 1, 2, 3]);
});

test('tick labels have equally many decimals', () => {
  assert.deepEqual(tickLabels([2, 2.5, 3], formatNumber), ['2.0', '2.5', '3.0']);
  assert.deepEqual(tickLabels([-0.5, 0, 0.25], formatNumber), ['−0.50', '0.00', '0.25']);
  assert.deepEqual(tickLabels([0, 10], formatNumber), ['0', '10']);
  assert.deepEqual(tickLabels([1e-7, 0.5], formatNumber), ['1.00e−7', '0.5']);
});

test('log ticks are powers of ten, and round numbers where no two fit', () => {
  assert.deepEqual(logTicks(0.001, 100, 6), [0.001, 0.01, 0.1, 1, 10, 100]);
  assert.deepEqual(logTicks(1e-6, 1e6, 4), [1e-6, 0.01, 100, 1e6]);
  assert.deepEqual(logTicks(2, 8, 4), [2, 4, 6, 8]);
});

test('a log scale is offered when the range asks for it', () => {
  assert.equal(asksForLog([0.001, 1]), true);
  assert.equal(asksForLog([0.1, 1]), false);
  assert.equal(asksForLog([0, 1000]), false);
  assert.equal(asksForLog([null]), false);
});

test('a path has a gap where a value is not finite, and a dot for a lone point', () => {
  const x = scale(0, 4, 0, 4);
  const y = scale(0, 10, 10, 0);
  assert.equal(pathOf([0, 1, 2, 3, 4], [1, 2, null, 4, 5], x, y), 'M0.0,9.0L1.0,8.0 M3.0,6.0L4.0,5.0');
  assert.equal(pathOf([0, 1, 2], [null, 2, null], x, y), 'M1.0,8.0h0');
  assert.equal(pathOf([0, 1, 2], [1, 2, 3], x, y), 'M0.0,9.0L1.0,8.0 2.0,7.0');
  assert.equal(pathOf([], [], x, y), '');
});

test('a log path leaves out what it cannot show', () => {
  const x = scale(0, 3, 0, 3);
  const y = scale(1, 100, 0, 2, true);
  assert.equal(pathOf([0, 1, 2, 3], [10, 0, -1, 100], x, y), 'M0.0,1.0h0 M3.0,2.0h0');
});

test('the nearest point to the pointer is found', () => {
  const steps = [0, 10, 20, 30];
  assert.deepEqual([-5, 4, 5, 6, 100].map(at => nearest(steps, at)), [0, 0, 0, 1, 3]);
  assert.equal(nearest([], 1), -1);
});

test('labels move apart and stay in order', () => {
  assert.deepEqual(spread([50, 52], 12, 0, 100), [50, 62]);
  assert.deepEqual(spread([98, 99], 12, 0, 100), [88, 100]);
  assert.deepEqual(spread([30, 10], 12, 0, 100), [30, 10]);
});

test('marks that touch are one', () => {
  const x = scale(0, 100, 0, 100);
  const marks: [number, string][] = [
    [10, 'NaN'],
    [12, 'NaN'],
    [13, 'Infinity'],
    [50, 'NaN']
  ];
  assert.deepEqual(joinMarks(marks, x, 4), [
    { from: 10, to: 12, what: 'NaN' },
    { from: 13, to: 13, what: 'Infinity' },
    { from: 50, to: 50, what: 'NaN' }
  ]);
});
