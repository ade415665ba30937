import assert from 'node:assert/strict';
import { test } from 'node:test';

import { cellName, cellOfFailure, cellOfPoint, isSameCell, recordOf } from '../src/cells';
import { ICell, IFailure, ISeries } from '../src/model';
import { cellAt, inWords, readingsAt, stepAfterKey } from '../src/readings';

function series(metric: string, values: (number | null)[], cells: ISeries['cells'], step = 1): ISeries {
  const steps = values.map((_, i) => i * step);
  return { metric, count: values.length, steps, values, marks: [], nonfinite: 0, cells };
}

function cell(id: string, cellId: string, count: number | null, more: Partial<ICell> = {}): ICell {
  const error = null;
  return { id, cell_id: cellId, execution_count: count, execution: '', source: '', status: 'ok', duration_s: 0, error, ...more };
}

const ref = (cellId: string, execution = '', record = '') => ({ cellId, execution, record });
const failure: IFailure = { type: 'KeyError', message: "'lr'", cell_id: 'b', line: 3, traceback: '' };
const trans = { __: (text: string, ...values: unknown[]) => text.replace(/%(\d)/g, (_, n) => String(values[n - 1])) };

test('a point knows the execution of the cell that logged it', () => {
  const loss = series('loss', [3, 2, 1, 0], [
    [0, 'a', 'x1'],
    [2, 'b', 'x2']
  ]);
  assert.deepEqual([0, 1, 2, 3].map(i => cellOfPoint(loss, i)?.cellId), ['a', 'a', 'b', 'b']);
  assert.equal(cellOfPoint(loss, 3)?.execution, 'x2');
});

test('a point that no cell logged knows none', () => {
  const mixed = series('loss', [1, 2, 3], [
    [0, 'a', 'x1'],
    [1, '', ''],
    [2, 'a', 'x1']
  ]);
  assert.deepEqual([0, 1, 2].map(i => cellOfPoint(mixed, i)?.cellId ?? null), ['a', null, 'a']);
  assert.equal(cellOfPoint(series('loss', [1], []), 0), null);
});

test('of one step that two cells logged, the newer one counts', () => {
  const twice = { ...series('loss', [1, 2], []), steps: [7, 7] };
  twice.cells = [
    [7, 'a', 'x1'],
    [7, 'b', 'x2']
  ];
  assert.equal(cellOfPoint(twice, 1)?.cellId, 'b');
});

test('an execution finds its record and no other of the same cell', () => {
  const cells = [cell('1', 'a', 4, { execution: 'x1' }), cell('2', 'a', 9, { execution: 'x2' })];
  assert.equal(recordOf(cells, ref('a', 'x1'))?.id, '1');
  assert.equal(recordOf(cells, ref('a', 'x3')), undefined);
  assert.equal(recordOf(cells, ref('a', 'x1', '2'))?.id, '2');
  assert.equal(recordOf(cells, ref('a'))?.id, '2');
  assert.equal(recordOf(cells, ref('b')), undefined);
});

test('the record of a step knows no execution and is found by its cell', () => {
  assert.equal(recordOf([cell('1', 'a', 4), cell('2', 'b', 5)], ref('a', 'x9'))?.id, '1');
});

test('a failure is of the newest record that failed', () => {
  const cells = [cell('1', 'b', 1), cell('2', 'b', 2, { error: failure }), cell('3', 'b', 3)];
  assert.equal(cellOfFailure(cells, failure)?.record, '2');
  assert.deepEqual(cellOfFailure([], failure), ref('b'));
  assert.equal(cellOfFailure(cells, { ...failure, cell_id: null }), null);
});

test('a cell is named as the notebook shows it', () => {
  const cells = [cell('1', 'aaaaaaaa-bbbb', 4, { execution: 'x1' }), cell('2', 'cccccccc-dddd', null)];
  assert.equal(cellName(cells, ref('aaaaaaaa-bbbb', 'x1'), true), '[4]');
  assert.equal(cellName(cells, ref('aaaaaaaa-bbbb', 'x2'), true), '[*]');
  assert.equal(cellName(cells, ref('aaaaaaaa-bbbb', 'x2'), false), 'aaaaaaaa');
  assert.equal(cellName(cells, ref('cccccccc-dddd'), true), 'cccccccc');
  const step = [cell('3', 'a', null, { status: 'running' }), cell('4', 'b', null, { status: 'pending' })];
  assert.deepEqual([cellName(step, ref('a'), true), cellName(step, ref('b'), true)], ['[*]', '[ ]']);
});

test('what no cell made is alike, and differs from what one made', () => {
  assert.equal(isSameCell(null, null), true);
  assert.equal(isSameCell(null, ref('a')), false);
  assert.equal(isSameCell(ref('a', 'x1'), ref('a', 'x1')), true);
  assert.equal(isSameCell(ref('a', 'x1'), ref('a', 'x2')), false);
});

test('a readout tells values and cells in words', () => {
  const both = [series('loss', [3, 2, 1], [[0, 'a', 'x']]), series('val', [30, 10], [[0, 'b', 'y']], 2)];
  const named = (one: { cellId: string }): string => `cell ${one.cellId}`;
  assert.equal(inWords(both, 1, trans as never, named), 'step 1: loss 2, val 30, cell a, cell b');
  assert.equal(inWords(both, null, trans as never, named), 'step 2: loss 1, val 10, cell a, cell b');
  assert.equal(inWords([series('loss', [], [])], null, trans as never, named), 'no points');
});

test('a reading that is not finite says what it was', () => {
  const broken = { ...series('loss', [1, null], []), marks: [[1, 'NaN']] as [number, string][] };
  assert.deepEqual(readingsAt([broken], 1).map(one => one?.value), ['NaN']);
});

test('keys walk from point to point and stop at the ends', () => {
  const both = [series('val', [1, 2], [], 50), series('loss', Array<number>(101).fill(1), [])];
  const after = (step: number | null, key: string): number | null => stepAfterKey(both, step, key);
  assert.deepEqual([after(null, 'ArrowLeft'), after(50, 'ArrowRight'), after(100, 'ArrowRight')], [99, 51, 100]);
  assert.deepEqual([after(50, 'Home'), after(50, 'End'), after(50, 'PageUp'), after(5, 'PageDown')], [0, 100, 60, 0]);
  assert.equal(after(50, 'a'), null);
  assert.equal(stepAfterKey([series('loss', [], [])], null, 'Home'), null);
});

test('of several series the cell of the nearest point is meant', () => {
  const both = [series('loss', [3, 2], [[0, 'a', 'x']]), series('val', [30, 20], [[0, 'b', 'y']])];
  const from = (place: number) => (value: number): number => Math.abs(value - place);
  assert.equal(cellAt(both, 1, from(4))?.cellId, 'a');
  assert.equal(cellAt(both, 1, from(19))?.cellId, 'b');
  assert.equal(cellAt([series('loss', [3], []), both[1]], 0, from(3))?.cellId, 'b');
  assert.equal(cellAt([], 0), null);
});
