// The side panel: filter box, list of runs, sections for models and endpoints.

import { ReactWidget } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import * as React from 'react';

import { Fault, toFault, versionFault } from './api';
import { IFilter, filterOf } from './filter';
import { IInfo, IPage, IRunRow } from './model';
import { PagedList } from './pages';
import { Empty, FaultLines, useLive } from './parts';
import { ISort, RunTable } from './runTable';
import { EndpointSection, ModelSection, OverviewSection } from './sections';
import { ITools } from './tools';

const FIRST_RUN = 'import nbops as nb\n\nwith nb.run("first"):\n    nb.log(loss=0.5)';
const TYPING_MS = 200;

/** Return whether a change touches one of the kinds of record, told by the prefix of its id. */
export function touches(subjects: string[] | null, ...prefixes: string[]): boolean {
  return subjects === null || subjects.some(id => prefixes.includes(id.slice(0, id.indexOf('_'))));
}

/** A React widget that knows whether it can be seen. */
export class NbopsPanel extends ReactWidget {
  constructor(private readonly _tools: ITools) {
    super();
    this.addClass('jp-nbops-Panel');
  }

  get seen(): ISignal<this, boolean> {
    return this._seen;
  }

  protected override render(): JSX.Element {
    return <PanelView tools={this._tools} widget={this} />;
  }

  protected override onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    this.node.querySelector('input')?.focus();
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this._seen.emit(true);
  }

  protected override onBeforeHide(msg: Message): void {
    super.onBeforeHide(msg);
    this._seen.emit(false);
  }

  private readonly _seen = new Signal<this, boolean>(this);
}

function useSeen(widget: NbopsPanel): boolean {
  const [seen, setSeen] = React.useState(widget.isVisible);
  React.useEffect(() => {
    const follow = (_: unknown, value: boolean): void => setSeen(value);
    widget.seen.connect(follow);
    setSeen(widget.isVisible);
    return () => void widget.seen.disconnect(follow);
  }, [widget]);
  return seen;
}

function PanelView(props: { tools: ITools; widget: NbopsPanel }): JSX.Element {
  const { tools } = props;
  const { trans } = tools;
  const seen = useSeen(props.widget);
  const [text, setText] = React.useState('');
  const [sort, setSort] = React.useState<ISort>({ key: 'created_at', descending: true });
  const [info, setInfo] = React.useState<IInfo | null>(null);
  const [fault, setFault] = React.useState<Fault | null>(null);
  const { list, version } = useRuns(tools, filterOf(text), sort);

  const shake = async (): Promise<void> => {
    try {
      const answer = await tools.api.get<IInfo>('info', {}, true);
      setInfo(answer);
      setFault(versionFault(answer.api_version));
    } catch (error) {
      setFault(toFault(error));
    }
  };
  useLive(tools.live.listen.bind(tools.live), seen, subjects => {
    if (subjects === null) {
      void shake();
    }
    if (touches(subjects, 'run') && !(subjects === null && list.loading)) {
      void list.refresh();
    }
  });

  const wrong = list.error ? toFault(list.error) : null;
  const invalid = wrong?.kind === 'user' && text.trim() !== '';
  const banner = fault ?? (invalid ? null : wrong);
  const isEmpty = list.total === 0 && !wrong;
  return (
    <>
      <FilterBox
        tools={tools}
        text={text}
        onText={setText}
        fault={invalid ? wrong : null}
        total={list.total}
      />
      {banner && <FaultLines fault={banner} />}
      {isEmpty && text.trim() === '' && (
        <Empty text={trans.__('No runs yet. Type in a cell:')} code={FIRST_RUN} />
      )}
      {isEmpty && text.trim() !== '' && <Empty text={trans.__('No run matches the filter.')} />}
      <div className="jp-nbops-Panel-main" hidden={isEmpty || list.total === null}>
        <RunTable tools={tools} list={list} version={version} sort={sort} onSort={setSort} />
      </div>
      <div className="jp-nbops-Panel-rest">
        <ModelSection tools={tools} active={seen} />
        <EndpointSection tools={tools} active={seen} />
        <OverviewSection tools={tools} active={seen} />
      </div>
      {info && <Foot info={info} tools={tools} />}
    </>
  );
}

function useRuns(tools: ITools, filter: IFilter, sort: ISort): { list: PagedList<IRunRow>; version: number } {
  const [version, redraw] = React.useReducer((n: number) => n + 1, 0);
  const question = React.useRef({ ...filter, order: '' });
  const order = sort.key === 'created_at' && sort.descending ? '' : `${sort.key} ${sort.descending ? 'desc' : 'asc'}`;
  const list = React.useMemo(
    () =>
      new PagedList<IRunRow>(
        (offset, limit, background) =>
          tools.api.get<IPage<IRunRow>>('runs', { offset, limit, ...question.current }, background),
        redraw
      ),
    []
  );
  const isFirst = React.useRef(true);
  React.useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    const timer = window.setTimeout(() => {
      question.current = { ...filter, order };
      void list.restart();
    }, TYPING_MS);
    return () => window.clearTimeout(timer);
  }, [filter.where, filter.q, order]);
  return { list, version };
}

interface IFilterProps {
  tools: ITools;
  text: string;
  onText: (text: string) => void;
  fault: Fault | null;
  total: number | null;
}

function FilterBox(props: IFilterProps): JSX.Element {
  const { trans } = props.tools;
  return (
    <div className="jp-nbops-Filter">
      <input
        type="search"
        spellCheck={false}
        aria-label={trans.__('Filter runs')}
        aria-invalid={props.fault !== null}
        aria-describedby={props.fault ? 'jp-nbops-filter-fault' : undefined}
        placeholder={trans.__('Words, or metrics.acc > 0.9')}
        value={props.text}
        onChange={event => props.onText(event.target.value)}
      />
      <span className="jp-nbops-dim" role="status">
        {props.total === null ? '' : trans._n('%2 run', '%2 runs', props.total, props.total.toLocaleString('en-US'))}
      </span>
      {props.fault && <FaultLines fault={props.fault} id="jp-nbops-filter-fault" />}
    </div>
  );
}

/** What the panel reads, and as whom. */
function Foot(props: { info: IInfo; tools: ITools }): JSX.Element {
  const { info, tools } = props;
  return (
    <div className="jp-nbops-Panel-foot">
      <span className="jp-nbops-Panel-path" title={info.workspace}>
        <bdi>{info.workspace}</bdi>
      </span>
      {info.role && (
        <span
          className="jp-nbops-Chip jp-nbops-Role"
          data-tone={info.doubt ? 'warn' : 'dim'}
          title={info.doubt || tools.trans.__('You are %1 here: %2', info.user, info.role)}
        >
          {info.doubt && <span aria-hidden="true">! </span>}
          {info.role}
        </span>
      )}
    </div>
  );
}
