import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IChange, ICommand, IControl, IWatch, PATIENCE_S, activeWatch, changed, offer, rateOf, sentence, waiting } from '../src/watching';

const __ = (text: string, ...values: (string | number)[]): string =>
  text.replace(/%(\d)/g, (_, n) => String(values[Number(n) - 1]));

function watch(fields: Partial<IWatch> = {}): IWatch {
  return { id: 'wat_1', name: 'net', model: 'Net', status: 'open', step: null, note: '', actor: '', lr: null, ...fields };
}

function command(fields: Partial<ICommand> = {}): ICommand {
  return {
    id: 'cmd_1', name: 'pause', value: null, status: 'pending', actor: 'anna', created_at: 0, step: null, note: '', ...fields
  };
}

function control(fields: Partial<IControl> = {}): IControl {
  return { heard: true, may: true, watches: [watch()], changes: [], commands: [], ...fields };
}

test('a training that goes on can be paused and stopped, not continued', () => {
  assert.deepEqual(offer(control()), { pause: true, resume: false, stop: true, rate: true });
});

test('a paused training can be continued and stopped, not paused', () => {
  const paused = control({ watches: [watch({ status: 'paused', step: 40, note: 'asked by anna' })] });
  assert.deepEqual(offer(paused), { pause: false, resume: true, stop: true, rate: true });
  assert.equal(sentence(paused, 0, __), 'Paused before step 40: asked by anna.');
  paused.watches[0].lr = 0.1;
  assert.equal(sentence(paused, 0, __), 'Paused before step 40: asked by anna. Learning rate: 0.1.');
});

test('nothing is offered to a viewer, nor where nobody listens', () => {
  const none = { pause: false, resume: false, stop: false, rate: false };
  assert.deepEqual(offer(control({ may: false })), none);
  assert.deepEqual(offer(control({ heard: false })), none);
  assert.deepEqual(offer(control({ watches: [watch({ status: 'closed' })] })), none);
});

test('the same is not asked twice, and after stop nothing', () => {
  assert.equal(offer(control({ commands: [command()] })).pause, false);
  assert.equal(offer(control({ commands: [command()] })).stop, true);
  assert.deepEqual(offer(control({ commands: [command({ name: 'stop' })] })), {
    pause: false, resume: false, stop: false, rate: false
  });
});

test('a command is sent, then waits, then nobody has answered', () => {
  const asked = control({ commands: [command()] });
  assert.equal(waiting(asked)?.id, 'cmd_1');
  assert.equal(sentence(asked, 0, __), '“Pause” was sent; waiting for the next step …');
  assert.equal(sentence(asked, PATIENCE_S, __), 'Nobody has answered yet: “Pause” is carried out before the next step.');
});

test('a command to a run that has ended is told as not carried out', () => {
  const dead = control({ heard: false, commands: [command({ name: 'set-lr', value: 0.1 })] });
  assert.match(sentence(dead, 60, __), /“Learning rate 0.1” was not carried out: the run has ended/);
});

test('a refused command says why, an answered one what changed', () => {
  const refused = command({ name: 'set-lr', value: -1, status: 'refused', note: 'a learning rate of -1.0' });
  assert.equal(sentence(control({ commands: [refused] }), 0, __), '“Learning rate -1” was refused: a learning rate of -1.0.');
  const change: IChange = { step: 3, what: 'lr', before: [0.1], after: 0.01, by: 'anna' };
  const applied = control({ changes: [change], commands: [command({ status: 'applied' })] });
  assert.equal(sentence(applied, 0, __), 'Learning rate 0.01 before step 3, by anna.');
  assert.equal(waiting(applied), null);
});

test('a watch without changes says what is watched', () => {
  assert.equal(sentence(control(), 0, __), 'Watched: Net.');
});

test('each change names its step and who made it', () => {
  for (const what of ['pause', 'resume', 'step', 'stop', 'rollback']) {
    const said = changed({ step: 7, what, before: null, after: null, by: 'bert' }, __);
    assert.match(said, /step 7, by bert\.$/);
  }
});

test('the paused one of several watches is the active one', () => {
  const several = [watch({ id: 'a' }), watch({ id: 'b', status: 'paused' }), watch({ id: 'c' }), watch({ id: 'd', status: 'closed' })];
  assert.equal(activeWatch(control({ watches: several }))?.id, 'b');
  assert.equal(activeWatch(control({ watches: [several[0], several[2], several[3]] }))?.id, 'c');
  assert.equal(activeWatch(control({ watches: [] })), null);
});

test('a learning rate is a number from 0, also with a comma', () => {
  assert.equal(rateOf(' 1e-3 '), 0.001);
  assert.equal(rateOf('0,5'), 0.5);
  for (const text of ['', ' ', 'fast', '-1', 'NaN', 'Infinity', '1 2']) {
    assert.equal(rateOf(text), null, text);
  }
});
