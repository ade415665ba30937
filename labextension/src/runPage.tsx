// The page of one run: fetches it, follows it while it runs, lays its sections out.

import { ReactWidget } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import { Fault, toFault } from './api';
import { Chart } from './chart';
import { IGroup, groupMetrics } from './groups';
import { Jumps, NoticeAt, useJumps } from './jumps';
import { IRunDetail, ISeries } from './model';
import { FaultLines, useLive, useSize } from './parts';
import { chartPlace } from './readout';
import { Artifacts, Cells, Head, Lineage, Params, Part, Summaries } from './runParts';
import { ITools } from './tools';
import { WatchBar } from './watchBar';

const FIRST_CHARTS = 12;

export class RunPage extends ReactWidget {
  constructor(
    private readonly _tools: ITools,
    private readonly _id: string,
    private readonly _named: (name: string) => void
  ) {
    super();
    this.addClass('jp-nbops-RunPage');
    this.node.tabIndex = 0;
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', this._tools.trans.__('Run %1', this._id));
  }

  readonly seen = new Signal<this, boolean>(this);

  protected override render(): JSX.Element {
    return <PageView tools={this._tools} id={this._id} named={this._named} widget={this} />;
  }

  protected override onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    this.node.focus();
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this.seen.emit(true);
  }

  protected override onBeforeHide(msg: Message): void {
    super.onBeforeHide(msg);
    this.seen.emit(false);
  }
}

interface IPageProps {
  tools: ITools;
  id: string;
  named: (name: string) => void;
  widget: RunPage;
}

function PageView(props: IPageProps): JSX.Element {
  const { tools, id, widget } = props;
  const [seen, setSeen] = React.useState(widget.isVisible);
  const [run, setRun] = React.useState<IRunDetail | null>(null);
  const [fault, setFault] = React.useState<Fault | null>(null);
  const [pulse, beat] = React.useReducer((n: number) => n + 1, 0);

  React.useEffect(() => {
    const follow = (_: unknown, value: boolean): void => setSeen(value);
    widget.seen.connect(follow);
    setSeen(widget.isVisible);
    return () => void widget.seen.disconnect(follow);
  }, [widget]);

  const fetching = React.useRef({ busy: false, again: false });
  const load = async (background: boolean): Promise<void> => {
    if (fetching.current.busy) {
      fetching.current.again = true;
      return;
    }
    fetching.current.busy = true;
    try {
      do {
        fetching.current.again = false;
        const answer = await tools.api.get<IRunDetail>(`runs/${encodeURIComponent(id)}`, {}, background);
        setRun(answer);
        setFault(null);
        props.named(answer.name);
        beat();
      } while (fetching.current.again);
    } catch (error) {
      setFault(toFault(error));
    } finally {
      fetching.current.busy = false;
    }
  };
  const jumps = useJumps(tools, run);
  const known = new Set([id, ...(run?.lineage ?? []).map(node => node.id)]);
  useLive(tools.live.listen.bind(tools.live), seen, subjects => {
    // cells, artifacts and links of a run come with an event of their own id
    if (subjects === null || subjects.some(s => known.has(s) || /^(cell|art|mv|ep|al|wat|cmd)_/.test(s))) {
      void load(run !== null);
    }
  });

  return (
    <div className="jp-nbops-Page">
      {fault && <FaultLines fault={fault} />}
      {run && (
        <Jumps.Provider value={jumps}>
          <Head run={run} tools={tools} />
          <WatchBar run={run} tools={tools} pulse={pulse} />
          <Charts run={run} tools={tools} pulse={pulse} />
          <div className="jp-nbops-Columns">
            <Params run={run} tools={tools} />
            <Summaries run={run} tools={tools} />
          </div>
          <Cells run={run} tools={tools} />
          <Artifacts run={run} tools={tools} />
          <Lineage run={run} tools={tools} />
        </Jumps.Provider>
      )}
    </div>
  );
}

/** Charts of the metrics that have more than one point, fetched at the width at which they are drawn. */
function Charts(props: { run: IRunDetail; tools: ITools; pulse: number }): JSX.Element | null {
  const { run, tools } = props;
  const { trans } = tools;
  const [all, setAll] = React.useState(false);
  const [series, setSeries] = React.useState<Map<string, ISeries>>(new Map());
  const [fault, setFault] = React.useState<Fault | null>(null);
  const box = React.useRef<HTMLDivElement>(null);
  const { width } = useSize(box);
  const groups = groupMetrics(run.summary.filter(([, s]) => s.count > 1).map(([name]) => name));
  const shown = all ? groups : groups.slice(0, FIRST_CHARTS);
  const wanted = shown.flatMap(group => group.metrics);
  const px = Math.min(1600, Math.max(200, Math.ceil(chartWidth(width) / 100) * 100));

  React.useEffect(() => {
    if (wanted.length === 0 || width === 0) {
      return;
    }
    let stale = false;
    tools.api
      .get<{ series: ISeries[] }>(`runs/${encodeURIComponent(run.id)}/series`, { metric: wanted, px }, true)
      .then(
        answer => {
          if (!stale) {
            setSeries(new Map(answer.series.map(one => [one.metric, one])));
            setFault(null);
          }
        },
        (error: unknown) => !stale && setFault(toFault(error))
      );
    return () => {
      stale = true;
    };
  }, [props.pulse, wanted.join('\n'), px, width === 0]);

  return (
    <div ref={box} className="jp-nbops-ChartsBox">
      {fault && <FaultLines fault={fault} />}
      {groups.length > 0 && (
        <Part title={trans.__('Metrics')} count={groups.length}>
          <div className="jp-nbops-Charts">
            {shown.map(group => (
              <React.Fragment key={group.metrics.join()}>
                <GroupChart group={group} series={series} tools={tools} />
                <NoticeAt place={chartPlace(group.title)} />
              </React.Fragment>
            ))}
          </div>
          {groups.length > shown.length && (
            <button className="jp-nbops-Link" onClick={() => setAll(true)}>
              {trans.__('Show all %1 charts', groups.length)}
            </button>
          )}
        </Part>
      )}
    </div>
  );
}

/** Return how wide a chart is in a page of this width: as the style sheet lays them out. */
function chartWidth(width: number): number {
  const columns = Math.max(1, Math.floor((width + 16) / (340 + 16)));
  return (width - (columns - 1) * 16) / columns;
}

function GroupChart(props: { group: IGroup; series: Map<string, ISeries>; tools: ITools }): JSX.Element {
  const series = props.group.metrics
    .map(metric => props.series.get(metric))
    .filter((one): one is ISeries => one !== undefined);
  return <Chart title={props.group.title} series={series} trans={props.tools.trans} />;
}
