// From a point, a cell or an error to its cell in the notebook; where that is not possible, what to say instead.

import { TranslationBundle } from '@jupyterlab/translation';

import { Fault, toFault } from './api';
import { ICellRef, cellName, recordOf } from './cells';
import { IRunDetail, IWholeCell } from './model';
import { IFoundCell, Opened } from './notebooks';
import { ILine, changedLines, isSameSource, plainLines } from './sources';
import { ITools } from './tools';

/** What is said in the page instead of, or before, going to a cell. */
export interface INotice {
  text: string;
  hint: string;
  /** The source as it was, with what changed. */
  lines: ILine[];
  /** The cell as it is now and as it was, where one can go there all the same. */
  found: IFoundCell | null;
  kept: IWholeCell | null;
  /** Where a tab has to be opened by hand. */
  address: string;
  fault: Fault | null;
}

const NOTHING = { hint: '', lines: [], found: null, kept: null, address: '', fault: null };

/** Return what the page calls a cell: `cell [7]`. */
export function cellWords(trans: TranslationBundle, run: IRunDetail, ref: ICellRef): string {
  return trans.__('cell %1', cellName(run.cells, ref, run.status === 'RUNNING'));
}

/** Go to a cell if it is there and what it was; else return what to say. */
export async function seekCell(tools: ITools, run: IRunDetail, ref: ICellRef): Promise<INotice | null> {
  const { trans } = tools;
  const kept = await keptCell(tools, run, ref);
  const found = await tools.notebooks.find(run.notebook, ref.cellId, kept?.source ?? null);
  if (typeof found === 'string') {
    return absent(trans, run.notebook, found, kept);
  }
  if (kept && !isSameSource(kept, found.source)) {
    return {
      ...NOTHING,
      text: trans.__('%1 of %2 has changed since it ran.', capital(cellWords(trans, run, ref)), nameOf(found.path)),
      hint: trans.__('− as it ran, + as it is now'),
      lines: changedLines(kept, found.source),
      found,
      kept
    };
  }
  return await openCell(tools, found, kept);
}

/** Return what to say of a way that broke off. */
export function brokenOff(error: unknown): INotice {
  const fault = toFault(error);
  return { ...NOTHING, text: fault.message, fault };
}

/** Go to a cell as it is now; return what to say where that is not possible. */
export async function openCell(tools: ITools, found: IFoundCell, kept: IWholeCell | null): Promise<INotice | null> {
  const opened: Opened = await tools.notebooks.open(found.path, found.id);
  const { trans } = tools;
  switch (opened) {
    case 'shown':
      return null;
    case 'blocked':
      return {
        ...NOTHING,
        text: trans.__('The browser did not open the tab of the notebook.'),
        address: tools.notebooks.address(found.path, found.id)
      };
    case 'unable':
      return { ...NOTHING, text: trans.__('Notebooks cannot be opened here.'), ...asItRan(trans, kept) };
    default:
      return absent(trans, found.path, opened, kept);
  }
}

function absent(
  trans: TranslationBundle,
  path: string | null,
  missing: 'notebook' | 'cell',
  kept: IWholeCell | null
): INotice {
  const text =
    path === null
      ? trans.__('The notebook does not lie in the folder of this server.')
      : missing === 'cell'
        ? trans.__('%1 does not have this cell now.', nameOf(path))
        : trans.__('%1 is not there any more; if it was renamed, open it and try again.', nameOf(path));
  return { ...NOTHING, text, ...asItRan(trans, kept) };
}

function asItRan(trans: TranslationBundle, kept: IWholeCell | null): { hint: string; lines: ILine[] } {
  if (kept === null) {
    return { hint: trans.__('Its source is not recorded.'), lines: [] };
  }
  const hint = kept.is_cut ? trans.__('As it ran; the rest is not recorded:') : trans.__('As it ran:');
  return { hint, lines: plainLines(kept.source) };
}

/** Return the record of a cell with all that is kept of its source; null while there is none. */
async function keptCell(tools: ITools, run: IRunDetail, ref: ICellRef): Promise<IWholeCell | null> {
  const record = recordOf(run.cells, ref);
  if (!record && ref.execution === '') {
    return null;
  }
  const asked: Record<string, string> = record ? { id: record.id } : { execution: ref.execution };
  const path = `runs/${encodeURIComponent(run.id)}/cells`;
  const { cells } = await tools.api.get<{ cells: IWholeCell[] }>(path, asked);
  return cells[0] ?? null;
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
