// Finds a cell in a notebook, open or on disk, and brings the user to it.

import { JupyterFrontEnd } from '@jupyterlab/application';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { INotebookTracker, Notebook, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { ServerConnection } from '@jupyterlab/services';

const OPEN = 'docmanager:open';
const FACTORY = 'Notebook';
const FRAGMENT = 'cell-id'; // JupyterLab's own word for it
const LOOK_MS = 100;
const LOOKS = 100;
const CALM_LOOKS = 20;

/** A cell as it is now. */
export interface IFoundCell {
  path: string;
  id: string;
  source: string;
}

/** Why a cell is not found. */
export type Missing = 'notebook' | 'cell';

/** How opening ended: `unable` where the application has no notebooks, `blocked` where the browser opens no tab. */
export type Opened = 'shown' | 'unable' | 'blocked' | Missing;

export interface INotebooks {
  /**
   * Return a cell as it is now.
   *
   * It is looked for in the notebook at `path`, open or on disk, then in all that are open, because a
   * notebook may have been renamed. A front end that gives cells no ids is served by their `source`.
   */
  find(path: string | null, id: string, source: string | null): Promise<IFoundCell | Missing>;
  /** Open a notebook unless it is open, and select a cell of it. */
  open(path: string, id: string): Promise<Opened>;
  /** Return the address of a page that does the same. */
  address(path: string, id: string): string;
  /** Select the cell that the address of this page names, now and when it names another one. */
  followAddress(): void;
}

interface ICellLike {
  id: string;
  source: string;
}

export class Notebooks implements INotebooks {
  constructor(
    private readonly _app: JupyterFrontEnd,
    private readonly _tracker: INotebookTracker | null
  ) {}

  async find(path: string | null, id: string, source: string | null): Promise<IFoundCell | Missing> {
    const matches = (cell: ICellLike): boolean =>
      cell.id === id || (id.startsWith('source-') && cell.source === source);
    const open = this._panels()
      .filter(panel => panel.context.isReady)
      .map(panel => ({ path: panel.context.path, cells: cellsOf(panel) }));
    const own = open.find(one => this._isAt(one.path, path));
    const saved = path === null || own ? null : await this._saved(path);
    for (const one of [own, saved, ...open]) {
      const cell = one?.cells.find(matches);
      if (one && cell) {
        return { path: one.path, id: cell.id, source: cell.source };
      }
    }
    return own || saved ? 'cell' : 'notebook';
  }

  async open(path: string, id: string): Promise<Opened> {
    let panel = this._panels().find(one => this._isAt(one.context.path, path));
    if (!panel && opensTabs()) {
      // a tab that was opened for this notebook is used again: only the fragment changes then
      const tab = window.open(this.address(path, id), `nbops:${path}`);
      tab?.focus();
      return tab ? 'shown' : 'blocked';
    }
    if (!panel) {
      if (!this._app.docRegistry.getWidgetFactory(FACTORY) || !this._app.commands.hasCommand(OPEN)) {
        return 'unable';
      }
      const opened = await unlessAbsent(this._app.commands.execute(OPEN, { path, factory: FACTORY }));
      if (!opened) {
        return 'notebook';
      }
      panel = opened as NotebookPanel;
    }
    this._app.shell.activateById(panel.id);
    return (await select(panel, id)) ? 'shown' : 'cell';
  }

  address(path: string, id: string): string {
    const page = opensTabs() ? 'notebooks' : 'lab/tree';
    const base = this._app.serviceManager.serverSettings.baseUrl;
    return `${URLExt.join(base, page, URLExt.encodeParts(path))}#${FRAGMENT}=${encodeURIComponent(id)}`;
  }

  followAddress(): void {
    const follow = (): void => {
      const id = cellInAddress();
      const panel = this._panels()[0];
      if (id !== null && panel) {
        void select(panel, id);
      }
    };
    window.addEventListener('hashchange', follow);
    this._tracker?.widgetAdded.connect(follow);
    follow();
  }

  private _panels(): NotebookPanel[] {
    const panels: NotebookPanel[] = [];
    this._tracker?.forEach(panel => panels.push(panel));
    return panels.filter(panel => !panel.isDisposed);
  }

  /** Return whether an open document is the one that the server names so; collaboration prefixes a drive. */
  private _isAt(open: string, path: string | null): boolean {
    return open === path || this._app.serviceManager.contents.localPath(open) === path;
  }

  /** Return a notebook as it was saved; null if there is no such file. */
  private async _saved(path: string): Promise<{ path: string; cells: ICellLike[] } | null> {
    const file = await unlessAbsent(this._app.serviceManager.contents.get(path, { type: 'notebook', content: true }));
    if (!file) {
      return null;
    }
    const cells = (file.content?.cells ?? []) as { id?: string; source: string | string[] }[];
    return {
      path,
      cells: cells.map(({ id, source }) => ({ id: id ?? '', source: Array.isArray(source) ? source.join('') : source }))
    };
  }
}

/** Return what the server answers; null if there is no such file. */
async function unlessAbsent<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ServerConnection.ResponseError && error.response.status === 404) {
      return null;
    }
    throw error;
  }
}

/** Return whether this application opens documents in browser tabs, as Notebook 7 does. */
function opensTabs(): boolean {
  return PageConfig.getOption('notebookPage') !== '';
}

/** Return the cell that the address of this page names; null where another application would answer to that. */
function cellInAddress(): string | null {
  const isPage = PageConfig.getOption('notebookPage') === 'notebooks';
  return isPage ? new URLSearchParams(location.hash.slice(1)).get(FRAGMENT) : null;
}

function cellsOf(panel: NotebookPanel): ICellLike[] {
  const cells = panel.content.model?.cells ?? [];
  return Array.from(cells, cell => ({ id: cell.id, source: cell.sharedModel.getSource() }));
}

/** Select a cell, bring it into view and give it the focus; return whether the notebook has it. */
async function select(panel: NotebookPanel, id: string): Promise<boolean> {
  await panel.context.ready;
  await panel.revealed;
  const notebook = panel.content;
  const index = notebook.widgets.findIndex(cell => cell.model.id === id);
  if (index < 0) {
    return false;
  }
  NotebookActions.expandParent(notebook.widgets[index], notebook); // it may be folded under its heading
  notebook.deselectAll();
  notebook.mode = 'command';
  void keepSelected(notebook, index);
  return true;
}

const latest = new WeakMap<Notebook, symbol>(); // the last cell that was asked for ends the looks after others

/**
 * Let a cell be the active one, with the focus and in view, until the notebook has come to rest or the user takes over.
 *
 * A notebook that is just being opened focuses a cell of its own, and lays out what is above ours meanwhile.
 */
async function keepSelected(notebook: Notebook, index: number): Promise<void> {
  const own = Symbol(index);
  latest.set(notebook, own);
  let [calm, isTaken] = [0, false];
  const take = (): void => void (isTaken = true);
  const gestures = ['wheel', 'pointerdown', 'keydown'];
  gestures.forEach(name => document.addEventListener(name, take, true));
  for (let i = 0; i < LOOKS && calm < CALM_LOOKS; i++) {
    if (isTaken || notebook.isDisposed || latest.get(notebook) !== own) {
      break;
    }
    calm = notebook.isVisible && settle(notebook, index) ? calm + 1 : 0;
    await new Promise(resolve => setTimeout(resolve, LOOK_MS));
  }
  gestures.forEach(name => document.removeEventListener(name, take, true));
}

/** Make a cell active, focus it and scroll to it; return whether there was nothing to do. */
function settle(notebook: Notebook, index: number): boolean {
  const cell = notebook.widgets[index];
  if (!cell) {
    return false;
  }
  const isActive = notebook.activeCellIndex === index;
  if (!isActive) {
    notebook.activeCellIndex = index;
  }
  const isFocused = cell.node.contains(document.activeElement);
  if (!isFocused) {
    cell.node.focus({ preventScroll: true });
  }
  if (isInView(notebook, index)) {
    return isActive && isFocused;
  }
  // rejected when the notebook itself begins to scroll: looked at again
  void notebook.scrollToItem(index, 'smart').catch(() => undefined);
  return false;
}

function isInView(notebook: Notebook, index: number): boolean {
  const cell = notebook.widgets[index]?.node.getBoundingClientRect();
  const seen = notebook.node.getBoundingClientRect();
  return cell !== undefined && cell.height > 0 && cell.top >= seen.top - 1 && cell.top < seen.bottom - 40;
}
