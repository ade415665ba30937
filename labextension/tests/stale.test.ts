import assert from 'node:assert/strict';
import { test } from 'node:test';

import { badgesOf, cellsToRun, concernsData, IStaleCell } from '../src/stale';

const stale = (id: string, count: number | null = 1, after: string[] = []): IStaleCell => ({
  cell_id: id,
  execution_count: count,
  why: 'made from sales v3; v4 is newest',
  moved: [['sales', 3, 4]],
  after
});

test('exactly the cells that show what the record tells of get a badge', () => {
  const cells = [
    { id: 'a', count: 1 },
    { id: 'b', count: 7 },
    { id: 'c', count: null },
    { id: 'd', count: 4 },
    { id: 'e', count: 5 }
  ];
  const told = [stale('a'), stale('b', 6), stale('c'), stale('d', null), stale('gone')];
  assert.deepEqual([...badgesOf(cells, told).keys()], ['a', 'd']);
});

test('cells run in the order of the notebook, each once, and those that are gone do not', () => {
  const order = ['load', 'keep', 'other', 'part', 'chart', 'late'];
  const chart = stale('chart', 5, ['part', 'load', 'deleted', 'keep']);
  assert.deepEqual(cellsToRun(order, [chart]), ['load', 'keep', 'part', 'chart']);
  assert.deepEqual(cellsToRun(order, [chart, stale('part', 4, ['load'])]), ['load', 'keep', 'part', 'chart']);
  assert.deepEqual(cellsToRun(order, []), []);
});

test('only data and its uses concern a badge', () => {
  assert.equal(concernsData(null), true);
  assert.equal(concernsData(['run_1', 'ds_1']), true);
  assert.equal(concernsData(['use_1']), true);
  assert.equal(concernsData(['run_1', 'cell_2']), false);
});
