import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  cutMiddle,
  firstLine,
  formatAge,
  formatBytes,
  formatDuration,
  formatNumber,
  formatValue,
  shortId,
  toNumber
} from '../src/format';
import { stateOf } from '../src/states';

test('numbers have about four significant digits', () => {
  const cases: [number, string][] = [
    [0, '0'],
    [0.5, '0.5'],
    [0.97132, '0.9713'],
    [0.0841234, '0.08412'],
    [12.345678, '12.35'],
    [1234.5678, '1,235'],
    [1797, '1,797'],
    [-0.25, '−0.25'],
    [0.00001234, '1.23e−5'],
    [123456789, '1.23e8'],
    [-3.1e38, '−3.10e38']
  ];
  for (const [value, text] of cases) {
    assert.equal(formatNumber(value), text);
  }
});

test('numbers that are not finite travel as text', () => {
  assert.equal(formatNumber('NaN'), 'NaN');
  assert.equal(formatNumber('Infinity'), '∞');
  assert.equal(formatNumber('-Infinity'), '−∞');
  assert.equal(formatNumber(null), '–');
  assert.equal(toNumber('-Infinity'), -Infinity);
  assert.ok(Number.isNaN(toNumber(undefined)));
});

test('ages are one short word', () => {
  const ages = [0.4, 12, 61, 3599, 3600, 90_000, 8 * 86_400, 400 * 86_400, NaN].map(formatAge);
  assert.deepEqual(ages, ['now', '12 s', '1 min', '59 min', '1 h', '1 d', '1 w', '1 y', 'now']);
});

test('durations carry their units', () => {
  const durations = [0.042, 0.9996, 1.24, 19.2, 59.96, 134, 3905, 100_000].map(formatDuration);
  assert.deepEqual(durations, [
    '42 ms',
    '1.0 s',
    '1.2 s',
    '19 s',
    '1 min 00 s',
    '2 min 14 s',
    '1 h 05 min',
    '1 d 3 h'
  ]);
  assert.equal(formatDuration(null), '–');
});

test('sizes are decimal', () => {
  assert.deepEqual([0, 812, 3_400, 182_044, 999_600, 1.2e9].map(formatBytes), [
    '0 B',
    '812 B',
    '3.4 kB',
    '182 kB',
    '1.0 MB',
    '1.2 GB'
  ]);
});

test('long names are cut in the middle', () => {
  assert.equal(cutMiddle('short', 10), 'short');
  assert.equal(cutMiddle('abcdefghijklmnop', 7), 'abc…nop');
  assert.equal(cutMiddle('abcdefghijklmnop', 7).length, 7);
});

test('ids are shortened to what the eye compares', () => {
  assert.equal(shortId('run_01M7X4DGWCS2A0XD8TW10ZE2DX'), 'run_…0ZE2DX');
  assert.equal(shortId('run_1'), 'run_1');
});

test('stored values of any sort are one line', () => {
  assert.equal(formatValue([32, 64]), '[32,64]');
  assert.equal(formatValue(true), 'true');
  assert.equal(formatValue('adam'), 'adam');
  assert.equal(formatValue(null), 'null');
});

test('the first line of a cell is the first that says something', () => {
  assert.equal(firstLine('\n# train\nfor x in y:\n    pass'), 'for x in y:');
  assert.equal(firstLine('# only a comment'), '# only a comment');
  assert.equal(firstLine(''), '');
});

test('a state has a sign and a word, also one that is new to us', () => {
  assert.deepEqual(stateOf('FAILED'), { sign: '✕', word: 'failed', tone: 'bad' });
  assert.deepEqual(stateOf('ok'), { sign: '✓', word: 'ok', tone: 'ok' });
  assert.deepEqual(stateOf('PAUSED'), { sign: '·', word: 'paused', tone: 'dim' });
});
