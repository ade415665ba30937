// What the labelling widget shows: progress, the item, the classes, what can be done. It asks nothing and stores nothing.

import { NotebookPanel } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';

import { Asked } from './labelKeys';

type RenderMime = NotebookPanel['content']['rendermime'];
type Bundle = Record<string, string>;

/** What the kernel says. */
export interface ILabelState {
  name: string;
  question: string;
  annotator: string;
  multi: boolean;
  notes: boolean;
  done: number;
  total: number;
  skipped: number;
  elsewhere: number;
  canUndo: boolean;
  classes: { label: string; key: string; count: number }[];
  item: { id: string; mime: Bundle | null } | null;
  suggestion: { classes: number[]; confidence: string; given: string } | null;
  trouble: string;
  wrong: string;
  card: Bundle;
}

export function el(tag: string, name = '', text = ''): HTMLElement {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

export class LabelPage {
  readonly node = el('div', 'jp-nbops-Label-page');

  constructor(
    private readonly _trans: TranslationBundle,
    private readonly _rendermime: RenderMime,
    private readonly _ask: (what: Asked) => void
  ) {
    this.node.tabIndex = 0;
    this.node.setAttribute('role', 'group');
    this._bar.setAttribute('role', 'progressbar');
    this._bar.setAttribute('aria-label', _trans.__('labelled'));
    this._bar.append(this._fill);
    this._live.setAttribute('aria-live', 'polite');
    this._wrong.setAttribute('role', 'alert');
    this._classes.setAttribute('role', 'group');
    this._classes.setAttribute('aria-label', _trans.__('Classes'));
    this._note.type = 'text';
    this._note.maxLength = 2000;
    this._note.placeholder = _trans.__('Note (n)');
    this._note.setAttribute('aria-label', _trans.__('Note'));
    this._note.dataset.lmSuppressShortcuts = 'true';
    this._undo = this._button('⌫', _trans.__('Undo'), { do: 'undo' });
    this._skip = this._button('␣', _trans.__('Skip'), { do: 'skip' });
    this._enter = this._button('↵', '', { do: 'enter' });
    this._helper = this._button('?', _trans.__('Keys'), { do: 'help' });
    this._helper.setAttribute('aria-expanded', 'false');
    const idle = el('span', 'jp-nbops-Label-idle', _trans.__('Click here to use the keys'));
    this._actions.append(this._enter, this._undo, this._skip, this._helper, idle);
    this._help.hidden = true;
    this.node.append(
      this._head, this._bar, this._question, this._wrong, this._item, this._hint, this._classes, this._note,
      this._actions, this._help, this._live
    );
  }

  show(state: ILabelState): void {
    const { _trans: trans } = this;
    const isNew = state.item?.id !== this._id;
    this.node.setAttribute('aria-label', trans.__('Label %1', state.name));
    this._showHead(state);
    this._question.textContent = state.question;
    this._question.hidden = state.question === '';
    this._wrong.textContent = [state.wrong, state.trouble].filter(Boolean).join(' ');
    this._wrong.hidden = this._wrong.textContent === '';
    const hadFocus = this.node.contains(document.activeElement);
    const at = [...this._classes.children].indexOf(document.activeElement as Element);
    if (isNew || state.item === null) {
      this._id = state.item?.id ?? '';
      this._picked = new Set(state.multi ? state.suggestion?.classes ?? [] : []);
      this._note.value = '';
      this._shown = performance.now();
      this._away = 0;
      void this._showItem(state);
      this._live.textContent = state.item
        ? trans.__('Item %1 of %2', state.done + 1, state.total)
        : trans.__('All are labelled');
    }
    this._showClasses(state);
    this._showSuggestion(state);
    this._note.hidden = !state.notes || !state.item;
    this._undo.disabled = !state.canUndo;
    this._skip.disabled = !state.item;
    if (hadFocus) {
      const again = this._classes.children[at] as HTMLElement | undefined;
      (again ?? (this.node.contains(document.activeElement) ? null : this.node))?.focus({ preventScroll: true });
    }
  }

  /** How long the item has been seen. */
  seconds(): number {
    return (performance.now() - this._shown - this._away) / 1000;
  }

  /** Leave out the time for which nobody could see it. */
  visibility(isHidden: boolean): void {
    if (isHidden) {
      this._hiddenAt = performance.now();
    } else if (this._hiddenAt > 0) {
      this._away += performance.now() - Math.max(this._hiddenAt, this._shown);
      this._hiddenAt = 0;
    }
  }

  chosen(): number[] {
    return [...this._picked].sort((a, b) => a - b);
  }

  toggle(at: number): void {
    if (!this._picked.delete(at)) {
      this._picked.add(at);
    }
    this._classes.children[at]?.setAttribute('aria-pressed', String(this._picked.has(at)));
  }

  note(): string {
    return this._note.value;
  }

  focusNote(): void {
    this._note.focus();
  }

  isNote(target: HTMLElement): boolean {
    return target === this._note;
  }

  isInItem(target: HTMLElement): boolean {
    return this._item.contains(target);
  }

  toggleHelp(): void {
    this._help.hidden = !this._help.hidden;
    this._helper.setAttribute('aria-expanded', String(!this._help.hidden));
  }

  private _showHead(state: ILabelState): void {
    const { _trans: trans } = this;
    const said = [trans.__('%1 of %2', state.done, state.total)];
    if (state.skipped > 0) {
      said.push(trans.__('%1 skipped', state.skipped));
    }
    said.push(state.annotator);
    this._head.replaceChildren(el('strong', '', state.name), el('span', 'jp-nbops-Label-facts', said.join(' · ')));
    this._fill.style.width = `${state.total > 0 ? (100 * state.done) / state.total : 100}%`;
    for (const [name, value] of [['min', 0], ['max', state.total], ['now', state.done]] as const) {
      this._bar.setAttribute(`aria-value${name}`, String(value));
    }
  }

  private async _showItem(state: ILabelState): Promise<void> {
    const { _trans: trans, _rendermime: rendermime } = this;
    if (!state.item) {
      const waits = trans.__('Others are at the last %1. Run this cell again later.', state.elsewhere);
      this._item.replaceChildren(el('p', 'jp-nbops-Label-done', state.elsewhere ? waits : trans.__('✓ All are labelled')));
      return;
    }
    const data = state.item.mime;
    const kind = data && rendermime.preferredMimeType(data, 'any');
    if (!data || !kind) {
      this._item.replaceChildren(el('p', 'jp-nbops-Label-done', trans.__('This item cannot be shown: skip it.')));
      return;
    }
    const renderer = rendermime.createRenderer(kind);
    await renderer.renderModel(rendermime.createModel({ data, trusted: true }));
    if (this._id === state.item.id) {
      this._item.replaceChildren(renderer.node);
    }
  }

  private _showClasses(state: ILabelState): void {
    const buttons = state.classes.map((one, at) => {
      const made = this._button(one.key, one.label, { do: 'class', at });
      made.append(el('span', 'jp-nbops-Label-count', String(one.count)));
      made.disabled = !state.item?.mime;
      if (state.multi) {
        made.setAttribute('aria-pressed', String(this._picked.has(at)));
      }
      made.classList.toggle('jp-mod-suggested', state.suggestion?.classes.includes(at) ?? false);
      return made;
    });
    this._classes.replaceChildren(...buttons);
    const keys = state.classes.map(one => `${one.key || '–'} ${one.label}`).join(' · ');
    const enter = state.multi ? this._trans.__('toggle; Enter goes on') : this._trans.__('choose');
    const lines = [
      `${keys}: ${enter}`,
      this._trans.__('Backspace, Ctrl+Z: take the last answer back · Space, →: skip, it comes back at the end'),
      this._trans.__('Escape: leave, so that keys are the notebook’s again · ?: hide this')
    ];
    this._help.replaceChildren(...lines.map(line => el('p', '', line)));
  }

  private _showSuggestion(state: ILabelState): void {
    const { _trans: trans } = this;
    const { suggestion } = state;
    const names = suggestion?.classes.map(at => state.classes[at].label).join(', ') ?? '';
    const sure = suggestion?.confidence ? ` (${suggestion.confidence})` : '';
    const before = suggestion?.given ? trans.__('labelled %1 so far; ', suggestion.given) : '';
    this._hint.textContent = suggestion && state.item ? before + trans.__('suggested: %1', names) + sure : '';
    this._hint.hidden = this._hint.textContent === '';
    this._enter.hidden = !state.item || (!state.multi && !suggestion);
    (this._enter.lastElementChild as HTMLElement).textContent = state.multi ? trans.__('Go on') : trans.__('As suggested');
  }

  private _button(key: string, text: string, what: Asked): HTMLButtonElement {
    const made = document.createElement('button');
    made.type = 'button';
    if (key) {
      const kbd = el('kbd', '', key);
      kbd.setAttribute('aria-hidden', 'true');
      made.append(kbd);
    }
    if (what.do === 'class' && key) {
      made.setAttribute('aria-keyshortcuts', key);
    }
    made.append(el('span', '', text));
    made.addEventListener('click', event => {
      if (event.detail > 0) {
        this.node.focus({ preventScroll: true }); // by the mouse: keys go on
      }
      this._ask(what);
    });
    return made;
  }

  private readonly _head = el('div', 'jp-nbops-Label-head');
  private readonly _bar = el('div', 'jp-nbops-Label-bar');
  private readonly _fill = el('div');
  private readonly _question = el('p', 'jp-nbops-Label-question');
  private readonly _wrong = el('p', 'jp-nbops-Label-wrong');
  private readonly _item = el('div', 'jp-nbops-Label-item');
  private readonly _hint = el('p', 'jp-nbops-Label-hint');
  private readonly _classes = el('div', 'jp-nbops-Label-classes');
  private readonly _note = el('input', 'jp-nbops-Label-note') as HTMLInputElement;
  private readonly _actions = el('div', 'jp-nbops-Label-actions');
  private readonly _help = el('div', 'jp-nbops-Label-help');
  private readonly _live = el('div', 'jp-nbops-Label-live');
  private readonly _undo: HTMLButtonElement;
  private readonly _skip: HTMLButtonElement;
  private readonly _enter: HTMLButtonElement;
  private readonly _helper: HTMLButtonElement;
  private _id = '';
  private _picked = new Set<number>();
  private _shown = 0;
  private _away = 0;
  private _hiddenAt = 0;
}
