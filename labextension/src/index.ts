// The plugins and nothing else: no request and no view code until something is shown.

import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, WidgetTracker } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { Api } from './api';
import { shortId } from './format';
import { LazyHost } from './host';
import { nbopsIcon } from './icon';
import { showLabels } from './labels';
import { Live } from './live';
import { Notebooks } from './notebooks';
import type { StaleBadges } from './staleBadges';
import { ITools } from './tools';

const CATEGORY = 'nbops';

namespace CommandIDs {
  export const openPanel = 'nbops:open-panel';
  export const openRun = 'nbops:open-run';
  export const openCell = 'nbops:open-cell';
  export const runStale = 'nbops:run-stale-cells';
}

const tools: JupyterFrontEndPlugin<ITools> = {
  id: 'nbops:tools',
  description: 'Requests, changes and texts that the nbops views share.',
  autoStart: true,
  provides: ITools,
  optional: [ITranslator, IStateDB, INotebookTracker],
  activate: (
    app: JupyterFrontEnd,
    translator: ITranslator | null,
    state: IStateDB | null,
    notebooks: INotebookTracker | null
  ): ITools => ({
    api: new Api(app.serviceManager.serverSettings),
    live: new Live(app.serviceManager.events),
    notebooks: new Notebooks(app, notebooks),
    trans: (translator ?? nullTranslator).load('nbops'),
    state,
    wished: [],
    openRun: (id: string) => void app.commands.execute(CommandIDs.openRun, { id })
  })
};

const panel: JupyterFrontEndPlugin<void> = {
  id: 'nbops:panel',
  description: 'A side panel that lists runs, models and endpoints.',
  autoStart: true,
  requires: [ITools],
  optional: [ICommandPalette, ILayoutRestorer, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    tools: ITools,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    settings: ISettingRegistry | null
  ): void => {
    const { trans } = tools;
    const host = new LazyHost(async () => {
      await followSettings(tools, settings);
      return new (await import('./panel')).NbopsPanel(tools);
    });
    host.id = 'nbops-panel';
    host.title.icon = nbopsIcon;
    host.title.caption = trans.__('nbops: runs, models and endpoints');
    host.node.setAttribute('role', 'region');
    host.node.setAttribute('aria-label', trans.__('nbops'));
    app.shell.add(host, 'left', { rank: 600, type: 'nbops' });
    restorer?.add(host, host.id);

    app.commands.addCommand(CommandIDs.openPanel, {
      label: trans.__('Show Runs'),
      caption: trans.__('Show the nbops panel with runs, models and endpoints'),
      icon: nbopsIcon,
      describedBy: { args: { type: 'object', properties: {} } },
      execute: () => app.shell.activateById(host.id)
    });
    palette?.addItem({ command: CommandIDs.openPanel, category: CATEGORY });
  }
};

const runs: JupyterFrontEndPlugin<void> = {
  id: 'nbops:runs',
  description: 'The page of a run: parameters, metrics, cells, artifacts and lineage.',
  autoStart: true,
  requires: [ITools],
  optional: [ILayoutRestorer],
  activate: (app: JupyterFrontEnd, tools: ITools, restorer: ILayoutRestorer | null): void => {
    const { trans } = tools;
    const tracker = new WidgetTracker<LazyHost>({ namespace: 'nbops-run' });
    const pageId = (id: string): string => `nbops-run-${id}`;

    app.commands.addCommand(CommandIDs.openRun, {
      label: trans.__('Open Run'),
      caption: trans.__('Open the page of a run'),
      icon: nbopsIcon,
      describedBy: {
        args: {
          type: 'object',
          required: ['id'],
          properties: { id: { type: 'string', description: trans.__('Id of the run') } }
        }
      },
      execute: args => {
        const id = String(args.id ?? '');
        if (id === '') {
          throw new Error(trans.__('A run id is needed: { "id": "run_…" }.'));
        }
        let page = tracker.find(widget => widget.id === pageId(id));
        if (!page) {
          page = makePage(tools, id, pageId(id));
          app.shell.add(page, 'main', { type: 'nbops-run' });
          if (!page.isAttached) {
            // Notebook 7 has room for one document in its main area: use the side instead
            app.shell.add(page, 'right', { type: 'nbops-run' });
          }
          void tracker.add(page);
        }
        app.shell.activateById(page.id);
      }
    });
    void restorer?.restore(tracker, {
      command: CommandIDs.openRun,
      args: widget => ({ id: widget.id.slice(pageId('').length) }),
      name: widget => widget.id
    });
  }
};

const cells: JupyterFrontEndPlugin<void> = {
  id: 'nbops:cells',
  description: 'Brings the user to the notebook cell that made something.',
  autoStart: true,
  requires: [ITools],
  activate: (app: JupyterFrontEnd, tools: ITools): void => {
    const { trans, notebooks } = tools;
    app.commands.addCommand(CommandIDs.openCell, {
      label: trans.__('Open Cell'),
      caption: trans.__('Open a notebook at one of its cells'),
      icon: nbopsIcon,
      describedBy: {
        args: {
          type: 'object',
          required: ['path', 'id'],
          properties: {
            path: { type: 'string', description: trans.__('Path of the notebook') },
            id: { type: 'string', description: trans.__('Id of the cell') }
          }
        }
      },
      execute: args => notebooks.open(String(args.path ?? ''), String(args.id ?? ''))
    });
    void app.restored.then(() => notebooks.followAddress());
  }
};

const labels: JupyterFrontEndPlugin<void> = {
  id: 'nbops:labels',
  description: 'Labelling widgets in the outputs of notebooks.',
  autoStart: true,
  requires: [ITools],
  optional: [INotebookTracker],
  activate: (_: JupyterFrontEnd, tools: ITools, notebooks: INotebookTracker | null): void => {
    if (notebooks) {
      showLabels(notebooks, tools);
    }
  }
};

const stale: JupyterFrontEndPlugin<void> = {
  id: 'nbops:stale',
  description: 'Badges on cells whose output was made from data that has a newer version.',
  autoStart: true,
  requires: [ITools],
  optional: [INotebookTracker, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    tools: ITools,
    tracker: INotebookTracker | null,
    palette: ICommandPalette | null
  ): void => {
    if (!tracker) {
      return;
    }
    const { trans } = tools;
    let badges: Promise<StaleBadges> | null = null;
    const follow = (): void => {
      badges ??= import('./staleBadges').then(it => new it.StaleBadges(tools, app.serviceManager.contents, tracker));
    };
    tracker.widgetAdded.connect(follow);
    if (tracker.size > 0) {
      follow();
    }
    app.commands.addCommand(CommandIDs.runStale, {
      label: trans.__('Run Stale Cells'),
      caption: trans.__('Run the cells whose data has a newer version, and those that read it'),
      describedBy: {
        args: {
          type: 'object',
          properties: { id: { type: 'string', description: trans.__('Id of one stale cell; all without it') } }
        }
      },
      isEnabled: () => tracker.currentWidget !== null,
      execute: args => {
        const panel = tracker.currentWidget;
        const id = args.id === undefined ? undefined : String(args.id);
        return panel && badges ? badges.then(it => it.run(panel, id)) : false;
      }
    });
    palette?.addItem({ command: CommandIDs.runStale, category: CATEGORY });
  }
};

async function followSettings(tools: ITools, settings: ISettingRegistry | null): Promise<void> {
  const values = await settings?.load('nbops:panel');
  const read = (): void => {
    tools.wished = (values?.composite.metrics as string[] | undefined) ?? [];
  };
  values?.changed.connect(read);
  read();
}

function makePage(tools: ITools, id: string, widgetId: string): LazyHost {
  const page: LazyHost = new LazyHost(async () => {
    const { RunPage } = await import('./runPage');
    return new RunPage(tools, id, name => (page.title.label = name));
  });
  page.id = widgetId;
  page.title.label = shortId(id);
  page.title.caption = id;
  page.title.icon = nbopsIcon;
  page.title.closable = true;
  return page;
}

export default [tools, panel, runs, cells, labels, stale];
