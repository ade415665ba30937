// The arithmetic of a line chart: scales, round ticks, paths with gaps, labels that do not collide. Pure.

export interface IScale {
  lo: number;
  hi: number;
  log: boolean;
  map(value: number): number;
}

/** Return the smallest and the largest finite value; null if there is none. */
export function extent(values: Iterable<number | null>, positive = false): [number, number] | null {
  let lo = Infinity;
  let hi = -Infinity;
  for (const value of values) {
    if (value !== null && Number.isFinite(value) && (!positive || value > 0)) {
      lo = Math.min(lo, value);
      hi = Math.max(hi, value);
    }
  }
  return lo <= hi ? [lo, hi] : null;
}

/** Return a scale from [lo, hi] to pixels [from, to]; a range of nothing is widened. */
export function scale(lo: number, hi: number, from: number, to: number, log = false): IScale {
  if (lo === hi) {
    const room = log ? 1 : Math.abs(lo) * 0.1 || 1;
    [lo, hi] = log ? [lo / 2, hi * 2] : [lo - room, hi + room];
  }
  const a = log ? Math.log10(lo) : lo;
  const b = log ? Math.log10(hi) : hi;
  const map = (value: number): number => {
    const at = log ? Math.log10(value) : value;
    // halves first, so that the difference of two huge values does not overflow
    return from + ((at / 2 - a / 2) / (b / 2 - a / 2)) * (to - from);
  };
  return { lo, hi, log, map };
}

/** Return about `count` round numbers within [lo, hi]: steps of 1, 2, 2.5 or 5 times a power of ten. */
export function ticks(lo: number, hi: number, count: number): number[] {
  if (!(hi > lo) || !Number.isFinite(hi - lo)) {
    return Number.isFinite(lo) ? [lo] : [];
  }
  const raw = (hi - lo) / Math.max(1, count);
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw * 0.999) ?? 10 * power;
  const out: number[] = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++) {
    out.push(Number((i * step).toPrecision(12)));
  }
  return out;
}

/** Return whole steps within [lo, hi], for an axis that counts. */
export function stepTicks(lo: number, hi: number, count: number): number[] {
  return ticks(lo, hi, count).filter(Number.isInteger);
}

/** Return powers of ten within [lo, hi], thinned to about `count`; round numbers when no two fit. */
export function logTicks(lo: number, hi: number, count: number): number[] {
  const first = Math.ceil(Math.log10(lo) - 1e-9);
  const last = Math.floor(Math.log10(hi) + 1e-9);
  if (last - first < 1) {
    return ticks(lo, hi, count);
  }
  const every = Math.max(1, Math.ceil((last - first + 1) / Math.max(1, count)));
  const out: number[] = [];
  for (let power = first; power <= last; power += every) {
    out.push(Number(`1e${power}`));
  }
  return out;
}

/** Return labels for ticks with equally many decimals: `2.0`, `2.5`, `3.0`. */
export function tickLabels(values: number[], format: (value: number) => string): string[] {
  const plain = values.map(value => format(value));
  if (plain.some(text => !/^−?\d+(\.\d+)?$/.test(text))) {
    return plain;
  }
  const decimals = Math.max(...plain.map(text => (text.split('.')[1] ?? '').length));
  return values.map(value => (value < 0 ? '−' : '') + Math.abs(value).toFixed(decimals));
}

/** Marks that touch each other on the screen, as one: where it begins and ends, and what it is. */
export interface ISpan {
  from: number;
  to: number;
  what: string;
}

/** Join marks of one sort that are at most `gap` pixels apart. */
export function joinMarks(marks: [number, string][], x: IScale, gap: number): ISpan[] {
  const spans: ISpan[] = [];
  for (const [step, what] of marks) {
    const last = spans[spans.length - 1];
    if (last && last.what === what && x.map(step) - x.map(last.to) <= gap) {
      last.to = step;
    } else {
      spans.push({ from: step, to: step, what });
    }
  }
  return spans;
}

/** Return whether a logarithmic axis would show more: all positive and over a factor of a hundred. */
export function asksForLog(values: Iterable<number | null>): boolean {
  const all = extent(values);
  return all !== null && all[0] > 0 && all[1] / all[0] > 100;
}

/** Return an SVG path; a null value (or one that the scale cannot show) leaves a gap, a lone point a dot. */
export function pathOf(steps: number[], values: (number | null)[], x: IScale, y: IScale): string {
  const parts: string[] = [];
  let run = 0;
  let lone = '';
  const finish = (): void => {
    if (run === 1) {
      parts.push(`M${lone}h0`); // zero-length with round caps: a dot
    }
    run = 0;
  };
  for (let i = 0; i < steps.length; i++) {
    const value = values[i];
    if (value === null || !Number.isFinite(value) || (y.log && value <= 0)) {
      finish();
      continue;
    }
    const at = `${x.map(steps[i]).toFixed(1)},${y.map(value).toFixed(1)}`;
    if (run === 0) {
      lone = at;
    } else {
      parts.push(run === 1 ? `M${lone}L${at}` : at);
    }
    run += 1;
  }
  finish();
  return parts.join(' ');
}

/** Return the index of the value in an ascending list that is nearest to `x`; -1 if it is empty. */
export function nearest(sorted: number[], x: number): number {
  let lo = 0;
  let hi = sorted.length - 1;
  while (lo < hi) {
    const middle = (lo + hi) >> 1;
    if (sorted[middle] < x) {
      lo = middle + 1;
    } else {
      hi = middle;
    }
  }
  return lo > 0 && x - sorted[lo - 1] <= sorted[lo] - x ? lo - 1 : sorted.length === 0 ? -1 : lo;
}

/** Return label positions moved apart to at least `gap`, kept in order and within [lo, hi] where they fit. */
export function spread(positions: number[], gap: number, lo: number, hi: number): number[] {
  const order = positions.map((y, i) => ({ y, i })).sort((a, b) => a.y - b.y);
  let floor = lo;
  for (const item of order) {
    item.y = Math.max(item.y, floor);
    floor = item.y + gap;
  }
  let ceiling = hi;
  for (const item of order.reverse()) {
    item.y = Math.min(item.y, ceiling);
    ceiling = item.y - gap;
  }
  const out = new Array<number>(positions.length);
  order.forEach(item => (out[item.i] = item.y));
  return out;
}
