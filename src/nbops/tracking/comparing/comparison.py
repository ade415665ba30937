"""Runs side by side: what differs, how far each came, and how parameters and metrics go together. No drawing here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbops.core.display import Shown
from nbops.core.errors import not_found
from nbops.core.extras import pandas
from nbops.core.records import Run
from nbops.store.workspace import workspace
from nbops.tracking.comparing.associations import MIN_RUNS, Correlation, Importance, correlation, importance, number_of
from nbops.tracking.comparing.overlays import Curve, Overlay, overlays
from nbops.tracking.comparing.production import Production, productions
from nbops.tracking.comparing.ranking import is_more_better, ranked
from nbops.tracking.comparing.selecting import selected
from nbops.tracking.confusion import Confusion, confusion_of

MAX_CURVES = 7
_PICTURES = 4
_AXES = 7
_ASKED = 50  # so many runs are asked which model they made


class _Absent:
    """What a run has that lacks a parameter."""

    def __repr__(self) -> str:
        return "—"


ABSENT = _Absent()


@dataclass(frozen=True)
class ParamRow:
    """One parameter over all runs; `values` [runs] holds `ABSENT` where a run lacks it."""

    name: str
    values: tuple[Any, ...]
    differs: bool


@dataclass(frozen=True)
class MetricRow:
    """One metric over all runs; None where a run lacks it.

    Attributes
    ----------
    metric : str
    is_more_better : bool or None
        As its name tells; None where it tells nothing, and then `best` holds None and nobody wins.
    last, best : tuple of float or None [runs]
        Last value, and the best of all finite ones.
    last_step, best_step : tuple of int or None [runs]
        Where they were; `best_step` is known for the metrics whose points are in `Comparison.overlays`.
    winner : int or None
        Index of the run with the best last value; None for one run, or where the name tells no direction.
    """

    metric: str
    is_more_better: bool | None
    last: tuple[float | None, ...]
    best: tuple[float | None, ...]
    last_step: tuple[int | None, ...]
    best_step: tuple[int | None, ...]
    winner: int | None


@dataclass(frozen=True)
class Axis:
    """One axis of parallel coordinates: numbers, or places among `categories`; None where a run has no value."""

    name: str
    values: tuple[float | None, ...]
    categories: tuple[str, ...] = ()
    is_log: bool = False
    is_metric: bool = False


@dataclass(frozen=True)
class Parallel(Shown):
    """Runs as lines over axes; `labels` [runs] names them, `is_more_better` tells which end of the metric is good."""

    labels: tuple[str, ...]
    axes: tuple[Axis, ...]
    is_more_better: bool | None = None

    def __repr__(self) -> str:
        return f"Parallel({len(self.labels)} runs over {', '.join(axis.name for axis in self.axes)})"


@dataclass(frozen=True)
class Comparison(Shown):
    """What `nb.compare` returns.

    Attributes
    ----------
    runs : tuple of Run
    labels : tuple of str [runs]
        Their names, with the id where two share one.
    params : tuple of ParamRow
        Those that differ first; nested parameters by dotted names.
    metrics : tuple of MetricRow
        What one looks at first first.
    overlays : tuple of Overlay
        Curves of up to seven runs for each metric that has more than one point.
    parallel : Parallel or None
        Parallel coordinates: parameters that differ, then the first metric; None below three runs.
    importance : tuple of Importance
        What each parameter explains of the first metric; empty below eight runs.
    correlation : Correlation or None
        Spearman's rank correlation of numeric parameters and metrics; None below eight runs.
    confusions : tuple of (str, Confusion)
        By label, of the runs that logged one.
    production : tuple of Production
        Differences to what the models of these runs have in production.
    notes : tuple of str
        What is left out, and why.
    """

    runs: tuple[Run, ...]
    labels: tuple[str, ...]
    params: tuple[ParamRow, ...]
    metrics: tuple[MetricRow, ...]
    overlays: tuple[Overlay, ...]
    parallel: Parallel | None
    importance: tuple[Importance, ...]
    correlation: Correlation | None
    confusions: tuple[tuple[str, Confusion], ...]
    production: tuple[Production, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        differing = sum(row.differs for row in self.params)
        return f"Comparison({len(self.runs)} runs, {differing} parameters differ, {len(self.metrics)} metrics)"

    def curves(self, metric: str) -> Overlay:
        """Return the curves of one metric; `NotFound` where it has none here."""
        for overlay in self.overlays:
            if overlay.metric == metric:
                return overlay
        known = [overlay.metric for overlay in self.overlays]
        raise not_found("overlay", metric, known, hint=f"Pass metrics=['{metric}'] to nb.compare.")

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame: one row per run, columns ``params.…`` (what differs first) and ``metrics.…``."""
        pd = pandas()
        columns: dict[str, list[Any]] = {"id": [run.id for run in self.runs]}
        for row in self.params:
            columns[f"params.{row.name}"] = [None if value is ABSENT else value for value in row.values]
        for metric in self.metrics:
            columns[f"metrics.{metric.metric}"] = list(metric.last)
        return pd.DataFrame(columns, index=list(self.labels))


def compare(*runs: Any, metrics: Sequence[str] | None = None) -> Comparison:
    """Compare runs: parameters, metrics, curves, what explains what, and the difference to production.

    Parameters
    ----------
    *runs : Run, LiveRun, ModelVersion, Table, str, or a list of these
        By record, handle, id, name (the newest of that name), model reference (``digits@prod``), table of runs, or
        query (``"tags.sweep == 'a' and metrics.acc > 0.5"``); at most 1,000.
    metrics : sequence of str, optional
        What to compare, the most interesting first; by default all but those of the machine (``system/…``), held-out
        scores first.

    Raises
    ------
    NotFound
        No such run, no run that matches, or no run has such a metric.
    InvalidInput
        No run at all, a value that means none, or too many.
    QuerySyntaxError
        A query that cannot be parsed.
    """
    ws = workspace()
    ws.flush()
    found = tuple(selected(ws, runs))
    labels = _labels(found)
    names = _metrics(found, metrics)
    params = _params(found)
    notes: list[str] = []
    kept = _drawn(found, names, notes)
    pictures = names if metrics else names[:_PICTURES]
    drawn = overlays(ws, [(labels[i], found[i]) for i in kept], pictures)
    steps = {(c.run, o.metric): c for o in drawn for c in o.curves}
    rows = tuple(_metric_row(name, found, steps) for name in names)
    explained: tuple[Importance, ...] = ()
    related: Correlation | None = None
    if names and len(found) > 1:
        explained, related = _associations(found, params, rows, notes)
    sources = found if len(found) <= _ASKED else [found[i] for i in kept]
    matrices = ((labels[i], confusion_of(ws, found[i].id)) for i in kept)
    return Comparison(
        runs=found,
        labels=labels,
        params=params,
        metrics=rows,
        overlays=drawn,
        parallel=_parallel(labels, params, rows, explained),
        importance=explained,
        correlation=related,
        confusions=tuple((label, matrix) for label, matrix in matrices if matrix is not None),
        production=productions(ws, sources, found, names, notes),
        notes=tuple(notes),
    )


def _labels(runs: Sequence[Run]) -> tuple[str, ...]:
    names = [run.name for run in runs]
    return tuple(n if names.count(n) == 1 else f"{n} …{r.id[-6:]}" for n, r in zip(names, runs, strict=True))


def _metrics(runs: Sequence[Run], wished: Sequence[str] | None) -> list[str]:
    known = {name for run in runs for name in run.summary}
    if wished is None:
        return ranked({name for run in runs for name in run.metrics})
    for name in [wished] if isinstance(wished, str) else wished:
        if name not in known:
            raise not_found("metric", name, known, hint=f"Use one of: {', '.join(ranked(known)[:8]) or 'none yet'}")
    return [wished] if isinstance(wished, str) else list(dict.fromkeys(wished))


def _drawn(runs: Sequence[Run], names: Sequence[str], notes: list[str]) -> list[int]:
    """Return which runs have their curves drawn: all, or the best by the first metric."""
    if len(runs) <= MAX_CURVES:
        return list(range(len(runs)))
    more = is_more_better(names[0]) if names else None
    order = list(range(len(runs)))
    if more is not None:

        def place(i: int) -> float:
            value = runs[i].summary[names[0]].last if names[0] in runs[i].summary else math.nan
            return math.inf if math.isnan(value) else -value if more else value

        order.sort(key=place)
    best = f"the best by {names[0]}" if more is not None else "the first"
    notes.append(f"Curves and matrices: {MAX_CURVES} of {len(runs):,} runs, {best}.")
    return order[:MAX_CURVES]


def _flat(params: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _params(runs: Sequence[Run]) -> tuple[ParamRow, ...]:
    flat = [dict(_flat(run.params)) for run in runs]
    rows = []
    for name in dict.fromkeys(name for one in flat for name in one):
        values = tuple(one.get(name, ABSENT) for one in flat)
        rows.append(ParamRow(name, values, any(not _same(values[0], value) for value in values[1:])))
    return tuple(sorted(rows, key=lambda row: not row.differs))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _metric_row(name: str, runs: Sequence[Run], curves: Mapping[tuple[str, str], Curve]) -> MetricRow:
    more = is_more_better(name)
    have = [run.summary.get(name) for run in runs]
    last = tuple(None if s is None else s.last for s in have)
    best: tuple[float | None, ...] = tuple(
        None if s is None or more is None else s.max if more else s.min for s in have
    )
    at = tuple(
        None if value is None or (run.id, name) not in curves else curves[run.id, name].step_of(value)
        for run, value in zip(runs, best, strict=True)
    )
    finite = [(value, i) for i, value in enumerate(last) if value is not None and not math.isnan(value)]
    winner = None
    if more is not None and len(runs) > 1 and finite:
        winner = (max if more else min)(finite, key=lambda pair: pair[0])[1]
    return MetricRow(name, more, last, best, tuple(None if s is None else s.last_step for s in have), at, winner)


def _associations(
    runs: Sequence[Run], params: Sequence[ParamRow], rows: Sequence[MetricRow], notes: list[str]
) -> tuple[tuple[Importance, ...], Correlation | None]:
    if len(runs) < MIN_RUNS:
        notes.append(f"Too few runs to say which parameter matters: {len(runs)}, and {MIN_RUNS} are the least.")
        return (), None
    differing = {row.name: [_plain(v) for v in row.values] for row in params if row.differs}
    target = rows[0]
    found = importance(differing, target.metric, [math.nan if v is None else v for v in target.last])
    columns: dict[str, list[float]] = {}
    strongest = [item.param for item in found] + [name for name in differing if name not in {i.param for i in found}]
    for name in strongest:
        numbers = [number_of(value) for value in differing[name]]
        if all((n is None) == (v is None) for n, v in zip(numbers, differing[name], strict=True)):
            columns[name] = [math.nan if n is None else n for n in numbers]
    kept = dict(list(columns.items())[:_AXES])
    for row in rows:
        kept[row.metric] = [math.nan if v is None else v for v in row.last]
    return found, correlation(kept)


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value


def _parallel(
    labels: tuple[str, ...], params: Sequence[ParamRow], rows: Sequence[MetricRow], explained: Sequence[Importance]
) -> Parallel | None:
    """Return parallel coordinates: the parameters that explain most, then the first metric."""
    differing = [row for row in params if row.differs]
    if len(labels) < 3 or not differing or not rows:
        return None
    place = {item.param: i for i, item in enumerate(explained)}
    differing.sort(key=lambda row: place.get(row.name, len(place)))
    axes = [_axis(row.name, [_plain(v) for v in row.values]) for row in differing[:_AXES]]
    numbers = tuple(None if v is None or not math.isfinite(v) else v for v in rows[0].last)
    return Parallel(labels, (*axes, Axis(rows[0].metric, numbers, is_metric=True)), rows[0].is_more_better)


def _axis(name: str, values: Sequence[Any]) -> Axis:
    numbers = [number_of(value) for value in values]
    have = [n for n in numbers if n is not None]
    if have and all((n is None) == (v is None) for n, v in zip(numbers, values, strict=True)):
        is_log = min(have) > 0 and max(have) / min(have) >= 100
        return Axis(name, tuple(numbers), is_log=is_log)
    texts = [None if value is None else str(value) for value in values]
    categories = tuple(sorted({t for t in texts if t is not None}))
    return Axis(name, tuple(None if t is None else float(categories.index(t)) for t in texts), categories)
