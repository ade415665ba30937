// Small pieces that several views use: the state chip, the two-line error, a metric and its value.

import * as React from 'react';

import { Fault } from './api';
import { Value, formatNumber } from './format';
import { stateOf } from './states';

export function Chip(props: { status: string }): JSX.Element {
  const state = stateOf(props.status);
  return (
    <span className="jp-nbops-Chip" data-tone={state.tone}>
      <span aria-hidden="true">{state.sign}</span> {state.word}
    </span>
  );
}

export function FaultLines(props: { fault: Fault; id?: string }): JSX.Element {
  return (
    <div className="jp-nbops-Fault" role="status" id={props.id} data-kind={props.fault.kind}>
      <div>{props.fault.message}</div>
      {props.fault.hint && <div className="jp-nbops-dim">{props.fault.hint}</div>}
    </div>
  );
}

export function Metric(props: { name: string; value: Value }): JSX.Element {
  return (
    <span className="jp-nbops-Metric" title={`${props.name} = ${props.value}`}>
      <span className="jp-nbops-dim">{props.name}</span> <b>{formatNumber(props.value)}</b>
    </span>
  );
}

/** The lines to type first, shown where there is nothing yet. */
export function Empty(props: { text: string; code?: string }): JSX.Element {
  return (
    <div className="jp-nbops-Empty">
      <p>{props.text}</p>
      {props.code && <pre>{props.code}</pre>}
    </div>
  );
}

/** Call `again` on each change of one of the kinds of record, and once when the view becomes visible. */
export function useLive(
  listen: (listener: (subjects: string[] | null) => void) => () => void,
  active: boolean,
  again: (subjects: string[] | null) => void
): void {
  const latest = React.useRef(again);
  latest.current = again;
  React.useEffect(() => {
    if (!active) {
      return;
    }
    latest.current(null);
    return listen(subjects => latest.current(subjects));
  }, [active]);
}

/** Return the present size of an element. */
export function useSize(ref: React.RefObject<HTMLElement>): { width: number; height: number } {
  const [size, setSize] = React.useState({ width: 0, height: 0 });
  React.useEffect(() => {
    const node = ref.current;
    if (!node) {
      return;
    }
    const observer = new ResizeObserver(() => setSize({ width: node.clientWidth, height: node.clientHeight }));
    observer.observe(node);
    return () => observer.disconnect();
  }, []);
  return size;
}

