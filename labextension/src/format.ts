// Numbers, times and names as text. Pure: no DOM, no React, no translation (units are symbols).

/** A value as the server sends it: non-finite numbers travel as text, because JSON has none. */
export type Value = number | string | null | undefined;

/** Return the number behind a sent value; NaN when there is none. */
export function toNumber(value: Value): number {
  if (typeof value === 'number') {
    return value;
  }
  if (value === 'Infinity') {
    return Infinity;
  }
  return value === '-Infinity' ? -Infinity : NaN;
}

/** Return a number with about four significant digits and thousands separated. */
export function formatNumber(value: Value): string {
  if (value === null || value === undefined) {
    return '–';
  }
  const v = toNumber(value);
  if (Number.isNaN(v)) {
    return 'NaN';
  }
  if (!Number.isFinite(v)) {
    return v > 0 ? '∞' : '−∞';
  }
  const size = Math.abs(v);
  if (Number.isInteger(v) && size < 1e7) {
    return minus(v.toLocaleString('en-US'));
  }
  if (size >= 1e7 || size < 1e-4) {
    return minus(v.toExponential(2).replace('e+', 'e'));
  }
  if (size >= 1000) {
    return minus(v.toLocaleString('en-US', { maximumFractionDigits: 0 }));
  }
  return minus(v.toPrecision(4).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, ''));
}

function minus(text: string): string {
  return text.replace(/-/g, '−');
}

/** Return how long ago: `now`, `12 s`, `5 min`, `3 h`, `2 d`, `6 w`, `3 y`. */
export function formatAge(seconds: number): string {
  if (!(seconds >= 1)) {
    return 'now';
  }
  const steps: [number, string][] = [
    [60, 's'],
    [60, 'min'],
    [24, 'h'],
    [7, 'd'],
    [52, 'w']
  ];
  let value = seconds;
  for (const [limit, unit] of steps) {
    if (value < limit) {
      return `${Math.floor(value)} ${unit}`;
    }
    value /= limit;
  }
  return `${Math.floor(value)} y`;
}

/** Return a duration: `84 ms`, `1.2 s`, `2 min 14 s`, `3 h 05 min`, `2 d 4 h`. */
export function formatDuration(seconds: Value): string {
  const s = toNumber(seconds);
  if (Number.isNaN(s)) {
    return '–';
  }
  if (s < 0.9995) {
    return `${Math.round(s * 1000)} ms`;
  }
  if (s < 59.95) {
    return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  }
  const whole = Math.round(s);
  if (whole < 3600) {
    return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  }
  if (whole < 86400) {
    return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  }
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

/** Return a size in decimal units: `812 B`, `3.4 kB`, `1.2 GB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toPrecision(2)} ${units[unit]}`;
}

/** Cut a long text in the middle, so that both ends stay readable. */
export function cutMiddle(text: string, max: number): string {
  if (text.length <= max) {
    return text;
  }
  const head = Math.ceil((max - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (max - 1 - head))}`;
}

/** Return the short form of an id: its prefix and its last six characters. */
export function shortId(id: string): string {
  const at = id.lastIndexOf('_');
  return id.length - at > 9 ? `${id.slice(0, at + 1)}…${id.slice(-6)}` : id;
}

/** Return any stored value on one line. */
export function formatValue(value: unknown): string {
  if (typeof value === 'number') {
    return formatNumber(value);
  }
  if (typeof value === 'string') {
    return value;
  }
  return value === undefined ? '–' : JSON.stringify(value);
}

/** Return the first line of a cell that says something: no blank line, no comment unless there is nothing else. */
export function firstLine(source: string): string {
  const lines = source.split('\n').map(line => line.trim());
  return lines.find(line => line !== '' && !line.startsWith('#')) ?? lines.find(line => line !== '') ?? '';
}
