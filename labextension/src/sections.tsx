// Thin lists under the runs: models with their aliases, endpoints with their state. Closed until asked for.

import { caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Fault, toFault } from './api';
import { formatAge } from './format';
import { IEndpointRow, IModelRow, IOverviewRow, IPage } from './model';
import { Chip, Empty, FaultLines, useLive } from './parts';
import { ITools } from './tools';

interface ISectionProps {
  tools: ITools;
  active: boolean;
}

const REMEMBER = 'nbops:sections';

/** Return whether a section is open, and a way to change that which is remembered. */
function useOpen(tools: ITools, name: string): [boolean, () => void] {
  const [open, setOpen] = React.useState(false);
  React.useEffect(() => {
    void tools.state?.fetch(`${REMEMBER}:${name}`).then(value => setOpen(value === true));
  }, [name]);
  const toggle = (): void => {
    setOpen(!open);
    void tools.state?.save(`${REMEMBER}:${name}`, !open);
  };
  return [open, toggle];
}

interface IListProps<T> extends ISectionProps {
  name: string;
  title: string;
  prefixes: string[];
  empty: string;
  code: string;
  row: (item: T) => JSX.Element;
}

function Section<T extends { id: string }>(props: IListProps<T>): JSX.Element {
  const { tools, name } = props;
  const [open, toggle] = useOpen(tools, name);
  const [page, setPage] = React.useState<IPage<T> | null>(null);
  const [fault, setFault] = React.useState<Fault | null>(null);
  useLive(tools.live.listen.bind(tools.live), props.active && open, subjects => {
    if (subjects === null || subjects.some(id => props.prefixes.some(prefix => id.startsWith(prefix)))) {
      tools.api.get<IPage<T>>(name, { limit: 200 }, true).then(
        answer => {
          setPage(answer);
          setFault(null);
        },
        (error: unknown) => setFault(toFault(error))
      );
    }
  });
  const Caret = open ? caretDownIcon : caretRightIcon;
  return (
    <section className="jp-nbops-Section" data-name={name}>
      <h3>
        <button aria-expanded={open} onClick={toggle}>
          <Caret.react tag="span" aria-hidden="true" />
          {props.title}
          {open && page && <span className="jp-nbops-dim"> {page.total.toLocaleString('en-US')}</span>}
        </button>
      </h3>
      {open && fault && <FaultLines fault={fault} />}
      {open && page?.total === 0 && <Empty text={props.empty} code={props.code} />}
      {open && page && page.total > 0 && <ul>{page.rows.map(props.row)}</ul>}
    </section>
  );
}

export function ModelSection(props: ISectionProps): JSX.Element {
  const { tools } = props;
  const { trans } = tools;
  const row = (model: IModelRow): JSX.Element => (
    <li key={model.id}>
      <span className="jp-nbops-Section-name" title={model.id}>
        {model.name}/{model.number}
      </span>
      {model.aliases.map(alias => (
        <span key={alias} className="jp-nbops-Chip" data-tone="live">
          @{alias}
        </span>
      ))}
      {model.parent && (
        <button className="jp-nbops-Link" onClick={() => tools.openRun(model.parent as string)}>
          {trans.__('run')}
        </button>
      )}
      <span className="jp-nbops-Section-age jp-nbops-dim">{formatAge(Date.now() / 1000 - model.created_at)}</span>
    </li>
  );
  return (
    <Section<IModelRow>
      {...props}
      name="models"
      title={trans.__('Models')}
      prefixes={['mv_', 'al_']}
      empty={trans.__('No models yet. Type in a cell:')}
      code={'nb.register(model, "digits", example=x)'}
      row={row}
    />
  );
}

export function EndpointSection(props: ISectionProps): JSX.Element {
  const { trans } = props.tools;
  const row = (endpoint: IEndpointRow): JSX.Element => (
    <li key={endpoint.id}>
      <Chip status={endpoint.status} />
      <span className="jp-nbops-Section-name" title={`${endpoint.id}\n${endpoint.url}`}>
        {endpoint.name}
      </span>
      <span className="jp-nbops-Section-ref jp-nbops-dim">{endpoint.ref}</span>
      <span className="jp-nbops-Section-age jp-nbops-dim">{formatAge(Date.now() / 1000 - endpoint.created_at)}</span>
    </li>
  );
  return (
    <Section<IEndpointRow>
      {...props}
      name="endpoints"
      title={trans.__('Endpoints')}
      prefixes={['ep_']}
      empty={trans.__('No endpoints yet. Type in a cell:')}
      code={'nb.serve("digits@prod")'}
      row={row}
    />
  );
}

export function OverviewSection(props: ISectionProps): JSX.Element {
  const { tools } = props;
  const { trans } = tools;
  const row = (overview: IOverviewRow): JSX.Element => (
    <li key={overview.id}>
      <a
        className="jp-nbops-Section-name jp-nbops-Link"
        href={tools.api.address(`overviews/${overview.id}`)}
        target="_blank"
        rel="noopener"
        title={trans.__('Open this overview in a tab')}
      >
        {overview.title}
      </a>
      <span className="jp-nbops-Section-age jp-nbops-dim">{formatAge(Date.now() / 1000 - overview.created_at)}</span>
    </li>
  );
  return (
    <Section<IOverviewRow>
      {...props}
      name="overviews"
      title={trans.__('Overviews')}
      prefixes={['art_']}
      empty={trans.__('No overviews yet. Type in a cell:')}
      code={'nb.overview({"train": train, "val": val})'}
      row={row}
    />
  );
}
