// One chart of one or more metrics: our own small SVG, so that it follows the theme and costs no library.

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICellRef } from './cells';
import { cutMiddle, formatNumber } from './format';
import { IJumps, Jumps } from './jumps';
import { ISeries } from './model';
import { useSize } from './parts';
import { IPlace, cellAt, inWords, stepAfterKey } from './readings';
import { Readout, chartPlace } from './readout';
import { cellWords } from './seeking';
import { IScale, asksForLog, extent, joinMarks, logTicks, nearest, pathOf, scale, spread, stepTicks, tickLabels, ticks } from './plot';

const HEIGHT = 190;
const MARGIN = { top: 10, bottom: 22, left: 50 };
const LABEL_CHARS = 16;
const CHAR_PX = 6.4;

interface IChartProps {
  title: string;
  series: ISeries[];
  trans: TranslationBundle;
}

export function Chart(props: IChartProps): JSX.Element {
  const { trans, title } = props;
  const box = React.useRef<HTMLDivElement>(null);
  const { width } = useSize(box);
  const [log, setLog] = React.useState(false);
  const [at, setAt] = React.useState<IPlace | null>(null);
  const canLog = asksForLog(allValues(props.series));
  return (
    <figure className="jp-nbops-Chart" data-metric={title}>
      <figcaption>
        <b title={title}>{cutMiddle(title, 36)}</b>
        <Readout title={title} series={props.series} step={at?.step ?? null} trans={trans} />
        {canLog && (
          <button className="jp-nbops-Link" aria-pressed={log} onClick={() => setLog(!log)}>
            {trans.__('log scale')}
          </button>
        )}
      </figcaption>
      <div ref={box} className="jp-nbops-Chart-box" style={{ height: HEIGHT }}>
        {width > 80 && <Plot {...props} width={width} log={log && canLog} at={at} onAt={setAt} />}
      </div>
    </figure>
  );
}

function* allValues(series: ISeries[]): Iterable<number | null> {
  for (const one of series) {
    yield* one.values;
  }
}

function* allSteps(series: ISeries[]): Iterable<number> {
  for (const one of series) {
    yield* one.steps;
  }
}

interface IPlotProps extends IChartProps {
  width: number;
  log: boolean;
  at: IPlace | null;
  onAt: (at: IPlace | null) => void;
}

function Plot(props: IPlotProps): JSX.Element {
  const { series, width, trans } = props;
  const named = series.length > 1;
  const labels = series.map(one => (named ? cutMiddle(one.metric, LABEL_CHARS) : ''));
  const right = named ? 12 + CHAR_PX * Math.max(...labels.map(label => label.length)) : 14;
  const steps = extent(allSteps(series)) ?? [0, 1];
  const values = extent(allValues(series), props.log) ?? [0, 1];
  const x = scale(steps[0], steps[1], MARGIN.left, Math.max(MARGIN.left + 40, width - right));
  const y = padded(values, props.log);
  const at = props.at?.step ?? null;
  const jumps = React.useContext(Jumps);
  return (
    <svg
      width={width}
      height={HEIGHT}
      role="slider"
      tabIndex={0}
      aria-label={describe(props)}
      aria-valuemin={steps[0]}
      aria-valuemax={steps[1]}
      aria-valuenow={at ?? steps[1]}
      aria-valuetext={inWords(series, at, trans, cell => (jumps ? cellWords(trans, jumps.run, cell) : ''))}
      {...pointing(props, jumps, x, y)}
    >
      <Axes x={x} y={y} width={width} />
      {series.map((one, i) => (
        <g key={one.metric} data-series={i} className="jp-nbops-Line">
          <path d={pathOf(one.steps, one.values, x, y)} />
          <Marks series={one} x={x} trans={trans} />
        </g>
      ))}
      {named && <EndLabels series={series} labels={labels} x={x} y={y} />}
      {at !== null && <Pointer series={series} at={at} x={x} y={y} />}
    </svg>
  );
}

type Pointing = Pick<
  React.SVGProps<SVGSVGElement>,
  'onPointerMove' | 'onPointerLeave' | 'onClick' | 'onKeyDown'
>;

/** Return what pointer and keys do: they choose a step; a click or Enter goes to the cell that logged it. */
function pointing(props: IPlotProps, jumps: IJumps | null, x: IScale, y: IScale): Pointing {
  const { series, at, onAt } = props;
  const go = (cell: ICellRef | null): void => {
    if (cell) {
      jumps?.go(chartPlace(props.title), cell);
    }
  };
  const stepUnder = (event: React.MouseEvent<SVGSVGElement>): number => {
    const px = event.clientX - event.currentTarget.getBoundingClientRect().left;
    const share = (px - MARGIN.left) / (x.map(x.hi) - MARGIN.left);
    return x.lo + Math.min(1, Math.max(0, share)) * (x.hi - x.lo);
  };
  return {
    onPointerMove: event => onAt({ step: stepUnder(event), isPinned: false }),
    onPointerLeave: () => {
      if (!at?.isPinned) {
        onAt(null);
      }
    },
    onClick: event => {
      const step = stepUnder(event);
      const py = event.clientY - event.currentTarget.getBoundingClientRect().top;
      onAt({ step, isPinned: true });
      go(cellAt(series, step, value => Math.abs(y.map(value) - py)));
    },
    onKeyDown: event => {
      if (event.key === 'Enter' || event.key === ' ') {
        event.preventDefault();
        go(cellAt(series, at?.step ?? x.hi));
      } else if (event.key === 'Escape') {
        onAt(null);
      } else {
        const step = stepAfterKey(series, at?.step ?? null, event.key);
        if (step !== null) {
          event.preventDefault();
          onAt({ step, isPinned: true });
        }
      }
    }
  };
}

function padded(values: [number, number], log: boolean): IScale {
  const bottom = HEIGHT - MARGIN.bottom;
  if (log || values[0] === values[1]) {
    return scale(values[0], values[1], bottom, MARGIN.top, log);
  }
  const room = (values[1] / 2 - values[0] / 2) * 0.08;
  // an axis that nearly reaches zero does reach it
  const lo = values[0] >= 0 && values[0] - room < 0 ? 0 : values[0] - room;
  return scale(lo, values[1] + room, bottom, MARGIN.top);
}

function describe(props: IChartProps): string {
  return props.series
    .map(one => {
      const range = extent(one.values);
      const last = one.values.length ? one.values[one.values.length - 1] : null;
      const text = range
        ? props.trans.__(
            '%1: from %2 to %3, last %4, %5 points',
            one.metric,
            formatNumber(range[0]),
            formatNumber(range[1]),
            formatNumber(last ?? 'NaN'),
            one.count.toLocaleString('en-US')
          )
        : props.trans.__('%1: no finite point', one.metric);
      return one.nonfinite ? `${text}, ${props.trans.__('%1 not finite', one.nonfinite)}` : text;
    })
    .join('; ');
}

function Axes(props: { x: IScale; y: IScale; width: number }): JSX.Element {
  const { x, y } = props;
  const right = x.map(x.hi);
  const bottom = HEIGHT - MARGIN.bottom;
  const rows = y.log ? logTicks(y.lo, y.hi, 4) : ticks(y.lo, y.hi, 4);
  const labels = tickLabels(rows, formatNumber);
  const columns = stepTicks(x.lo, x.hi, Math.max(2, Math.floor(props.width / 90)));
  return (
    <g className="jp-nbops-Axes" aria-hidden="true">
      {rows.map((value, i) => (
        <g key={value}>
          <line x1={MARGIN.left} x2={right} y1={y.map(value)} y2={y.map(value)} />
          <text x={MARGIN.left - 8} y={y.map(value) + 4} textAnchor="end">
            {labels[i]}
          </text>
        </g>
      ))}
      {columns.map(step => (
        <text key={step} x={x.map(step)} y={bottom + 16} textAnchor="middle">
          {formatNumber(step)}
        </text>
      ))}
    </g>
  );
}

/** A cross at the foot of the chart where the metric ceased to be finite, and a bar as long as that lasted. */
function Marks(props: { series: ISeries; x: IScale; trans: TranslationBundle }): JSX.Element {
  const { series, x } = props;
  const y = HEIGHT - MARGIN.bottom - 6;
  return (
    <g className="jp-nbops-Marks">
      {joinMarks(series.marks, x, 4).map(({ from, to, what }, i) => {
        const px = x.map(from);
        const nearEnd = px > x.map(x.hi) - 40;
        return (
          <g key={from}>
            <title>{markTitle(props.trans, series.metric, what, from, to)}</title>
            <rect x={px} y={y - 1.5} width={x.map(to) - px} height={3} />
            <path d={`M${px - 3},${y - 3}l6,6m0,-6l-6,6`} />
            {i === 0 && (
              <text x={nearEnd ? px - 7 : px - 3} y={nearEnd ? y + 3.5 : y - 8} textAnchor={nearEnd ? 'end' : 'start'}>
                {what}
              </text>
            )}
          </g>
        );
      })}
    </g>
  );
}

function markTitle(trans: TranslationBundle, metric: string, what: string, from: number, to: number): string {
  const [first, last] = [from.toLocaleString('en-US'), to.toLocaleString('en-US')];
  return from === to
    ? trans.__('%1 is %2 at step %3', metric, what, first)
    : trans.__('%1 is %2 from step %3 to %4', metric, what, first, last);
}

function EndLabels(props: { series: ISeries[]; labels: string[]; x: IScale; y: IScale }): JSX.Element {
  const { series, x, y } = props;
  const ends = series.map(one => {
    for (let i = one.values.length - 1; i >= 0; i--) {
      const value = one.values[i];
      if (value !== null && (!y.log || value > 0)) {
        return y.map(value);
      }
    }
    return y.map(y.lo);
  });
  const places = spread(ends, 13, MARGIN.top, HEIGHT - MARGIN.bottom);
  return (
    <g className="jp-nbops-EndLabels" aria-hidden="true">
      {series.map((one, i) => (
        <text key={one.metric} x={x.map(x.hi) + 8} y={places[i] + 4} data-series={i}>
          <title>{one.metric}</title>
          {props.labels[i]}
        </text>
      ))}
    </g>
  );
}

function Pointer(props: { series: ISeries[]; at: number; x: IScale; y: IScale }): JSX.Element {
  const { series, x, y } = props;
  return (
    <g className="jp-nbops-Pointer" aria-hidden="true">
      {series.map((one, i) => {
        const index = nearest(one.steps, props.at);
        const value = index < 0 ? null : one.values[index];
        if (index < 0) {
          return null;
        }
        const px = x.map(one.steps[index]);
        return (
          <g key={one.metric} data-series={i}>
            {i === 0 && <line x1={px} x2={px} y1={MARGIN.top} y2={HEIGHT - MARGIN.bottom} />}
            {value !== null && (!y.log || value > 0) && <circle cx={px} cy={y.map(value)} r={3} />}
          </g>
        );
      })}
    </g>
  );
}
