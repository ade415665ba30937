// What a watched training can be asked, and what its answers mean in words. Pure.

/** One watch of a run. */
export interface IWatch {
  id: string;
  name: string;
  model: string;
  status: 'open' | 'paused' | 'closed';
  /** The step before which it waits, or of the last change. */
  step: number | null;
  /** Why it is paused. */
  note: string;
  actor: string;
  lr: number | null;
}

export interface IChange {
  step: number;
  what: string;
  before: unknown;
  after: unknown;
  by: string;
}

/** Something that was asked of the training. */
export interface ICommand {
  id: string;
  name: string;
  value: number | null;
  status: 'pending' | 'applied' | 'refused' | 'withdrawn';
  actor: string;
  created_at: number;
  step: number | null;
  note: string;
}

/** How the watches of a run stand. */
export interface IControl {
  /** Whether the run is open and a watch listens. */
  heard: boolean;
  /** Whether whoever looks may give commands. */
  may: boolean;
  watches: IWatch[];
  changes: IChange[];
  /** The newest first. */
  commands: ICommand[];
}

/** How long a command may wait before the page says that nobody has answered. */
export const PATIENCE_S = 5;

type Words = (text: string, ...values: (string | number)[]) => string;

/** Return the watch that waits, else the newest that listens, or null. */
export function activeWatch(control: IControl): IWatch | null {
  const listening = control.watches.filter(watch => watch.status !== 'closed');
  return listening.find(watch => watch.status === 'paused') ?? listening[listening.length - 1] ?? null;
}

/** Return the newest command, if it still waits. */
export function waiting(control: IControl): ICommand | null {
  const newest = control.commands[0];
  return newest && newest.status === 'pending' ? newest : null;
}

/** Which buttons can be pressed now. */
export interface IOffer {
  pause: boolean;
  resume: boolean;
  stop: boolean;
  rate: boolean;
}

export function offer(control: IControl): IOffer {
  const watch = control.heard && control.may ? activeWatch(control) : null;
  const asked = waiting(control)?.name;
  return {
    pause: watch?.status === 'open' && asked !== 'pause' && asked !== 'stop',
    resume: watch?.status === 'paused' && asked !== 'resume' && asked !== 'stop',
    stop: watch !== null && asked !== 'stop',
    rate: watch !== null && asked !== 'stop'
  };
}

/** Return one sentence: what the training does, or what became of the last command. `age` is how long that waits, in seconds. */
export function sentence(control: IControl, age: number, __: Words): string {
  const asked = waiting(control);
  const newest = control.commands[0];
  if (asked && !control.heard) {
    return __('“%1” was not carried out: the run has ended, or nothing listens any more.', named(asked, __));
  }
  if (asked && age >= PATIENCE_S) {
    return __('Nobody has answered yet: “%1” is carried out before the next step.', named(asked, __));
  }
  if (asked) {
    return __('“%1” was sent; waiting for the next step …', named(asked, __));
  }
  if (newest?.status === 'refused') {
    return __('“%1” was refused: %2.', named(newest, __), newest.note);
  }
  const watch = activeWatch(control);
  if (watch?.status === 'paused') {
    const where = __('Paused before step %1: %2.', String(watch.step), watch.note);
    return watch.lr === null ? where : `${where} ${__('Learning rate: %1.', String(watch.lr))}`;
  }
  const last = control.changes[control.changes.length - 1];
  return last ? changed(last, __) : __('Watched: %1.', watch?.model ?? '');
}

/** Return what was changed, in words. */
export function changed(change: IChange, __: Words): string {
  const step = String(change.step);
  if (change.what === 'lr') {
    return __('Learning rate %1 before step %2, by %3.', String(change.after), step, change.by);
  }
  const words: Record<string, string> = {
    pause: __('Paused before step %1, by %2.', step, change.by),
    resume: __('Continued before step %1, by %2.', step, change.by),
    step: __('Took step %1, by %2.', step, change.by),
    stop: __('Stopped before step %1, by %2.', step, change.by)
  };
  return words[change.what] ?? __('%1 before step %2, by %3.', change.what, step, change.by);
}

function named(command: ICommand, __: Words): string {
  const names: Record<string, string> = {
    pause: __('Pause'),
    resume: __('Continue'),
    stop: __('Stop'),
    'set-lr': __('Learning rate %1', String(command.value))
  };
  return names[command.name] ?? command.name;
}

/** Return the learning rate that somebody typed, or null if it is none. */
export function rateOf(text: string): number | null {
  const value = Number(text.trim().replace(',', '.'));
  return text.trim() !== '' && Number.isFinite(value) && value >= 0 ? value : null;
}
