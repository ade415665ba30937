// Which execution of which cell made something, and what the notebook calls it. Pure.

import { ICell, IFailure, ISeries } from './model';

/** One execution of a cell, as far as it is known; empty texts are not. */
export interface ICellRef {
  cellId: string;
  execution: string;
  /** Id of its record. */
  record: string;
}

/** Return the cell that logged the point at an index of a series; null outside a notebook. */
export function cellOfPoint(series: ISeries, index: number): ICellRef | null {
  for (let i = series.cells.length - 1; i >= 0; i--) {
    const [step, cellId, execution] = series.cells[i];
    if (step <= series.steps[index]) {
      return cellId === '' ? null : { cellId, execution, record: '' };
    }
  }
  return null;
}

export function cellOfRecord(cell: ICell): ICellRef {
  return { cellId: cell.cell_id, execution: cell.execution, record: cell.id };
}

/** Return the cell that raised an error, as its newest record that failed; null if no cell did. */
export function cellOfFailure(cells: ICell[], error: IFailure): ICellRef | null {
  if (error.cell_id === null) {
    return null;
  }
  const failed = cells.filter(cell => cell.cell_id === error.cell_id && cell.error !== null).pop();
  return failed ? cellOfRecord(failed) : { cellId: error.cell_id, execution: '', record: '' };
}

/**
 * Return the record of an execution.
 *
 * Where records or what is asked for know of no executions (a pipeline's step runs each cell once), it is
 * the newest one of the cell.
 */
export function recordOf(cells: ICell[], ref: ICellRef): ICell | undefined {
  const exact = cells.find(cell =>
    ref.record !== '' ? cell.id === ref.record : ref.execution !== '' && cell.execution === ref.execution
  );
  const alike = (cell: ICell): boolean =>
    cell.cell_id === ref.cellId && (ref.execution === '' || cell.execution === '');
  return exact ?? (ref.record === '' ? cells.filter(alike).pop() : undefined);
}

const UNCOUNTED: Record<string, string> = { running: '[*]', pending: '[ ]' };

/** Return what stands beside the cell in the notebook: `[7]`, `[*]` while it runs; else the beginning of its id. */
export function cellName(cells: ICell[], ref: ICellRef, isRunning: boolean): string {
  const record = recordOf(cells, ref);
  if (record && record.execution_count !== null) {
    return `[${record.execution_count}]`;
  }
  // of a cell that runs, a step has a record; elsewhere it is written when the cell has ended
  const status = record?.status ?? (isRunning && ref.execution !== '' ? 'running' : '');
  return UNCOUNTED[status] ?? ref.cellId.slice(0, 8);
}

/** Return whether two things were made by the same execution; also where neither was made by any. */
export function isSameCell(a: ICellRef | null, b: ICellRef | null): boolean {
  return a?.cellId === b?.cellId && a?.execution === b?.execution && a?.record === b?.record;
}
