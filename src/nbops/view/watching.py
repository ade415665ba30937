"""The figure of a watched training: loss, four heat maps of layers over steps, and what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbops.core.display import Bundle
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Key, Note, Part, Picture, Section, chip
from nbops.view.debugging import IN_FULL, place, ranked, sentence, watch_chip, when
from nbops.view.figures import Figure, Line
from nbops.view.format import cut, number, plural, text
from nbops.view.rasters import raster

if TYPE_CHECKING:
    from nbops.debugging.live.figure import WatchFigure

MAX_BYTES = 60_000
_PANELS = (
    ("grad_rms", "gradient rms", True), ("update_ratio", "update ratio", True),
    ("dead_share", "dead share", False), ("saturated_share", "saturated share", False),
)  # fmt: skip
_WIDE, _APART = 385, 405


def show_watch_figure(value: WatchFigure) -> Bundle:
    """Draw a `WatchFigure`: loss over steps, quantities of layers over measured steps, findings in brief."""
    found = ranked(one for one in value.diagnoses if one.status != "muted")
    parts: list[Part] = []
    curves = [(name if len(value.curves) > 1 else "loss", points) for name, points in value.curves if points]
    lines = [Line(name, [step for step, _ in points], [loss for _, loss in points]) for name, points in curves]
    if lines:
        parts.append(Figure("loss", tuple(lines)))
    parts += _maps(value)
    if value.of_layers > len(value.layers):
        parts.append(Note(f"{len(value.layers)} of {value.of_layers:,} layers are drawn.", "dim"))
    parts += _found(found)
    silent = sum(one.status == "muted" for one in value.diagnoses)
    if silent:
        parts.append(Note(f"{plural(silent, 'finding')} muted.", "dim"))
    parts += [Note(note, "dim") for note in value.notes]
    facts = [plural(value.steps, "step"), f"{value.sampled:,} measured"]
    facts += [f"watching takes {number(round(value.cost * 100, 1))} %"] if value.cost is not None else []
    actions = (f"nbops watch-control {value.run_id} pause",) if value.is_running and value.run_id else ()
    state = Chip("●", "training", "live") if value.is_running and not found else watch_chip(value, found)
    card = Card(text(value.name), state, "", tuple(facts), _keys(value), tuple(parts), actions)
    return bundle(card, limit=MAX_BYTES)


def _keys(value: WatchFigure) -> tuple[Key, ...]:
    keys = [
        Key(number(points[-1][1]), name if len(value.curves) > 1 else "loss", f"at first {number(points[0][1])}")
        for name, points in value.curves[:2] if points
    ]  # fmt: skip
    for what, title, _ in _PANELS[:2]:
        _, rows = value.matrix(what)
        last = [row[-1] for row in rows if row[-1] is not None]
        if last:
            keys.append(Key(number(max(last)), title, "largest of the layers"))
    return tuple(keys)


def _maps(value: WatchFigure) -> list[Part]:
    drawn: list[str] = []
    said: list[str] = []
    top = height = 0
    ends = (f"step {value.columns[0].step:,}", f"{value.columns[-1].step:,}") if value.columns else ("", "")
    for what, title, is_log in _PANELS:
        names, rows = value.matrix(what)
        if not rows or (not is_log and not any(v for row in rows for v in row)):
            continue
        column = len(drawn) % 2
        top = top if column else height
        group, high = raster(title, names, rows, ends, is_log=is_log, at=(_APART * column, top), width=_WIDE)
        drawn.append(group)
        height = max(height, top + high)
        said.append(_said(title, names, rows))
    if not drawn:
        return []
    label = "Heat maps of layers over steps"
    picture = (f'<svg viewBox="0 0 790 {height}" width="790" height="{height}" role="img" aria-label="{label}">'
               f"{''.join(drawn)}</svg>")  # fmt: skip
    return [Picture(picture, tuple(said))]


def _said(title: str, names: tuple[str, ...], rows: list[list[float | None]]) -> str:
    """Return the range of a quantity in the last column that has it, with the layers at its ends."""
    last = [(next(v for v in reversed(row) if v is not None), name) for name, row in zip(names, rows, strict=True)]
    (low, lowest), (high, highest) = min(last), max(last)
    if low == high:
        return f"{title}: {number(low)}"
    first, last_one = (cut(text(place(name)), 40) for name in (lowest, highest))
    return f"{title}: {number(low)} in {first} to {number(high)} in {last_one}"


def _found(found: list[Any]) -> list[Part]:
    parts: list[Part] = []
    for one in found[:IN_FULL]:
        parts.append(Section(one.name, chip(one.status), (when(one.step), place(one.layer))))
        parts.append(Note(f"{sentence(one.what)}. {one.fix}"))
    if len(found) > IN_FULL:
        parts.append(Note(f"{plural(len(found) - IN_FULL, 'finding')} more: show the watch itself.", "dim"))
    return parts
