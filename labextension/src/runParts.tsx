// The sections of a run's page: head, parameters, cells, artifacts, lineage.

import * as React from 'react';

import { cellOfFailure, cellOfRecord } from './cells';
import { cutMiddle, firstLine, formatBytes, formatDuration, formatNumber, formatValue, shortId } from './format';
import { pickMetrics } from './groups';
import { CellLink, Jumps, NoticeAt } from './jumps';
import { ICell, INode, IRunDetail } from './model';
import { Chip } from './parts';
import { ITools } from './tools';

interface IProps {
  run: IRunDetail;
  tools: ITools;
}

export function Head(props: IProps): JSX.Element {
  const { run, tools } = props;
  const { trans } = tools;
  const now = useClock(run.status === 'RUNNING');
  const facts = [
    trans.__('started %1', new Date(run.created_at * 1000).toLocaleString()),
    formatDuration(run.duration_s ?? Math.max(0, now - run.created_at))
  ];
  const key = pickMetrics(run.summary, tools.wished, 4);
  return (
    <div className="jp-nbops-Head">
      <div className="jp-nbops-Head-line">
        <Chip status={run.status} />
        <h1 title={run.name}>{cutMiddle(run.name, 60)}</h1>
        <code title={run.id}>{shortId(run.id)}</code>
        {run.parent && (
          <button className="jp-nbops-Link" onClick={() => tools.openRun(run.parent as string)}>
            {trans.__('part of %1', shortId(run.parent))}
          </button>
        )}
        <span className="jp-nbops-Head-facts jp-nbops-dim">
          {facts.join(' · ')}
          {run.cell_id && ' · '}
          {run.cell_id && <CellLink place="head" cell={{ cellId: run.cell_id, execution: '', record: '' }} />}
        </span>
      </div>
      <NoticeAt place="head" />
      {run.note && <p>{run.note}</p>}
      {run.tags.length > 0 && (
        <div className="jp-nbops-Tags">
          {run.tags.map(([name, value]) => (
            <span key={name} title={`${name} = ${value}`}>
              {name}: {cutMiddle(value, 40)}
            </span>
          ))}
        </div>
      )}
      <ErrorCard run={run} tools={tools} />
      <NoticeAt place="error" />
      {key.length > 0 && (
        <dl className="jp-nbops-Figures">
          {key.map(([name, summary]) => (
            <div key={name}>
              <dt title={name}>{cutMiddle(name, 24)}</dt>
              <dd>{formatNumber(summary.last)}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

/** Return the time in seconds; it moves once a second while `ticking`. */
function useClock(ticking: boolean): number {
  const [now, setNow] = React.useState(Date.now() / 1000);
  React.useEffect(() => {
    if (!ticking) {
      return;
    }
    const timer = window.setInterval(() => setNow(Date.now() / 1000), 1000);
    return () => window.clearInterval(timer);
  }, [ticking]);
  return now;
}

function ErrorCard(props: IProps): JSX.Element | null {
  const { trans } = props.tools;
  const { cells, error } = props.run;
  if (!error) {
    return null;
  }
  const cell = cellOfFailure(cells, error);
  return (
    <div className="jp-nbops-Error">
      <div>
        <b>{error.type}</b>{' '}
        <span className="jp-nbops-dim">
          {cell && <CellLink place="error" cell={cell} />}
          {cell && error.line !== null && ', '}
          {error.line !== null && trans.__('line %1', error.line)}
        </span>
      </div>
      <div className="jp-nbops-Error-text">{error.message}</div>
      {error.traceback && (
        <details>
          <summary>{trans.__('Traceback')}</summary>
          <pre tabIndex={0}>{error.traceback}</pre>
        </details>
      )}
    </div>
  );
}

export function Params(props: IProps): JSX.Element | null {
  const { run, tools } = props;
  if (run.params.length === 0) {
    return null;
  }
  return (
    <Part title={tools.trans.__('Parameters')} count={run.params.length}>
      <table className="jp-nbops-Grid">
        <tbody>
          {run.params.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td title={formatValue(value)}>{cutMiddle(formatValue(value), 60)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Part>
  );
}

export function Summaries(props: IProps): JSX.Element | null {
  const { run, tools } = props;
  const { trans } = tools;
  if (run.summary.length === 0) {
    return null;
  }
  return (
    <Part title={trans.__('Last values')} count={run.summary.length}>
      <table className="jp-nbops-Grid jp-mod-numbers">
        <thead>
          <tr>
            <th scope="col">{trans.__('Metric')}</th>
            <th scope="col">{trans.__('Last')}</th>
            <th scope="col">{trans.__('Min')}</th>
            <th scope="col">{trans.__('Max')}</th>
            <th scope="col">{trans.__('Points')}</th>
            <th scope="col">NaN</th>
          </tr>
        </thead>
        <tbody>
          {run.summary.map(([name, s]) => (
            <tr key={name}>
              <th scope="row" title={name}>
                {cutMiddle(name, 40)}
              </th>
              <td>{formatNumber(s.last)}</td>
              <td>{formatNumber(s.min)}</td>
              <td>{formatNumber(s.max)}</td>
              <td>{formatNumber(s.count)}</td>
              <td className={s.nan_count ? 'jp-mod-bad' : ''}>{formatNumber(s.nan_count)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Part>
  );
}

export function Cells(props: IProps): JSX.Element | null {
  const { run, tools } = props;
  const { trans } = tools;
  if (run.cells.length === 0) {
    return null;
  }
  return (
    <Part title={trans.__('Cells')} count={run.cells.length}>
      <table className="jp-nbops-Grid jp-nbops-Cells">
        <thead>
          <tr>
            <th scope="col">{trans.__('Order')}</th>
            <th scope="col">{trans.__('State')}</th>
            <th scope="col">{trans.__('Took')}</th>
            <th scope="col">{trans.__('First line')}</th>
          </tr>
        </thead>
        <tbody>
          {run.cells.map(cell => (
            <CellRow key={cell.id} cell={cell} />
          ))}
        </tbody>
      </table>
    </Part>
  );
}

function CellRow(props: { cell: ICell }): JSX.Element {
  const { cell } = props;
  const jumps = React.useContext(Jumps);
  const place = `cell:${cell.id}`;
  const go = (): void => {
    if (window.getSelection()?.isCollapsed !== false) {
      jumps?.go(place, cellOfRecord(cell)); // unless somebody marks text to copy it
    }
  };
  return (
    <>
      <tr title={cell.cell_id} onClick={go}>
        <td>
          <CellLink place={place} cell={cellOfRecord(cell)} isShort />
        </td>
        <td>
          <Chip status={cell.status} />
        </td>
        <td>{formatDuration(cell.duration_s)}</td>
        <td>
          <code title={cell.source}>{cutMiddle(firstLine(cell.source), 90)}</code>
          {cell.error && (
            <div className="jp-nbops-Cells-error">
              {cell.error.type}: {cell.error.message}
            </div>
          )}
        </td>
      </tr>
      {jumps?.notice?.place === place && (
        <tr className="jp-nbops-Cells-notice">
          <td colSpan={4}>
            <NoticeAt place={place} />
          </td>
        </tr>
      )}
    </>
  );
}

export function Artifacts(props: IProps): JSX.Element | null {
  const { run, tools } = props;
  if (run.artifacts.length === 0) {
    return null;
  }
  return (
    <Part title={tools.trans.__('Artifacts')} count={run.artifacts.length}>
      <table className="jp-nbops-Grid">
        <tbody>
          {run.artifacts.map(artifact => (
            <tr key={artifact.id} title={`sha256 ${artifact.digest}`}>
              <th scope="row">{cutMiddle(artifact.name, 60)}</th>
              <td className="jp-nbops-dim">{artifact.media_type}</td>
              <td className="jp-mod-number">{formatBytes(artifact.size_bytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Part>
  );
}

const WORDS: Record<string, string> = { check: 'data check', model: 'model', dataset: 'data' };

/** Data → run → model → endpoint: one column per distance, in the direction of flow. */
export function Lineage(props: IProps): JSX.Element | null {
  const { run, tools } = props;
  if (run.lineage.length < 2) {
    return null;
  }
  const depths = [...new Set(run.lineage.map(node => node.depth))].sort((a, b) => a - b);
  return (
    <Part title={tools.trans.__('Lineage')}>
      <ol className="jp-nbops-Lineage">
        {depths.map(depth => (
          <li key={depth}>
            {run.lineage
              .filter(node => node.depth === depth)
              .map(node => (
                <NodeCard key={node.id} node={node} isSelf={node.id === run.id} tools={tools} />
              ))}
          </li>
        ))}
      </ol>
    </Part>
  );
}

function NodeCard(props: { node: INode; isSelf: boolean; tools: ITools }): JSX.Element {
  const { node, tools } = props;
  const content = (
    <>
      <span className="jp-nbops-dim">{WORDS[node.kind] ?? node.kind}</span>
      <b>{cutMiddle(node.title, 28)}</b>
      <span className="jp-nbops-dim">{node.status ? node.status.toLowerCase() : node.detail}</span>
    </>
  );
  const title = `${node.title}\n${node.id}${node.detail ? `\n${node.detail}` : ''}`;
  if (node.kind === 'run' && !props.isSelf) {
    return (
      <button className="jp-nbops-Node" title={title} onClick={() => tools.openRun(node.id)}>
        {content}
      </button>
    );
  }
  return (
    <div className="jp-nbops-Node" title={title} aria-current={props.isSelf ? 'true' : undefined}>
      {content}
    </div>
  );
}

export function Part(props: { title: string; count?: number; children: React.ReactNode }): JSX.Element {
  return (
    <section className="jp-nbops-Part">
      <h2>
        {props.title}
        {props.count !== undefined && <span className="jp-nbops-dim"> {props.count.toLocaleString('en-US')}</span>}
      </h2>
      {props.children}
    </section>
  );
}

