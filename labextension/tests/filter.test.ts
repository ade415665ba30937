import assert from 'node:assert/strict';
import { test } from 'node:test';

import { filterOf } from '../src/filter';
import { groupMetrics, pickMetrics, quantityOf } from '../src/groups';

test('words search in names', () => {
  for (const text of ['resnet', ' resnet wide ', 'lr-0.5', 'digits in space', 'not now', '100%', 'metrics', 'tags']) {
    assert.deepEqual(filterOf(text), { where: '', q: text.trim() }, text);
  }
});

test('comparisons, searches within text and spaces are queries', () => {
  const queries = [
    'metrics.acc > 0.9',
    'status == "FAILED" or name != "x"',
    '"resnet" in name',
    '"x" not in tags.team',
    'status in ("FAILED", "INTERRUPTED")',
    'tags.team',
    'not params["weird key"]',
    'created_at>1'
  ];
  for (const text of queries) {
    assert.deepEqual(filterOf(text), { where: text, q: '' }, text);
  }
});

test('metrics of the same quantity share a chart', () => {
  for (const name of ['loss', 'val_loss', 'loss/test', 'train.loss', 'validation loss']) {
    assert.equal(quantityOf(name), 'loss', name);
  }
  assert.equal(quantityOf('value_loss'), 'value_loss');
  assert.deepEqual(groupMetrics(['val_acc', 'acc', 'lr', 'val_loss']), [
    { title: 'acc', metrics: ['acc', 'val_acc'] },
    { title: 'lr', metrics: ['lr'] },
    { title: 'val_loss', metrics: ['val_loss'] }
  ]);
});

test('a chart has at most seven lines', () => {
  const names = ['train', 'val', 'test', 'dev'].flatMap(split => [`${split}_loss`, `loss_${split}`]);
  assert.deepEqual(
    groupMetrics(names).map(group => group.metrics.length),
    [7, 1]
  );
});

test('wished metrics come first', () => {
  const metrics: [string, number][] = [
    ['a', 1],
    ['b', 2],
    ['c', 3]
  ];
  assert.deepEqual(pickMetrics(metrics, ['c', 'none', 'b'], 2), [
    ['c', 3],
    ['b', 2]
  ]);
  assert.deepEqual(pickMetrics(metrics, [], 2), metrics.slice(0, 2));
});

test('what nbops measures by itself comes only where nothing else was logged, or where it is wished for', () => {
  const own: [string, number][] = [
    ['system/cpu_percent', 90],
    ['watch/grad_norm', 1]
  ];
  const all: [string, number][] = [...own, ['loss', 0.1]];
  assert.deepEqual(pickMetrics(all, [], 4), [['loss', 0.1]]);
  assert.deepEqual(pickMetrics(own, [], 4), own);
  assert.deepEqual(pickMetrics(all, ['watch/grad_norm'], 4), [
    ['watch/grad_norm', 1],
    ['loss', 0.1]
  ]);
});
