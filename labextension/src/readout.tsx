// What stands beside a chart's title: the values at a step, and the cell that logged them.

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { isSameCell } from './cells';
import { formatNumber } from './format';
import { CellLink } from './jumps';
import { ISeries } from './model';
import { IReading, readingsAt } from './readings';

/** Return how a chart's place for a notice is called. */
export function chartPlace(title: string): string {
  return `chart:${title}`;
}

interface IReadoutProps {
  title: string;
  series: ISeries[];
  step: number | null;
  trans: TranslationBundle;
}

/** The values under the pointer, or the last ones. */
export function Readout(props: IReadoutProps): JSX.Element {
  const { series, step, trans } = props;
  const readings = readingsAt(series, step);
  const known = readings.filter((one): one is IReading => one !== null);
  const isOne = known.every(one => isSameCell(one.cell, known[0].cell));
  return (
    <span className="jp-nbops-Readout">
      {readings.map(
        (one, i) =>
          one && (
            <span key={one.metric} title={one.metric}>
              {step !== null && one === known[0] && (
                <span className="jp-nbops-dim">{trans.__('step %1:', one.step.toLocaleString('en-US'))} </span>
              )}
              {series.length > 1 && <i className="jp-nbops-Swatch" data-series={i} />}
              {formatNumber(one.value)}
              {one.cell && (!isOne || one === known[known.length - 1]) && (
                <>
                  <span className="jp-nbops-dim"> · </span>
                  <CellLink place={chartPlace(props.title)} cell={one.cell} isShort={!isOne} />
                </>
              )}
            </span>
          )
      )}
    </span>
  );
}
