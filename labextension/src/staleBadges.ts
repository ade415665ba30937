// Badges on the cells of open notebooks whose data has moved on. A notebook without such data costs one question.

import { INotebookTracker, Notebook, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { Contents } from '@jupyterlab/services';

import { badgesOf, cellsToRun, concernsData, IShownCell, IStaleCell, IStaleness } from './stale';
import { ITools } from './tools';

type CellWidget = Notebook['widgets'][number];

const CLASS = 'jp-nbops-Stale';
const SOON_MS = 60;
const LOOKS_MS = [400, 2_000]; // after a cell has run, its record is written within a moment

export class StaleBadges {
  constructor(
    private readonly _tools: ITools,
    private readonly _contents: Contents.IManager,
    tracker: INotebookTracker
  ) {
    tracker.forEach(panel => this._follow(panel));
    tracker.widgetAdded.connect((_, panel) => this._follow(panel));
    NotebookActions.executed.connect((_, { notebook }) => this._ran(notebook));
  }

  /** Run the cells that make one stale cell new, or all of a notebook; return whether they ran well. */
  async run(panel: NotebookPanel, id?: string): Promise<boolean> {
    const badges = this._followed.get(panel)?.badges() ?? new Map<string, IStaleCell>();
    const wanted = [...badges.values()].filter(one => id === undefined || one.cell_id === id);
    const notebook = panel.content;
    const ids = cellsToRun(notebook.widgets.map(cell => cell.model.id), wanted);
    const cells = notebook.widgets.filter(cell => ids.includes(cell.model.id));
    return cells.length === 0 || NotebookActions.runCells(notebook, cells, panel.sessionContext);
  }

  private _follow(panel: NotebookPanel): void {
    if (this._followed.has(panel)) {
      return; // it was added while this code was loaded
    }
    const followed = new Followed(panel, this._tools, this._contents, id => this.run(panel, id));
    this._followed.set(panel, followed);
    panel.disposed.connect(() => {
      followed.dispose();
      this._followed.delete(panel);
    });
  }

  private _ran(notebook: Notebook): void {
    for (const [panel, followed] of this._followed) {
      if (panel.content === notebook) {
        LOOKS_MS.forEach(delay => setTimeout(() => void followed.ask(), delay));
      }
    }
  }

  private readonly _followed = new Map<NotebookPanel, Followed>();
}

/** One open notebook. */
class Followed {
  constructor(
    private readonly _panel: NotebookPanel,
    private readonly _tools: ITools,
    private readonly _contents: Contents.IManager,
    private readonly _run: (id: string) => Promise<boolean>
  ) {
    void _panel.context.ready.then(() => {
      if (!this._isGone) {
        _panel.content.modelContentChanged.connect(this._later, this);
        void this.ask();
      }
    });
  }

  /** Ask the server, unless the answer is under way; show what it tells. */
  async ask(): Promise<void> {
    if (this._isGone || this._isAsking) {
      this._isWanted = this._isAsking;
      return;
    }
    this._isAsking = true;
    const notebook = this._contents.localPath(this._panel.context.path);
    const own = this._panel.content.model?.getMetadata('nbops') as { run?: string } | undefined;
    try {
      this._told = await this._tools.api.get<IStaleness>('stale', { notebook, run: own?.run }, true);
    } catch {
      this._told = { followed: 0, cells: [] }; // the panel says what is wrong with the server
    }
    this._isAsking = false;
    if (this._isGone) {
      return;
    }
    if (this._told.followed > 0) {
      this._stop ??= this._tools.live.listen(subjects => void (concernsData(subjects) && this.ask()));
    }
    this._show();
    if (this._isWanted) {
      this._isWanted = false;
      void this.ask();
    }
  }

  /** Return the badges that are due now. */
  badges(): Map<string, IStaleCell> {
    return badgesOf(this._panel.content.widgets.map(shown), this._told.cells);
  }

  dispose(): void {
    this._isGone = true;
    this._stop?.();
    window.clearTimeout(this._timer);
  }

  private _later(): void {
    window.clearTimeout(this._timer);
    this._timer = window.setTimeout(() => this._show(), SOON_MS);
  }

  private _show(): void {
    if (this._isGone || this._panel.isDisposed) {
      return;
    }
    const due = this.badges();
    for (const cell of this._panel.content.widgets) {
      const stale = due.get(cell.model.id);
      const there = badgeIn(cell);
      if (!stale) {
        there?.remove();
      } else if (there?.title !== stale.why) {
        there?.remove();
        this._put(cell, stale);
      } else {
        place(cell, there);
      }
    }
  }

  private _put(cell: CellWidget, stale: IStaleCell): void {
    const badge = this._made(stale);
    place(cell, badge);
    // a cell that was out of view gets its parts only when it comes into view
    void cell.ready.then(() => badge.isConnected && place(cell, badge));
  }

  private _made(stale: IStaleCell): HTMLElement {
    const { trans } = this._tools;
    const badge = document.createElement('div');
    badge.className = CLASS;
    badge.title = stale.why;
    badge.setAttribute('role', 'note');
    const words = document.createElement('span');
    words.textContent = `! ${stale.moved
      .map(([name, old, now]) => trans.__('made from %1 v%2; v%3 is newest', name, old, now))
      .join('; ')}`;
    const button = document.createElement('button');
    button.textContent = trans.__('Run again');
    const before = stale.after.length;
    button.title =
      before > 0
        ? trans._n('Runs %1 cell that reads the data first', 'Runs %1 cells that read the data first', before, before)
        : trans.__('Runs this cell');
    button.addEventListener('click', event => {
      event.stopPropagation();
      button.disabled = true;
      void this._run(stale.cell_id).finally(() => (button.disabled = false));
    });
    badge.append(words, button);
    return badge;
  }

  private _told: IStaleness = { followed: 0, cells: [] };
  private _stop: (() => void) | null = null;
  private _isGone = false;
  private _isAsking = false;
  private _isWanted = false;
  private _timer = 0;
}

function shown(cell: CellWidget): IShownCell {
  const { executionCount } = cell.model as unknown as { executionCount?: number | null };
  return { id: cell.model.id, count: executionCount ?? null };
}

function badgeIn(cell: CellWidget): HTMLElement | null {
  return cell.node.querySelector<HTMLElement>(`:scope > .${CLASS}`);
}

/** Put a badge between what the cell is and what it shows. */
function place(cell: CellWidget, badge: HTMLElement): void {
  const output = cell.node.querySelector(':scope > .jp-Cell-outputWrapper');
  if (badge.parentNode !== cell.node || (output && badge.nextSibling !== output)) {
    cell.node.insertBefore(badge, output);
  }
}
