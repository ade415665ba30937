// The ways from the page of a run to its notebook: links that name a cell, and the notice where one cannot go.

import * as React from 'react';

import { ICellRef, cellName, cellOfRecord, recordOf } from './cells';
import { firstLine } from './format';
import { IRunDetail } from './model';
import { FaultLines } from './parts';
import { ILine } from './sources';
import { INotice, brokenOff, cellWords, openCell, seekCell } from './seeking';
import { ITools } from './tools';

/** What the parts of a page share: whose page it is, where a notice stands, and the way to a cell. */
export interface IJumps {
  run: IRunDetail;
  tools: ITools;
  /** The notice, and which part of the page it belongs to. */
  notice: (INotice & { place: string }) | null;
  go: (place: string, ref: ICellRef) => void;
  goOn: () => void;
  close: () => void;
}

export const Jumps = React.createContext<IJumps | null>(null);

/** Return the ways from a run to its notebook; null while the run is not known. */
export function useJumps(tools: ITools, run: IRunDetail | null): IJumps | null {
  const [notice, setNotice] = React.useState<IJumps['notice']>(null);
  const latest = React.useRef(0);
  const from = React.useRef<HTMLElement | SVGElement | null>(null);
  if (!run) {
    return null;
  }
  const follow = (place: string, answer: Promise<INotice | null>): void => {
    const number = (latest.current += 1);
    void answer.catch(brokenOff).then(said => {
      if (number === latest.current) {
        setNotice(said && { ...said, place });
      }
    });
  };
  return {
    run,
    tools,
    notice,
    go: (place, ref) => {
      from.current = document.activeElement as HTMLElement | SVGElement | null;
      follow(place, seekCell(tools, run, ref));
    },
    goOn: () => {
      if (notice?.found) {
        follow(notice.place, openCell(tools, notice.found, notice.kept));
      }
    },
    close: () => {
      setNotice(null);
      from.current?.focus();
    }
  };
}

/** A button that names a cell and goes there: `cell [7]`, where there is little room `[7]`. */
export function CellLink(props: { place: string; cell: ICellRef; isShort?: boolean }): JSX.Element | null {
  const jumps = React.useContext(Jumps);
  if (!jumps) {
    return null;
  }
  const { run, tools } = jumps;
  const record = recordOf(run.cells, props.cell);
  const line = record ? firstLine(record.source) : props.cell.cellId;
  return (
    <button
      className="jp-nbops-Link jp-nbops-CellLink"
      title={`${tools.trans.__('Go to the cell in its notebook')}\n${line}`}
      onClick={event => {
        event.stopPropagation(); // the row around it goes there too
        jumps.go(props.place, record ? cellOfRecord(record) : props.cell);
      }}
    >
      {props.isShort
        ? cellName(run.cells, props.cell, run.status === 'RUNNING')
        : cellWords(tools.trans, run, props.cell)}
    </button>
  );
}

/** The notice of one part of the page, if it has one. */
export function NoticeAt(props: { place: string }): JSX.Element | null {
  const jumps = React.useContext(Jumps);
  return jumps?.notice?.place === props.place ? <Notice jumps={jumps} notice={jumps.notice} /> : null;
}

function Notice(props: { jumps: IJumps; notice: INotice }): JSX.Element {
  const { jumps, notice } = props;
  const { trans } = jumps.tools;
  const box = React.useRef<HTMLElement>(null);
  React.useEffect(() => {
    box.current?.focus();
    box.current?.scrollIntoView({ block: 'nearest' });
  }, [notice]);
  return (
    <section
      ref={box}
      className="jp-nbops-Notice"
      aria-label={notice.text}
      tabIndex={-1}
      onKeyDown={event => {
        if (event.key === 'Escape') {
          jumps.close();
        }
      }}
    >
      <div className="jp-nbops-Notice-head">
        {notice.fault ? <FaultLines fault={notice.fault} /> : <b>{notice.text}</b>}
        <button className="jp-nbops-Notice-close" aria-label={trans.__('Close')} onClick={jumps.close}>
          ×
        </button>
      </div>
      {notice.hint && <div className="jp-nbops-dim">{notice.hint}</div>}
      {notice.lines.length > 0 && <Lines lines={notice.lines} label={trans.__('Source of the cell')} />}
      {notice.found && (
        <button className="jp-nbops-Link" onClick={jumps.goOn}>
          {trans.__('Go to the cell as it is now')}
        </button>
      )}
      {notice.address && (
        <a className="jp-nbops-Link" href={notice.address} target="_blank" rel="noreferrer">
          {trans.__('Open it in a new tab')}
        </a>
      )}
    </section>
  );
}

const SIGNS = { '-': '−', '+': '+', ' ': ' ', '…': '⋯' };

function Lines(props: { lines: ILine[]; label: string }): JSX.Element {
  const marked = props.lines.some(line => line.mark !== ' ');
  return (
    <pre className="jp-nbops-Lines" role="group" tabIndex={0} aria-label={props.label}>
      {props.lines.map((line, i) => (
        <div key={i} data-mark={line.mark}>
          {marked && <span>{SIGNS[line.mark]} </span>}
          {line.text || ' '}
        </div>
      ))}
    </pre>
  );
}
