// Which key means what while one labels. Pure.

/** What a key asks for: a class by its index, or one of the rest; `keep` is a key that nobody else may have. */
export type Asked = { do: 'class'; at: number } | { do: 'enter' | 'skip' | 'undo' | 'note' | 'help' | 'leave' | 'keep' };

export interface IKey {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
}

/**
 * Return what a key asks for; null for one that is the application's: with Ctrl, Alt or Meta, Tab, F5, arrows up and down.
 *
 * A letter that chooses nothing is kept all the same: in a notebook it would cut or delete the cell.
 */
export function asked(event: IKey, keys: string[], hasNotes: boolean): Asked | null {
  const { key } = event;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && key.toLowerCase() === 'z') {
    return { do: 'undo' };
  }
  if (event.ctrlKey || event.metaKey || event.altKey) {
    return null;
  }
  if (key === 'Enter') {
    return event.shiftKey ? null : { do: 'enter' };
  }
  const named: Record<string, Asked> = {
    Backspace: { do: 'undo' },
    ' ': { do: 'skip' },
    ArrowRight: { do: 'skip' },
    '?': { do: 'help' },
    Escape: { do: 'leave' }
  };
  if (named[key]) {
    return named[key];
  }
  if (key.length !== 1) {
    return key === 'Delete' ? { do: 'keep' } : null;
  }
  const at = keys.indexOf(key.toLowerCase());
  if (at >= 0) {
    return { do: 'class', at };
  }
  return key.toLowerCase() === 'n' && hasNotes ? { do: 'note' } : { do: 'keep' };
}
