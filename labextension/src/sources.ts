// A cell's source as it was kept and as it is now: whether they are the same, and which lines changed. Pure.

/** What is kept of a source. */
export interface IKept {
  source: string;
  /** Whether that is all of it; else secrets were taken out or, where `is_cut`, its end is missing. */
  is_whole: boolean;
  is_cut: boolean;
}

/** A line: as it was (`-`), as it is (`+`), unchanged (` `); or a gap (`…`), in which nothing changed. */
export interface ILine {
  mark: '-' | '+' | ' ' | '…';
  text: string;
}

type Alike = (i: number, j: number) => boolean;

const SECRET = /["']?\[redacted\]["']?/;
const MOST_PAIRS = 4_000_000;

/** Return whether a cell is what it was, as far as that was kept. */
export function isSameSource(then: IKept, now: string): boolean {
  return then.is_whole ? then.source === now : difference(then, now).every(line => line.mark === ' ');
}

/** Return the lines that changed with up to `around` before and after, and gaps for what is between. */
export function changedLines(then: IKept, now: string, around = 2): ILine[] {
  const all = difference(then, now);
  const isNear = (at: number): boolean =>
    all.slice(Math.max(0, at - around), at + around + 1).some(line => line.mark !== ' ');
  const out: ILine[] = [];
  all.forEach((line, i) => {
    if (isNear(i)) {
      out.push(line);
    } else if (out.length === 0 || out[out.length - 1].mark !== '…') {
      out.push({ mark: '…', text: '' });
    }
  });
  return out;
}

/** Return a source as lines of which none changed. */
export function plainLines(source: string): ILine[] {
  return source.split('\n').map(text => ({ mark: ' ', text }));
}

/** Return all lines of both, in order; of a line that only differs in a secret, what was kept. */
function difference(then: IKept, now: string): ILine[] {
  const before = then.source.split('\n');
  const after = now.split('\n');
  if (then.is_cut) {
    before.pop(); // it may be half a line
  }
  const kept = before.map(line => (then.is_whole ? [line] : line.split(SECRET)));
  const alike: Alike = (i, j) => before[i] === after[j] || (kept[i].length > 1 && joins(kept[i], after[j]));
  const lines = steps(before.length, after.length, alike).map(
    ([mark, i]): ILine => ({ mark, text: mark === '+' ? after[i] : before[i] })
  );
  let more = then.is_cut ? after.length - before.length : 0;
  while (more-- > 0 && lines[lines.length - 1]?.mark === '+') {
    lines.pop(); // what followed was not kept
  }
  return lines;
}

/** Return whether a line consists of all parts, in order, with something between each two. */
function joins(parts: string[], line: string): boolean {
  const last = parts.length - 1;
  if (!line.startsWith(parts[0]) || !line.endsWith(parts[last])) {
    return false;
  }
  let end = parts[0].length;
  for (const part of parts.slice(1, last)) {
    const at = line.indexOf(part, end + 1);
    if (at < 0) {
      return false;
    }
    end = at + part.length;
  }
  return end + 1 + parts[last].length <= line.length;
}

type Step = ['-' | '+' | ' ', number];

/** Return the shortest way from `n` lines to `m` others: what goes (index of the first) and comes (of the second). */
function steps(n: number, m: number, alike: Alike): Step[] {
  let head = 0;
  while (head < Math.min(n, m) && alike(head, head)) {
    head += 1;
  }
  let tail = 0;
  while (tail < Math.min(n, m) - head && alike(n - 1 - tail, m - 1 - tail)) {
    tail += 1;
  }
  const out: Step[] = [];
  for (let i = 0; i < head; i++) {
    out.push([' ', i]);
  }
  out.push(...middle(head, n - tail, m - tail, alike));
  for (let i = n - tail; i < n; i++) {
    out.push([' ', i]);
  }
  return out;
}

/** Return the way between `from` and the ends, by the longest common subsequence. */
function middle(from: number, n: number, m: number, alike: Alike): Step[] {
  const [rows, columns] = [n - from, m - from];
  // so many lines are not compared one by one: all of them count as changed
  const compared = rows * columns <= MOST_PAIRS;
  const longest = compared ? lengths(rows, columns, (i, j) => alike(from + i, from + j)) : null;
  const out: Step[] = [];
  let [i, j] = [0, 0];
  while (i < rows || j < columns) {
    if (longest && i < rows && j < columns && alike(from + i, from + j)) {
      out.push([' ', from + i]);
      i += 1;
      j += 1;
    } else if (i < rows && (j === columns || !longest || longest[i + 1][j] >= longest[i][j + 1])) {
      out.push(['-', from + i]);
      i += 1;
    } else {
      out.push(['+', from + j]);
      j += 1;
    }
  }
  return out;
}

/** Return the length of the longest common subsequence of what is left from each pair of places on. */
function lengths(rows: number, columns: number, alike: Alike): Uint32Array[] {
  const table = Array.from({ length: rows + 1 }, () => new Uint32Array(columns + 1));
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      table[i][j] = alike(i, j) ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    }
  }
  return table;
}
