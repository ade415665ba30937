"""Cards of drift: which columns changed and how, how far over time, and what stayed as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Drawing, Facts, Grid, Mono, Note, Part, Picture, chip
from nbops.view.figures import COLOURS, Figure, Line
from nbops.view.format import cut, duration, number, plural, quantity, some
from nbops.view.text import table

if TYPE_CHECKING:
    from nbops.data.drifting.bars import Bar
    from nbops.data.drifting.found import ColumnDrift, DriftReport, Multivariate

_WORST = 10  # columns shown before the others are told by their number
_LINES = 5
_NAME = 26  # columns of a name
_WIDE, _HIGH = 96, 26  # pixels of a small histogram
_BLOCKS = " ▁▂▃▄▅▆▇█"
_BLOCKS_WIDE = 9  # columns of one side
_SIGNS = {"drift": "fail", "gone": "fail", "retyped": "fail", "new": "warn", "later": "skipped", "stable": "pass"}


def show_drift(value: DriftReport) -> Bundle:
    """Draw a `DriftReport`: the verdict, the columns that drift with their histograms, then what stayed."""
    told = sorted((c for c in value.columns.values() if c.verdict not in ("stable", "later")), key=_order)
    parts: list[Part] = [_table(told, value.label)] if told else []
    if told and any(column.bars for column in told[:_WORST]):
        parts.append(Note("filled: the reference · line: the current data · effect: share of rows that moved", "dim"))
    if value.chunks:
        parts += _over_time(value)
    if value.multivariate is not None:
        parts.append(_together(value.multivariate, value.alpha))
    parts += [Note(line, "dim") for line in _rest(value)]
    facts = (f"{value.rows:,} rows against {value.reference_rows:,}", duration(value.report.duration_s))
    actions = (f'report.columns["{told[0].name}"]',) if told else ()
    return bundle(Card(value.report.name, _head(value), short_id(value.id), facts, parts=tuple(parts), actions=actions))


def _order(column: ColumnDrift) -> tuple[bool, float]:
    from nbops.data.drifting.found import excess  # views are listed without what they show

    return column.verdict == "new", -excess(column)


def _head(value: DriftReport) -> Chip:
    many, of = len(value.drifted), plural(len(value.columns), "column")
    if many:
        return chip("fail", f"{many:,} of {of} {'drifts' if many == 1 else 'drift'}")
    chunks = sum(chunk.is_drifted for chunk in value.chunks)
    if chunks:
        return chip(
            "fail", f"{chunks:,} of {plural(len(value.chunks), 'chunk')} {'drifts' if chunks == 1 else 'drift'}"
        )
    if value.multivariate is not None and value.multivariate.is_drifted:
        return chip("fail", "columns drift together")
    return chip("pass", f"no drift in {of}")


def _table(told: Sequence[ColumnDrift], label: str) -> Grid:
    rows = []
    for column in sorted(told, key=lambda one: one.name != label)[:_WORST]:
        name = cut(column.name, _NAME) + (" (label)" if column.name == label else "")
        effect = f"{_percent(column.effect)} ({_between(column.interval)})" if column.aspects else ""
        rows.append((f"{chip(_SIGNS[column.verdict]).sign} {column.verdict}", Mono(name), _drawing(column.bars), effect,
                     column.why))  # fmt: skip
    left = len(told) - len(rows)
    more = f"… and {plural(left, 'more column')}: report.drifted" if left > 0 else ""
    return Grid(
        ("", "column", "before and now", "effect (95 %)", "what changed"), tuple(rows), frozenset({3}), more=more
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _between(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.3g} to {100 * interval[1]:.3g} %"


def _drawing(bars: Sequence[Bar]) -> Drawing:
    """Return two small histograms, one over the other."""
    if not bars:
        return Drawing("", "")
    each = -(-len(bars) // _BLOCKS_WIDE)
    sides = [[bar.reference for bar in bars], [bar.current for bar in bars]]
    joined = [[sum(side[i : i + each]) for i in range(0, len(bars), each)] for side in sides]
    top = max(map(max, joined)) or 1.0
    said = "│".join("".join(_BLOCKS[round(8 * share / top)] for share in side) for side in joined)
    return Drawing(_svg(bars, _WIDE, _HIGH), said)


def _svg(bars: Sequence[Bar], wide: int, high: int) -> str:
    """Return the reference as filled bars, and the current data as a line over them."""
    top = max(max(bar.reference, bar.current) for bar in bars) or 1.0
    step = wide / len(bars)
    filled, line = "", f"M0 {high}"
    for i, bar in enumerate(bars):
        before, now = (high - 2) * bar.reference / top, (high - 2) * bar.current / top
        if before >= 0.3:
            filled += f"M{i * step:.1f} {high}v-{before:.1f}h{max(1.0, step - 1):.1f}v{before:.1f}z"
        line += f"V{high - now:.1f}h{step:.1f}"
    return (
        f'<svg style="margin:0" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" role="img" '
        f'aria-label="before and now"><path fill="var(--nb-s0,{COLOURS[0]})" opacity=".45" d="{filled}"/>'
        f'<path fill="none" stroke="var(--nb-s1,{COLOURS[1]})" stroke-width="1.4" d="{line}V{high}"/></svg>'
    )


def _over_time(value: DriftReport) -> list[Part]:
    """Return the effect of the columns that moved most, chunk by chunk, and the chunks that drift."""
    worst = sorted(value.chunks[0].effects, key=lambda name: -max(c.effects.get(name, 0.0) for c in value.chunks))
    drifting = [name for name in worst if any(name in chunk.drifted for chunk in value.chunks)]
    names = (drifting or worst)[:_LINES]
    places = list(range(len(value.chunks)))
    lines = tuple(Line(name, places, [chunk.effects[name] for chunk in value.chunks]) for name in names)
    parts: list[Part] = [Figure("effect over time", lines, x="chunk", log=False)]
    found = [(place, chunk) for place, chunk in enumerate(value.chunks) if chunk.is_drifted]
    if found:
        first = found[0]
        rows = tuple((place, chunk.label, f"{chunk.rows:,}", Mono(some(chunk.drifted, 4)),
                      quantity(max(chunk.effects[name] for name in chunk.drifted), "share"))
                     for place, chunk in found[:_WORST])  # fmt: skip
        left = len(found) - len(rows)
        more = f"… and {plural(left, 'more chunk')}: report.chunks" if left > 0 else ""
        many = f"{len(found):,} of {plural(len(value.chunks), 'chunk')} {'drifts' if len(found) == 1 else 'drift'}"
        parts.append(Note(f"{many}, the first is chunk {first[0]:,}: {first[1].label}"))
        parts.append(Grid(("chunk", "from", "rows", "columns", "effect"), rows, frozenset({0, 2, 4}), more=more))
    else:
        parts.append(Note(f"none of {plural(len(value.chunks), 'chunk')} drifts", "dim"))
    return parts


def _together(found: Multivariate, alpha: float) -> Part:
    low, high = found.interval
    says = "can" if found.is_drifted else "can hardly" if found.p <= alpha else "cannot"
    pairs = [(f"rows {says} be told apart:", f"AUC {number(round(found.auc, 3))} ({low:.3f} to {high:.3f}), "
              f"limit {number(found.limit)}")]  # fmt: skip
    return Facts("all columns together", (*pairs, *((name, f"−{loss:.3f}") for name, loss in found.drivers.items())))


def _rest(value: DriftReport) -> list[str]:
    stable = [column for column in value.columns.values() if column.verdict == "stable"]
    later = [column.name for column in value.columns.values() if column.verdict == "later"]
    lines = []
    if stable:
        many = plural(len(stable), "column")
        lines.append(f"{many} {'stays as it was' if len(stable) == 1 else 'stay as they were'}")
    if later:
        lines.append(f"not judged, since they go on where the reference ended: {some(later, 6)}")
    return [*lines, *value.notes]


def show_column(value: ColumnDrift) -> Bundle:
    """Draw one `ColumnDrift`: the bars, what was compared, and the statistics."""
    parts: list[Part] = [Note(value.why)] if value.why else []
    if value.bars:
        rows = tuple((bar.label, _percent(bar.reference), _percent(bar.current)) for bar in value.bars)
        plain = table(Grid(("value", "reference", "current"), rows, frozenset({1, 2})))
        parts.append(Picture(_svg(value.bars, 480, 110), tuple(plain)))
        ends = f"{value.bars[0].label} … {value.bars[-1].label}"
        parts.append(Note(f"{ends} · filled: the reference · line: the current data", "dim"))
    if value.aspects:
        compared = tuple(
            (f"{chip('fail' if a.is_drift else 'pass').sign} {a.name}", quantity(a.effect, "share"),
             _between(a.interval), quantity(a.limit, "share"), f"{a.p:.2g}", a.why)
            for a in value.aspects
        )  # fmt: skip
        parts.append(Grid(("compared", "effect", "95 %", "limit", "p", ""), compared, frozenset({1, 2, 3, 4})))
    if value.statistics:
        parts.append(Facts("statistics", tuple((n.replace("_", " "), number(s)) for n, s in value.statistics.items())))
    facts = (f"q {value.q:.2g}",) if value.aspects else ()
    return bundle(Card(value.name, chip(_SIGNS[value.verdict], value.verdict), value.kind, facts, parts=tuple(parts)))
