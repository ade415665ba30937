// Which rows of a long list are in the DOM, which pages they need, where the cursor goes. Pure.

export interface IRange {
  first: number;
  last: number; // exclusive
}

/** Return the rows that are visible, with `overscan` more at both ends. */
export function visibleRange(
  scrollTop: number,
  height: number,
  rowHeight: number,
  total: number,
  overscan = 6
): IRange {
  const first = Math.floor(scrollTop / rowHeight) - overscan;
  const last = Math.ceil((scrollTop + height) / rowHeight) + overscan;
  const end = Math.min(total, Math.max(0, last));
  return { first: Math.max(0, Math.min(first, end)), last: end };
}

/** Return the offsets of the pages of `size` rows that cover a range. */
export function pagesFor(range: IRange, size: number): number[] {
  const offsets: number[] = [];
  for (let offset = Math.floor(range.first / size) * size; offset < range.last; offset += size) {
    offsets.push(offset);
  }
  return offsets;
}

/** Return the scroll position, as near as possible to the present one, that shows row `index` whole. */
export function scrollToShow(index: number, scrollTop: number, height: number, rowHeight: number): number {
  const top = index * rowHeight;
  if (top < scrollTop) {
    return top;
  }
  return Math.max(scrollTop, top + rowHeight - height);
}

/** Return where a key moves the cursor, or null if the key is none of ours. */
export function moveCursor(key: string, current: number, total: number, pageRows: number): number | null {
  const moves: Record<string, number> = {
    ArrowDown: current + 1,
    ArrowUp: current - 1,
    PageDown: current + Math.max(1, pageRows - 1),
    PageUp: current - Math.max(1, pageRows - 1),
    Home: 0,
    End: total - 1
  };
  if (!(key in moves) || total === 0) {
    return null;
  }
  return Math.min(total - 1, Math.max(0, moves[key]));
}
