import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IPage } from '../src/model';
import { PagedList } from '../src/pages';

interface ICall {
  offset: number;
  background: boolean;
  answer: (page: IPage<number>) => void;
  refuse: (error: Error) => void;
}

function listOfTen(): { list: PagedList<number>; calls: ICall[]; changes: () => number } {
  const calls: ICall[] = [];
  let changes = 0;
  const list = new PagedList<number>(
    (offset, _, background) =>
      new Promise((answer, refuse) => calls.push({ offset, background, answer, refuse })),
    () => (changes += 1),
    10
  );
  return { list, calls, changes: () => changes };
}

const rows = (from: number): number[] => Array.from({ length: 10 }, (_, i) => from + i);
const settle = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

test('a page is asked for once, also while it is on its way', async () => {
  const { list, calls, changes } = listOfTen();
  list.need([0]);
  list.need([0, 10]);
  assert.deepEqual(calls.map(call => call.offset), [0, 10]);
  assert.equal(list.loading, true);
  calls[0].answer({ total: 25, rows: rows(0) });
  calls[1].answer({ total: 25, rows: rows(10) });
  await settle();
  list.need([0, 10]);
  assert.equal(calls.length, 2);
  assert.equal(changes(), 2);
  assert.equal(list.loading, false);
  assert.equal(list.total, 25);
  assert.equal(list.row(13), 13);
  assert.equal(list.row(21), undefined);
});

test('a refresh asks again for what is shown and keeps it until the answer comes', async () => {
  const { list, calls } = listOfTen();
  list.need([10]);
  calls[0].answer({ total: 25, rows: rows(10) });
  await settle();
  const done = list.refresh();
  assert.equal(list.row(10), 10);
  assert.equal(calls[1].background, true);
  calls[1].answer({ total: 26, rows: rows(9) });
  await done;
  assert.equal(list.row(10), 9);
  assert.equal(list.total, 26);
});

test('refreshes during a refresh are joined to one more', async () => {
  const { list, calls } = listOfTen();
  const first = list.refresh();
  void list.refresh();
  void list.refresh();
  calls[0].answer({ total: 1, rows: [1] });
  await settle();
  assert.equal(calls.length, 2);
  calls[1].answer({ total: 2, rows: [1, 2] });
  await first;
  assert.equal(calls.length, 2);
  assert.equal(list.total, 2);
});

test('the answer to an old question is not shown', async () => {
  const { list, calls } = listOfTen();
  list.need([0]);
  const done = list.restart();
  calls[1].answer({ total: 1, rows: [111] });
  await done;
  calls[0].answer({ total: 25, rows: rows(0) });
  await settle();
  assert.equal(list.total, 1);
  assert.equal(list.row(0), 111);
});

test('a failed question keeps the rows, and the next good answer clears the error', async () => {
  const { list, calls } = listOfTen();
  list.need([0]);
  calls[0].answer({ total: 10, rows: rows(0) });
  await settle();
  const bad = list.restart();
  calls[1].refuse(new Error('cannot parse'));
  await bad;
  assert.match(String(list.error), /cannot parse/);
  assert.equal(list.row(3), 3);
  const good = list.restart();
  calls[2].answer({ total: 1, rows: [7] });
  await good;
  assert.equal(list.error, null);
  assert.equal(list.row(3), undefined);
});

test('a row is found where it has moved to, the nearest first', async () => {
  const { list, calls } = listOfTen();
  list.need([0, 10]);
  calls[0].answer({ total: 20, rows: rows(0) });
  calls[1].answer({ total: 20, rows: rows(0) });
  await settle();
  assert.equal(list.find(row => row === 4, 2), 4);
  assert.equal(list.find(row => row === 4, 18), 14);
  assert.equal(list.find(row => row === 99, 0), -1);
});
