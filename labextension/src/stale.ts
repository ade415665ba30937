// Which cells of a notebook get a badge, in which words, and which cells their button runs. Pure.

/** A cell whose data has moved on, as the server tells it. */
export interface IStaleCell {
  cell_id: string;
  /** Of the execution that made the output. */
  execution_count: number | null;
  why: string;
  /** Name of a dataset, the version that the output was made from, the newest one. */
  moved: [string, number, number][];
  /** Cells to run first. */
  after: string[];
}

export interface IStaleness {
  /** How many cells are known to be made from data. */
  followed: number;
  cells: IStaleCell[];
}

/** A cell as the notebook has it now. */
export interface IShownCell {
  id: string;
  /** What stands beside it; null if it shows no finished execution. */
  count: number | null;
}

/**
 * Return the badges by the id of their cell.
 *
 * What a cell shows must be what the record tells of: a cell that was cleared, runs now, or ran again in a kernel that
 * does not record shows something else.
 */
export function badgesOf(cells: IShownCell[], told: IStaleCell[]): Map<string, IStaleCell> {
  const found = new Map<string, IStaleCell>();
  const byId = new Map(told.map(one => [one.cell_id, one]));
  for (const { id, count } of cells) {
    const stale = byId.get(id);
    if (stale && count !== null && (stale.execution_count === null || stale.execution_count === count)) {
      found.set(id, stale);
    }
  }
  return found;
}

/** Return the ids of the cells that make some stale ones new, in the order of the notebook. */
export function cellsToRun(order: string[], wanted: IStaleCell[]): string[] {
  const all = new Set(wanted.flatMap(one => [...one.after, one.cell_id]));
  return order.filter(id => all.has(id));
}

/** Return whether a change may make cells stale or new. */
export function concernsData(subjects: string[] | null): boolean {
  return subjects === null || subjects.some(id => id.startsWith('ds_') || id.startsWith('use_'));
}
