// Which metrics share a chart: the same quantity, measured on different data. Pure.

const SPLITS = ['train', 'training', 'valid', 'validation', 'val', 'test', 'eval', 'dev'];
const PREFIX = new RegExp(`^(${SPLITS.join('|')})[_/. -](.+)$`);
const SUFFIX = new RegExp(`^(.+)[_/. -](${SPLITS.join('|')})$`);

export interface IGroup {
  title: string;
  metrics: string[];
}

/** Return the quantity that a metric measures: `val_loss`, `loss/test` and `loss` give `loss`. */
export function quantityOf(metric: string): string {
  return PREFIX.exec(metric)?.[2] ?? SUFFIX.exec(metric)?.[1] ?? metric;
}

/** Return charts in the order in which their first metric appears; at most `most` lines each. */
export function groupMetrics(metrics: string[], most = 7): IGroup[] {
  const groups = new Map<string, string[]>();
  for (const metric of metrics) {
    const title = quantityOf(metric);
    groups.set(title, [...(groups.get(title) ?? []), metric]);
  }
  const charts: IGroup[] = [];
  for (const [title, members] of groups) {
    // the plain name first: it has the first colour in every chart
    members.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
    for (let i = 0; i < members.length; i += most) {
      charts.push({ title: members.length === 1 ? members[0] : title, metrics: members.slice(i, i + most) });
    }
  }
  return charts;
}

/** What nbops measures by itself, beside what the user logs. */
const BY_NBOPS = /^(system|watch)\//;

/**
 * Return the metrics to show first in a row: those that are wished for, then the others as they come.
 * What nbops measures by itself is left out where the user logged anything, unless it is wished for.
 */
export function pickMetrics<T>(metrics: [string, T][], wished: string[], most: number): [string, T][] {
  const rank = (name: string): number => {
    const at = wished.indexOf(name);
    return at < 0 ? wished.length : at;
  };
  const logged = metrics.filter(([name]) => wished.includes(name) || !BY_NBOPS.test(name));
  const ordered = (logged.length ? logged : metrics).map((entry, i) => ({ entry, i }));
  ordered.sort((a, b) => rank(a.entry[0]) - rank(b.entry[0]) || a.i - b.i);
  return ordered.slice(0, most).map(item => item.entry);
}
