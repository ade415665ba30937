// What a chart says at one of its steps: the values, and the cells that logged them. Pure.

import { TranslationBundle } from '@jupyterlab/translation';

import { ICellRef, cellOfPoint } from './cells';
import { Value, formatNumber } from './format';
import { ISeries } from './model';
import { nearest } from './plot';

/** Where on the axis of steps somebody looks; what is pinned stays when the pointer leaves. */
export interface IPlace {
  step: number;
  isPinned: boolean;
}

export interface IReading {
  metric: string;
  step: number;
  value: Value;
  cell: ICellRef | null;
}

/** Return the point of each series that is nearest to a step, or its last one; null of a series without any. */
export function readingsAt(series: ISeries[], step: number | null): (IReading | null)[] {
  return series.map(one => {
    const index = step === null ? one.steps.length - 1 : nearest(one.steps, step);
    if (index < 0) {
      return null;
    }
    // one mark stands for all that are not finite in its pixel column
    const mark = one.marks.filter(([at]) => at <= one.steps[index]).pop();
    const value = one.values[index] ?? mark?.[1];
    return { metric: one.metric, step: one.steps[index], value, cell: cellOfPoint(one, index) };
  });
}

/** Return the step that a key leads to, from point to point of the longest series; null for other keys. */
export function stepAfterKey(series: ISeries[], step: number | null, key: string): number | null {
  const steps = series.reduce<number[]>((best, one) => (one.steps.length > best.length ? one.steps : best), []);
  const last = steps.length - 1;
  const index = step === null ? last : nearest(steps, step);
  const page = Math.max(1, Math.round(last / 10));
  const ways: Record<string, number> = {
    ArrowLeft: index - 1,
    ArrowDown: index - 1,
    ArrowRight: index + 1,
    ArrowUp: index + 1,
    PageDown: index - page,
    PageUp: index + page,
    Home: 0,
    End: last
  };
  return key in ways && last >= 0 ? steps[Math.min(last, Math.max(0, ways[key]))] : null;
}

/** Return the values at a step in words, for those who do not see the chart; `nameOf` names a cell. */
export function inWords(
  series: ISeries[],
  step: number | null,
  trans: TranslationBundle,
  nameOf: (cell: ICellRef) => string
): string {
  const shown = readingsAt(series, step).filter((one): one is IReading => one !== null);
  const parts = shown.map(one => `${one.metric} ${formatNumber(one.value)}`);
  const names = new Set(shown.flatMap(one => (one.cell ? [nameOf(one.cell)] : [])));
  return shown.length === 0 ? trans.__('no points') : trans.__('step %1: %2', shown[0].step, [...parts, ...names].join(', '));
}

/** Return the cell that logged the point at a step; of several series, of the one whose point is the nearest. */
export function cellAt(
  series: ISeries[],
  step: number,
  distance: (value: number) => number = () => 0
): ICellRef | null {
  let best: { cell: ICellRef; away: number } | null = null;
  for (const one of series) {
    const index = nearest(one.steps, step);
    const cell = index < 0 ? null : cellOfPoint(one, index);
    const value = index < 0 ? null : one.values[index];
    const away = value === null ? Infinity : distance(value);
    if (cell && (!best || away < best.away)) {
      best = { cell, away };
    }
  }
  return best?.cell ?? null;
}
