"""Cards of comparisons: tables side by side, overlaid curves, parallel coordinates, matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nbops.core.display import Bundle
from nbops.tracking.comparing.associations import METHOD, Correlation, Importance
from nbops.view import heatmaps, parallel
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Facts, Grid, Key, Note, Part, Picture
from nbops.view.figures import MAX_LINES, Figure, Line, plotly, svg
from nbops.view.format import MISSING, duration, number, plural, quantity, signed
from nbops.view.heatmaps import HeatMap

if TYPE_CHECKING:  # they bring the store along, and every renderer is loaded to show a line of help
    from nbops.tracking.comparing.comparison import Comparison, MetricRow, Parallel, ParamRow
    from nbops.tracking.comparing.overlays import Overlay
    from nbops.tracking.comparing.production import Production
    from nbops.tracking.confusion import Confusion

PLOTLY = "application/vnd.plotly.v1+json"
MAX_BYTES = 60_000
_MAX_SVG = 30_000
_SIDE_BY_SIDE = 5  # so many runs stand beside each other; more stand below each other
_MATRICES = 2
_FIGURES = 4
_ROWS = 12


def show_comparison(value: Comparison) -> Bundle:
    """Draw a `Comparison`: metrics, parameters, curves, what matters, production."""
    parts: list[Part] = [*_tables(value)]
    parts += [part for one in value.production for part in _production(one, value)]
    parts += [part for overlay in value.overlays[:_FIGURES] for part in _curves(overlay)]
    if value.parallel is not None and parallel.ordered(value.parallel):
        parts.append(_parallel(value.parallel))
    if value.importance:
        parts += _importance(value.importance)
    if value.correlation is not None:
        parts += _map(correlation_map(value.correlation))
    for label, matrix in value.confusions[:_MATRICES]:
        parts += _map(confusion_map(matrix, label))
    notes = list(value.notes)
    if len(value.confusions) > _MATRICES:
        notes.append(f"{_MATRICES} of {len(value.confusions)} confusion matrices are shown.")
    if len(value.overlays) > _FIGURES:
        notes.append(f"Curves of {_FIGURES} of {len(value.overlays)} metrics are shown; .curves(metric) has each.")
    parts += [Note(note, "dim") for note in notes]
    differing = sum(row.differs for row in value.params)
    title = " · ".join(value.labels) if len(value.labels) <= 3 else plural(len(value.runs), "run")
    facts = (f"{differing} of {len(value.params):,} parameters differ",) if len(value.runs) > 1 else ()
    return bundle(Card(title, facts=facts, keys=_keys(value), parts=tuple(parts)), limit=MAX_BYTES)


def _keys(value: Comparison) -> tuple[Key, ...]:
    """Return the best of the first metrics, and how far production is from it."""
    keys = []
    production = {d.metric: d for one in value.production[:1] for d in one.differences}
    for row in value.metrics[:4]:
        at = row.winner if row.winner is not None else 0
        last = row.last[at]
        if last is None or (row.winner is None and len(value.runs) > 1):
            continue
        note = value.labels[at] if len(value.runs) > 1 else ""
        apart = production[row.metric].differences[at] if row.metric in production else None
        if apart is not None:
            note = f"{note + ', ' if note else ''}{signed(apart)} to production"
        keys.append(Key(number(last), row.metric, note))
    return tuple(keys)


def _tables(value: Comparison) -> list[Part]:
    if len(value.runs) > _SIDE_BY_SIDE:
        return [_list(value)]
    parts: list[Part] = []
    if value.metrics:
        rows = tuple((row.metric, *(_last(row, i) for i in range(len(value.runs)))) for row in value.metrics)
        more = _more(len(rows), "metric")
        parts.append(Grid(("metric", *value.labels), rows[:_ROWS], frozenset(range(1, len(value.runs) + 1)), more=more))
    differing = [row for row in value.params if row.differs]
    if differing:
        rows = tuple((row.name, *(_value(v) for v in row.values)) for row in differing)
        parts.append(Grid(("parameter", *value.labels), rows[:_ROWS], more=_more(len(rows), "parameter")))
    same = tuple((row.name, _value(row.values[0])) for row in value.params if not row.differs)
    if same:
        parts.append(Facts("the same in all" if len(value.runs) > 1 else "params", same))
    if not value.metrics:
        parts.append(Note("None of these runs has logged a metric.", "dim"))
    return parts


def _more(count: int, noun: str) -> str:
    return f"… and {plural(count - _ROWS, noun)} more" if count > _ROWS else ""


def _last(row: MetricRow, i: int) -> str:
    """Return the last value, the mark of the best, and the best on the way where that was better."""
    last, best, step = row.last[i], row.best[i], row.best_step[i]
    if last is None:
        return MISSING
    said = f"{'★ ' if row.winner == i else ''}{number(last)}"
    if best is not None and best != last and not math.isnan(best):
        said += f" (best {number(best)}{f' at {step:,}' if step is not None else ''})"
    return said


def _value(value: Any) -> str:
    from nbops.tracking.comparing.comparison import ABSENT

    return MISSING if value is ABSENT else number(value)


def _list(value: Comparison) -> Grid:
    """Return one row per run, sorted by the first metric: metrics, then the parameters that differ."""
    metrics, order = value.metrics[:3], _best_first(value)
    params: list[ParamRow] = [row for row in value.params if row.differs]
    strongest = {item.param: i for i, item in enumerate(value.importance)}
    params.sort(key=lambda row: strongest.get(row.name, len(strongest)))
    head = ("run", *(row.metric for row in metrics), *(row.name for row in params[:4]), "duration")
    rows = tuple(
        (value.labels[i], *(_plain(row.last[i], row.winner == i) for row in metrics),
         *(_value(row.values[i]) for row in params[:4]), duration(value.runs[i].duration_s))
        for i in order
    )  # fmt: skip
    more = f"… and {len(rows) - _ROWS:,} more" if len(rows) > _ROWS else ""
    return Grid(head, rows[:_ROWS], frozenset(range(1, len(head))), 1 if metrics else -1, more)


def _best_first(value: Comparison) -> list[int]:
    """Return the runs by the last value of the first metric."""
    if not value.metrics:
        return list(range(len(value.runs)))
    first = value.metrics[0]
    sign = 1.0 if first.is_more_better is False else -1.0

    def place(i: int) -> float:
        last = first.last[i]
        return math.inf if last is None or math.isnan(last) else sign * last

    return sorted(range(len(value.runs)), key=place)


def _plain(value: float | None, is_best: bool) -> str:
    return MISSING if value is None else f"{'★ ' if is_best else ''}{number(value)}"


def _production(one: Production, value: Comparison) -> list[Part]:
    name = f"{one.version.name}@{one.alias}"
    ours = {run.id for run in value.runs}
    said = f" (run {one.run.name})" if one.run else ""
    if one.run is not None and one.run.id in ours:
        said = f", which is {value.labels[[run.id for run in value.runs].index(one.run.id)]}"
    head = Note(f"In production: {name} = {one.version.ref}{said}.")
    if not one.differences:
        return [head, Note("It has no metric in common with these runs.", "dim")]
    kept = _best_first(value)[:4] if len(value.runs) > _SIDE_BY_SIDE else range(len(value.runs))
    labels = tuple(f"{value.labels[i]} − {one.alias}" for i in kept)
    rows = tuple(
        (d.metric, number(d.production), *(_apart(d.differences[i], d.is_more_better) for i in kept))
        for d in one.differences[:_ROWS]
    )
    more = _more(len(one.differences), "metric")
    return [head, Grid(("metric", name, *labels), rows, frozenset(range(1, len(labels) + 2)), more=more)]


def _apart(value: float | None, more: bool | None) -> str:
    if value is None:
        return MISSING
    better = "" if more is None or not value or math.isnan(value) else " better" if (value > 0) == more else " worse"
    return f"{signed(value)}{better}"


def _curves(overlay: Overlay) -> list[Part]:
    return [Note(overlay.metric), figure_of(overlay)]


def figure_of(overlay: Overlay) -> Figure:
    """Return the picture of an `Overlay`: its first seven curves."""
    lines = tuple(Line(c.label, c.steps, c.values) for c in overlay.curves[:MAX_LINES] if len(c.steps))
    return Figure(overlay.metric, lines)


def show_overlay(value: Overlay) -> Bundle:
    """Draw an `Overlay`: plotly's JSON for interaction, SVG and HTML without it, blocks in text."""
    figure = figure_of(value)
    found = bundle(Card(value.metric, facts=(plural(len(value.curves), "run"),), parts=(figure,)))
    if figure.lines:
        found[PLOTLY] = plotly(figure)
        _with_svg(found, svg(figure, alone=True))
    return found


def _parallel(value: Parallel) -> Picture:
    return Picture(parallel.svg(value), tuple(parallel.lines(value)))


def show_parallel(value: Parallel) -> Bundle:
    """Draw a `Parallel`: one line per run over parameters and the metric."""
    drawn = parallel.ordered(value)
    if not drawn:
        return bundle(Card("parallel coordinates", parts=(Note("None of these runs has the metric.", "dim"),)))
    shown = (f"{len(drawn)} shown",) if len(drawn) < len(value.labels) else ()
    card = Card(plural(len(value.labels), "run"), facts=shown, parts=(_parallel(value),))
    found = bundle(card, limit=_MAX_SVG)
    found[PLOTLY] = parallel.plotly(value)
    _with_svg(found, parallel.svg(value, alone=True))
    return found


def _importance(items: tuple[Importance, ...]) -> list[Part]:
    rows = tuple(
        (item.param, quantity(item.share, "share"), _direction(item), item.method, item.n) for item in items[:_ROWS]
    )
    head = ("parameter", "explains", f"{items[0].metric} goes", "method", "runs")
    more = _more(len(items), "parameter")
    return [Grid(head, rows, frozenset({1, 4}), 1, more), Note(f"{METHOD} Each alone; no cause is proved.", "dim")]


def _direction(item: Importance) -> str:
    if item.rho is None or abs(item.rho) < 0.1:
        return "by category" if item.rho is None else "neither way"
    return f"{'up' if item.rho > 0 else 'down'} with it (ρ {number(item.rho)})"


def correlation_map(value: Correlation) -> HeatMap:
    """Return the heat map of a `Correlation`."""
    words = tuple(tuple("" if math.isnan(v) else f"{v:.2f}" for v in row) for row in value.matrix)
    note = f"Spearman's ρ over {plural(value.n, 'run')}"
    return HeatMap("rank correlation", value.names, value.names, value.matrix, words, note=note, is_signed=True)


def show_correlation(value: Correlation) -> Bundle:
    """Draw a `Correlation` as a heat map."""
    return _map_bundle(correlation_map(value))


def confusion_map(value: Confusion, label: str = "") -> HeatMap:
    """Return the heat map of a `Confusion`; shares of each true label. Of many labels, those most mixed up."""
    wrong = [sum(row) - row[i] + sum(other[i] for other in value.counts) - row[i] for i, row in enumerate(value.counts)]
    kept = sorted(sorted(range(len(wrong)), key=lambda i: -wrong[i])[: heatmaps.MAX_CELLS])
    shares = tuple(
        tuple(value.counts[i][j] / total if total else math.nan for j in kept)
        for i in kept
        for total in (sum(value.counts[i]),)
    )
    words = tuple(tuple(f"{value.counts[i][j]:,}" if value.counts[i][j] else "" for j in kept) for i in kept)
    names = tuple(value.labels[i] for i in kept)
    shown = f", {len(kept)} of {len(wrong)} labels (most mixed up)" if len(kept) < len(wrong) else ""
    title = f"confusion of {label}" if label else "confusion matrix"
    note = f"accuracy {number(value.accuracy)} of {value.total:,}{shown}"
    return HeatMap(title, names, names, shares, words, note=note, x="predicted", y="true", said=_mixed_up(value))


def _mixed_up(value: Confusion) -> tuple[str, ...]:
    cells = [(count, i, j) for i, row in enumerate(value.counts) for j, count in enumerate(row) if i != j and count]
    cells.sort(reverse=True)
    said = ", ".join(f"{value.labels[i]} taken for {value.labels[j]} {count:,}×" for count, i, j in cells[:5])
    return (f"most mixed up: {said}",) if said else ()


def show_confusion(value: Confusion) -> Bundle:
    """Draw a `Confusion` as a heat map."""
    if not value.total:
        return bundle(Card("confusion matrix", parts=(Note("It holds no prediction.", "dim"),)))
    return _map_bundle(confusion_map(value))


def _map_bundle(heat: HeatMap) -> Bundle:
    found = bundle(Card(heat.title, facts=(heat.note,), parts=(_picture(heat),)), limit=_MAX_SVG + 10_000)
    found[PLOTLY] = heatmaps.plotly(heat)
    _with_svg(found, heatmaps.svg(heat, alone=True))
    return found


def _map(heat: HeatMap) -> list[Part]:
    return [Note(f"{heat.title}: {heat.note}"), _picture(heat)]


def _picture(heat: HeatMap) -> Picture:
    return Picture(heatmaps.svg(heat), tuple(heat.lines()))


def _with_svg(found: Bundle, drawn: str) -> None:
    if drawn and len(drawn.encode()) <= _MAX_SVG:
        found["image/svg+xml"] = drawn
