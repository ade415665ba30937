// The list of runs: only the rows in view are in the document, pages of 200 come as they are needed.

import * as React from 'react';

import { cutMiddle, formatAge } from './format';
import { pickMetrics } from './groups';
import { IRunRow } from './model';
import { PagedList } from './pages';
import { Chip, Metric, useSize } from './parts';
import { ITools } from './tools';
import { moveCursor, pagesFor, scrollToShow, visibleRange } from './windowing';

/** Below this width a row has two lines. */
const NARROW = 380;

export type SortKey = 'status' | 'name' | 'created_at';

export interface ISort {
  key: SortKey;
  descending: boolean;
}

interface ITableProps {
  tools: ITools;
  list: PagedList<IRunRow>;
  /** Grows with each change of the list, so that React draws again. */
  version: number;
  sort: ISort;
  onSort: (sort: ISort) => void;
}

export function RunTable(props: ITableProps): JSX.Element {
  const { list, tools } = props;
  const body = React.useRef<HTMLDivElement>(null);
  const size = useSize(body);
  const [scrollTop, setScrollTop] = React.useState(0);
  const [cursor, setCursor] = React.useState(0);
  const wantsFocus = React.useRef(false);
  const total = list.total ?? 0;
  const narrow = size.width > 0 && size.width < NARROW;
  const rowHeight = narrow ? 46 : 28;
  const range = visibleRange(scrollTop, size.height, rowHeight, total);

  React.useEffect(() => list.need(pagesFor(range, list.size)), [range.first, range.last, list]);
  useAnchor(props, body, rowHeight, cursor, setCursor);
  React.useEffect(() => {
    if (wantsFocus.current) {
      wantsFocus.current = false;
      body.current?.querySelector<HTMLElement>('[tabindex="0"]')?.focus({ preventScroll: true });
    }
  }, [cursor]);

  const hadFocus = React.useRef(false);
  React.useLayoutEffect(() => {
    // a row that got its data, or moved, is another element: give it the focus of the one that went
    if (hadFocus.current && document.activeElement === document.body) {
      body.current?.querySelector<HTMLElement>('[tabindex="0"]')?.focus({ preventScroll: true });
    }
  });

  const onKeyDown = (event: React.KeyboardEvent): void => {
    const row = list.row(cursor);
    if ((event.key === 'Enter' || event.key === ' ') && row) {
      event.preventDefault();
      tools.openRun(row.id);
      return;
    }
    const next = moveCursor(event.key, cursor, total, Math.floor(size.height / rowHeight));
    if (next !== null && body.current) {
      event.preventDefault();
      wantsFocus.current = next !== cursor;
      body.current.scrollTop = scrollToShow(next, body.current.scrollTop, size.height, rowHeight);
      setCursor(next);
    }
  };

  const indices = Array.from({ length: range.last - range.first }, (_, i) => range.first + i);
  const active = Math.min(cursor, Math.max(0, total - 1));
  if (total > 0 && !indices.includes(active)) {
    indices.push(active); // the focused row stays in the document while it is out of view
  }
  const most = size.width < 520 ? 1 : size.width < 760 ? 2 : 4;
  return (
    <div
      className={`jp-nbops-Table${narrow ? ' jp-mod-narrow' : ''}`}
      role="table"
      aria-label={tools.trans.__('Runs')}
      aria-rowcount={total + 1}
    >
      <Header {...props} />
      <div
        className="jp-nbops-Table-body"
        role="rowgroup"
        ref={body}
        onKeyDown={onKeyDown}
        onFocus={() => (hadFocus.current = true)}
        onBlur={() => (hadFocus.current = false)}
        onScroll={event => setScrollTop(event.currentTarget.scrollTop)}
      >
        <div role="presentation" style={{ height: total * rowHeight }}>
          {indices.map(index => {
            const row = list.row(index);
            return (
              <Row
                key={row?.id ?? index}
                row={row}
                index={index}
                top={index * rowHeight}
                height={rowHeight}
                active={index === active}
                most={most}
                tools={tools}
                onPick={() => setCursor(index)}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** Keep the cursor on its run, and the rows in view where they are, when runs appear above. */
function useAnchor(
  props: ITableProps,
  body: React.RefObject<HTMLDivElement>,
  rowHeight: number,
  cursor: number,
  setCursor: (index: number) => void
): void {
  const known = React.useRef({ cursor: '', top: '', topIndex: 0 });
  const { list } = props;
  React.useLayoutEffect(() => {
    const at = list.row(cursor)?.id;
    if (known.current.cursor && cursor > 0 && at !== known.current.cursor) {
      const found = list.find(row => row.id === known.current.cursor, cursor);
      if (found >= 0) {
        setCursor(found);
      }
    }
    const { top, topIndex } = known.current;
    if (body.current && top && topIndex > 0 && list.row(topIndex)?.id !== top) {
      const found = list.find(row => row.id === top, topIndex);
      if (found >= 0) {
        body.current.scrollTop += (found - topIndex) * rowHeight;
      }
    }
  }, [props.version]);
  React.useEffect(() => {
    const topIndex = Math.floor((body.current?.scrollTop ?? 0) / rowHeight);
    known.current = {
      cursor: list.row(cursor)?.id ?? '',
      top: list.row(topIndex)?.id ?? '',
      topIndex
    };
  });
}

function Header(props: ITableProps): JSX.Element {
  const { trans } = props.tools;
  const { key, descending } = props.sort;
  const head = (name: SortKey, label: string, className: string): JSX.Element => (
    <div
      role="columnheader"
      className={className}
      aria-sort={key !== name ? 'none' : descending ? 'descending' : 'ascending'}
    >
      <button
        onClick={() =>
          props.onSort({ key: name, descending: key === name ? !descending : name === 'created_at' })
        }
      >
        {label}
        <span aria-hidden="true">{key !== name ? '' : descending === (name === 'created_at') ? ' ▾' : ' ▴'}</span>
      </button>
    </div>
  );
  return (
    <div role="rowgroup">
      <div role="row" aria-rowindex={1} className="jp-nbops-Row jp-mod-head">
        {head('status', trans.__('State'), 'jp-nbops-Row-state')}
        {head('name', trans.__('Run'), 'jp-nbops-Row-name')}
        <div role="columnheader" className="jp-nbops-Row-metric">
          {trans.__('Last metric')}
        </div>
        {head('created_at', trans.__('Age'), 'jp-nbops-Row-age')}
      </div>
    </div>
  );
}

interface IRowProps {
  row: IRunRow | undefined;
  index: number;
  top: number;
  height: number;
  active: boolean;
  most: number;
  tools: ITools;
  onPick: () => void;
}

function Row(props: IRowProps): JSX.Element {
  const { row, tools } = props;
  const metrics = row ? pickMetrics(row.metrics, tools.wished, props.most) : [];
  return (
    <div
      role="row"
      aria-rowindex={props.index + 2}
      className="jp-nbops-Row"
      tabIndex={props.active ? 0 : -1}
      style={{ top: props.top, height: props.height }}
      data-id={row?.id}
      onClick={() => {
        props.onPick();
        if (row) {
          tools.openRun(row.id);
        }
      }}
    >
      <div role="cell" className="jp-nbops-Row-state">
        {row && <Chip status={row.status} />}
      </div>
      <div role="cell" className="jp-nbops-Row-name" title={row && `${row.name}\n${row.id}`}>
        {row ? cutMiddle(row.name, 48) : '…'}
      </div>
      <div role="cell" className="jp-nbops-Row-metric">
        {metrics.map(([name, value]) => (
          <Metric key={name} name={name} value={value} />
        ))}
      </div>
      <div
        role="cell"
        className="jp-nbops-Row-age"
        title={row && new Date(row.created_at * 1000).toLocaleString()}
      >
        {row && formatAge(Date.now() / 1000 - row.created_at)}
      </div>
    </div>
  );
}
