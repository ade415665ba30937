// The labelling widget: one item, its classes, keys. All it knows it is told by the kernel, over one comm.

import { NotebookPanel } from '@jupyterlab/notebook';
import { Kernel } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { Asked, asked } from './labelKeys';
import { el, ILabelState, LabelPage } from './labelPage';
import type { Model } from './labels';

const TARGET = 'nbops.label';
const SLOW_MS = 1500;

interface IReply extends ILabelState {
  gone?: boolean;
}

export class LabelView extends Widget {
  constructor(
    private readonly _panel: NotebookPanel,
    private readonly _trans: TranslationBundle,
    private readonly _session: string,
    private readonly _model: Model
  ) {
    super();
    this.addClass('jp-nbops-Label');
    this._page = new LabelPage(_trans, _panel.content.rendermime, what => this._do(what));
    this._static = el('div', 'jp-nbops-Label-static');
    this._told = el('p', 'jp-nbops-Label-notice');
    this._told.setAttribute('role', 'status');
    this.node.append(this._static, this._page.node, this._told);
    this._page.node.hidden = true;
    void this._showCard();
    _panel.sessionContext.kernelChanged.connect(this._reconnect, this);
    _panel.sessionContext.statusChanged.connect(this._onStatus, this);
    this._reconnect();
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this._panel.sessionContext.kernelChanged.disconnect(this._reconnect, this);
    this._panel.sessionContext.statusChanged.disconnect(this._onStatus, this);
    this._hangUp();
    super.dispose();
  }

  protected override onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    // on the window and before all others: the application's own listener is on the document
    window.addEventListener('keydown', this._onKey, true);
    document.addEventListener('visibilitychange', this._onVisibility);
  }

  protected override onBeforeDetach(msg: Message): void {
    window.removeEventListener('keydown', this._onKey, true);
    document.removeEventListener('visibilitychange', this._onVisibility);
    super.onBeforeDetach(msg);
  }

  protected override onActivateRequest(): void {
    this._page.node.focus();
  }

  // ---- the kernel ----

  private _reconnect(): void {
    this._hangUp();
    const kernel = this._panel.sessionContext.session?.kernel;
    if (!kernel || !kernel.handleComms) {
      this._rest(this._trans.__('Run this cell to label.'));
      return;
    }
    void this._call(kernel);
  }

  private async _call(kernel: Kernel.IKernelConnection): Promise<void> {
    const info = await kernel.info.catch(() => null);
    if (this.isDisposed || !info || kernel.isDisposed || this._comm) {
      return;
    }
    const comm = kernel.createComm(TARGET);
    comm.onMsg = message => this._hear(message.content.data as unknown as IReply);
    comm.onClose = () => {
      if (this._comm === comm) {
        this._comm = null;
        this._rest(this._trans.__('Run this cell to label: the kernel does not know it yet.'));
      }
    };
    this._comm = comm;
    comm.open({ session: this._session });
  }

  private _hangUp(): void {
    const comm = this._comm;
    this._comm = null;
    this._wait(false);
    if (comm && !comm.isDisposed) {
      comm.onClose = () => undefined;
      try {
        comm.close();
      } catch {
        comm.dispose(); // the kernel is gone already
      }
    }
  }

  private _onStatus(): void {
    const status = this._panel.sessionContext.kernelDisplayStatus;
    if (['restarting', 'autorestarting', 'dead', 'terminating'].includes(status)) {
      this._hangUp();
      this._rest(this._trans.__('The kernel stopped. Nothing is lost: run this cell to go on.'));
    }
  }

  private _hear(state: IReply): void {
    this._wait(false);
    if (state.gone) {
      this._rest(this._trans.__('Run this cell to label: the kernel does not know it yet.'));
      return;
    }
    this._static.hidden = true;
    this._page.node.hidden = false;
    this._told.textContent = '';
    this._state = state;
    this._page.show(state);
    this._keepCard(state);
  }

  /** Show what was there when the cell ran, or when somebody last labelled. */
  private _rest(why: string): void {
    const hadFocus = this._page.node.contains(document.activeElement);
    this._static.hidden = false;
    this._page.node.hidden = true;
    this._told.textContent = why;
    this._state = null;
    if (hadFocus) {
      this._panel.content.node.focus();
    }
    void this._showCard();
  }

  private async _showCard(): Promise<void> {
    const rendermime = this._panel.content.rendermime;
    const { data, metadata, trusted } = this._model;
    const card = rendermime.createModel({ data: { 'text/html': data['text/html'] ?? '' }, metadata, trusted });
    const renderer = rendermime.createRenderer('text/html');
    await renderer.renderModel(card);
    this._static.replaceChildren(renderer.node);
  }

  /** Keep the card of now in the notebook, where it is seen without a kernel. */
  private _keepCard(state: IReply): void {
    if (this._model.data['text/html'] !== state.card['text/html']) {
      this._model.setData({ data: { ...this._model.data, ...state.card } });
    }
  }

  // ---- the annotator ----

  private readonly _onKey = (event: KeyboardEvent): void => {
    const page = this._page;
    const target = event.target as HTMLElement;
    if (!this._state || !page.node.contains(target) || event.isComposing) {
      return;
    }
    if (page.isNote(target)) {
      if (event.key === 'Escape' || (event.key === 'Enter' && !event.shiftKey && !event.ctrlKey)) {
        take(event);
        page.node.focus();
      } else if (!event.ctrlKey && !event.metaKey && !event.altKey) {
        event.stopImmediatePropagation(); // typed here, and no shortcut of the application
      }
      return;
    }
    const what = asked(event, this._state.classes.map(one => one.key), this._state.notes);
    if (!what) {
      return;
    }
    if (what.do === 'leave') {
      page.node.blur(); // and the application does with Escape what it does
      return;
    }
    const isOwn = target !== page.node && (page.isInItem(target) || target.tagName === 'BUTTON');
    if (isOwn && [' ', 'Enter', 'ArrowRight'].includes(event.key)) {
      event.stopImmediatePropagation(); // a button is pressed, a sound is played
      return;
    }
    take(event);
    if (!event.repeat) {
      this._do(what);
    }
  };

  private readonly _onVisibility = (): void => this._page.visibility(document.hidden);

  private _do(what: Asked): void {
    const state = this._state;
    if (!state || this._isWaiting) {
      return;
    }
    const page = this._page;
    switch (what.do) {
      case 'help':
        page.toggleHelp();
        break;
      case 'note':
        page.focusNote();
        break;
      case 'undo':
        if (state.canUndo) {
          this._say({ do: 'undo' });
        }
        break;
      case 'skip':
        if (state.item) {
          this._say({ do: 'skip', item: state.item.id, seconds: page.seconds() });
        }
        break;
      case 'class':
        if (state.multi) {
          page.toggle(what.at);
        } else {
          this._answer([what.at]);
        }
        break;
      case 'enter':
        if (state.multi) {
          this._answer(page.chosen());
        } else if (state.suggestion) {
          this._answer(state.suggestion.classes);
        }
        break;
    }
  }

  private _answer(classes: number[]): void {
    const item = this._state?.item;
    if (item?.mime) {
      const { _page: page } = this;
      this._say({ do: 'answer', item: item.id, classes, seconds: page.seconds(), note: page.note() });
    }
  }

  private _say(what: Record<string, unknown>): void {
    if (!this._comm) {
      return;
    }
    this._wait(true);
    this._comm.send(what as Parameters<Kernel.IComm['send']>[0]);
  }

  private _wait(isWaiting: boolean): void {
    this._isWaiting = isWaiting;
    this._page.node.setAttribute('aria-busy', String(isWaiting));
    clearTimeout(this._slow);
    if (isWaiting) {
      this._slow = window.setTimeout(() => {
        this._told.textContent = this._trans.__('The kernel is busy. Your answer waits for it.');
      }, SLOW_MS);
    }
  }

  private readonly _page: LabelPage;
  private readonly _static: HTMLElement;
  private readonly _told: HTMLElement;
  private _state: IReply | null = null;
  private _comm: Kernel.IComm | null = null;
  private _isWaiting = false;
  private _slow = 0;
}

function take(event: KeyboardEvent): void {
  event.preventDefault();
  event.stopImmediatePropagation();
}
