// The bar of a run whose model is watched: pause, continue, stop, learning rate, and what came of it.

import * as React from 'react';

import { Fault, toFault } from './api';
import { IRunDetail } from './model';
import { FaultLines } from './parts';
import { ITools } from './tools';
import { ICommand, IControl, PATIENCE_S, offer, rateOf, sentence, waiting } from './watching';

interface IBarProps {
  run: IRunDetail;
  tools: ITools;
  /** Changes when the records of the run have. */
  pulse: number;
}

export function WatchBar(props: IBarProps): JSX.Element | null {
  const { run, tools } = props;
  const { trans } = tools;
  const [control, setControl] = React.useState<IControl | null>(null);
  const [fault, setFault] = React.useState<Fault | null>(null);
  const path = `runs/${encodeURIComponent(run.id)}/watch`;

  const newest = React.useRef(0);
  const load = async (): Promise<void> => {
    const turn = ++newest.current;
    try {
      const answer = await tools.api.get<IControl>(path, {}, true);
      if (turn === newest.current) {
        setControl(answer);
      }
    } catch (error) {
      if (turn === newest.current && toFault(error).kind !== 'missing') {
        setFault(toFault(error)); // an older server has no such route
      }
    }
  };
  React.useEffect(() => void load(), [props.pulse, path]);
  const age = useAge(control ? waiting(control) : null);

  const send = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      setFault(null);
      await work();
    } catch (error) {
      setFault(toFault(error));
    }
    await load();
  };
  const ask = (command: string, value?: number): void =>
    void send(() => tools.api.send('POST', path, {}, value === undefined ? { command } : { command, value }));

  if (!control || control.watches.length === 0 || (run.status !== 'RUNNING' && !waiting(control) && !fault)) {
    return null;
  }
  const can = offer(control);
  const asked = waiting(control);
  const __ = trans.__.bind(trans);
  return (
    <div className="jp-nbops-Watch" role="group" aria-label={trans.__('Watched training')}>
      {control.heard && (
        <div className="jp-nbops-Watch-buttons" title={control.may ? '' : trans.__('It takes an editor to do that.')}>
          <Do label={trans.__('Pause')} can={can.pause} onDo={() => ask('pause')} />
          <Do label={trans.__('Continue')} can={can.resume} onDo={() => ask('resume')} />
          <Do label={trans.__('Stop')} can={can.stop} onDo={() => ask('stop')} />
          <Rate tools={tools} can={can.rate} onRate={value => ask('set-lr', value)} />
        </div>
      )}
      <div className="jp-nbops-Watch-said">
        <span role="status">{sentence(control, age, __)}</span>{' '}
        {asked && control.may && control.heard && age >= PATIENCE_S && (
          <button
            className="jp-nbops-Link"
            onClick={() => void send(() => tools.api.send('DELETE', path, { command: asked.id }))}
          >
            {trans.__('Take it back')}
          </button>
        )}
      </div>
      {fault && <FaultLines fault={fault} />}
    </div>
  );
}

/** A button that keeps the focus of the keyboard when it can do nothing for now. */
function Do(props: { label: string; can: boolean; onDo: () => void }): JSX.Element {
  return (
    <button className="jp-nbops-Button" aria-disabled={!props.can} onClick={() => props.can && props.onDo()}>
      {props.label}
    </button>
  );
}

function Rate(props: { tools: ITools; can: boolean; onRate: (value: number) => void }): JSX.Element {
  const { trans } = props.tools;
  const [text, setText] = React.useState('');
  const rate = rateOf(text);
  return (
    <form
      onSubmit={event => {
        event.preventDefault();
        if (props.can && rate !== null) {
          props.onRate(rate);
          setText('');
        }
      }}
    >
      <input
        type="text"
        inputMode="decimal"
        spellCheck={false}
        aria-label={trans.__('New learning rate')}
        aria-invalid={text !== '' && rate === null}
        placeholder={trans.__('learning rate')}
        value={text}
        onChange={event => setText(event.target.value)}
      />
      <button className="jp-nbops-Button" aria-disabled={!props.can || rate === null}>
        {trans.__('Set')}
      </button>
    </form>
  );
}

/** Return for how many seconds this page has known that a command waits; it moves while it does. */
function useAge(command: ICommand | null): number {
  const [age, setAge] = React.useState(0);
  const id = command?.id ?? '';
  React.useEffect(() => {
    setAge(0);
    if (id === '') {
      return;
    }
    const timer = window.setInterval(() => setAge(seconds => seconds + 1), 1000);
    return () => window.clearInterval(timer);
  }, [id]);
  return age;
}
