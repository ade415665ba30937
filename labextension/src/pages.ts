// A long list of which only some pages are known. Keeps what is shown while fresher rows are fetched. Pure.

import { IPage } from './model';

export type Fetch<T> = (offset: number, limit: number, background: boolean) => Promise<IPage<T>>;

export class PagedList<T> {
  constructor(
    private readonly _fetch: Fetch<T>,
    private readonly _changed: () => void,
    readonly size = 200
  ) {}

  /** How many rows there are in all; null before the first answer. */
  get total(): number | null {
    return this._total;
  }

  get error(): unknown {
    return this._error;
  }

  /** Whether an answer is on its way. */
  get loading(): boolean {
    return this._pending.size > 0;
  }

  row(index: number): T | undefined {
    return this._pages.get(Math.floor(index / this.size))?.[index % this.size];
  }

  /** Return where the row that passes `test` is among the known ones, the nearest to `near` first; -1 if nowhere. */
  find(test: (row: T) => boolean, near: number): number {
    let best = -1;
    for (const [page, rows] of this._pages) {
      rows.forEach((row, i) => {
        const index = page * this.size + i;
        if (test(row) && (best < 0 || Math.abs(index - near) < Math.abs(best - near))) {
          best = index;
        }
      });
    }
    return best;
  }

  /** Ask for the pages at these offsets, unless they are known or on their way. */
  need(offsets: number[]): void {
    this._wanted = offsets.length > 0 ? offsets : [0];
    for (const offset of this._wanted) {
      const page = offset / this.size;
      if (!this._pages.has(page) && !this._pending.has(page)) {
        void this._load(page, false);
      }
    }
  }

  /** Fetch again what is shown now, and forget the rest. Calls during a refresh are joined to one more. */
  async refresh(background = true): Promise<void> {
    if (this._refreshing) {
      this._again = true;
      return;
    }
    this._refreshing = true;
    try {
      do {
        this._again = false;
        const pages = this._wanted.map(offset => offset / this.size);
        for (const page of [...this._pages.keys()]) {
          if (!pages.includes(page)) {
            this._pages.delete(page);
          }
        }
        await Promise.all(pages.map(page => this._load(page, background)));
      } while (this._again);
    } finally {
      this._refreshing = false;
    }
  }

  /** Ask another question from the top; the rows of the old one stay until the answer is there. */
  async restart(): Promise<void> {
    this._generation += 1;
    this._pending.clear();
    this._wanted = [0];
    this._stale = true;
    await this._load(0, false);
  }

  private async _load(page: number, background: boolean): Promise<void> {
    const generation = this._generation;
    this._pending.add(page);
    try {
      const answer = await this._fetch(page * this.size, this.size, background);
      if (generation !== this._generation) {
        return;
      }
      if (this._stale) {
        this._pages.clear();
        this._stale = false;
      }
      this._total = answer.total;
      this._pages.set(page, answer.rows);
      this._error = null;
    } catch (error) {
      if (generation !== this._generation) {
        return;
      }
      this._error = error;
    } finally {
      if (generation === this._generation) {
        this._pending.delete(page);
      }
    }
    this._changed();
  }

  private readonly _pages = new Map<number, T[]>();
  private readonly _pending = new Set<number>();
  private _wanted: number[] = [0];
  private _total: number | null = null;
  private _error: unknown = null;
  private _generation = 0;
  private _stale = false;
  private _refreshing = false;
  private _again = false;
}
