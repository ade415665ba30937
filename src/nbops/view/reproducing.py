"""Cards of what the notebook of a run tells: whether it would come out again, whether it did, and how two differ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Code, Grid, Mono, Note, Part, chip
from nbops.view.format import MISSING, cell, number, plural

_CELLS, _LINES = 6, 14  # changed cells that are shown, and lines of each
_VERDICTS = {True: ("pass", "reproducible"), False: ("fail", "not reproducible"), None: ("skipped", "not known")}


def show_reproducibility(value: Any) -> Bundle:
    """Draw a `Reproducibility`: the verdict, its reasons, and what it rests on."""
    state, word = _VERDICTS[value.verdict]
    parts: list[Part] = []
    if value.findings:
        rows = tuple((cell(f.cell_id) or MISSING, Mono(f.rule), f.text) for f in value.findings)
        parts.append(Grid(("cell", "rule", "why"), rows))
    elif value.verdict:
        parts.append(Note("Nothing in the recorded cells speaks against the same result from top to bottom."))
    parts += [Note(note, "dim") for note in value.notes]
    actions = () if value.verdict is None else (f"%mlops verify {short_id(value.run.id)}",)
    return bundle(Card(value.run.name, chip(state, word), short_id(value.run.id), parts=tuple(parts), actions=actions))


def show_verification(value: Any) -> Bundle:
    """Draw a `Verification`: the verdict, why it is so, and each metric as it was and as it is."""
    parts: list[Part] = [Note(reason, "bad") for reason in value.reasons]
    shown = value.differences or [c for c in value.compared if c.what == "last"]
    if shown:
        rows = tuple((c.metric, c.what, number(c.before), number(c.after), chip("ok" if c.is_same else "fail",
                      "same" if c.is_same else "differs")) for c in shown)  # fmt: skip
        parts.append(Grid(("metric", "", "was", "is", ""), rows, frozenset({2, 3})))
    elif not value.reasons:
        parts.append(Note("The notebook ran through; the run logged no metrics to compare.", "dim"))
    state = chip("pass", "came out again") if value.verdict else chip("fail", "came out otherwise")
    facts = (f"executed as {short_id(value.again.id)}",)
    return bundle(Card(value.run.name, state, short_id(value.run.id), facts, parts=tuple(parts)))


def show_difference(value: Any) -> Bundle:
    """Draw a `Difference`: changed cells first, then what differs in parameters, environment, data and metrics."""
    a, b = value.a, value.b
    parts: list[Part] = []
    for one in value.changed_cells[:_CELLS]:
        parts.append(Note(f"{cell(one.cell_id) or 'cell'}, {one.change}"))
        lines = one.lines
        more = [f"… {plural(len(lines) - _LINES, 'more line')}"] if len(lines) > _LINES else []
        parts.append(Code("\n".join([*lines[:_LINES], *more])))
    left_out = len(value.changed_cells) - _CELLS
    if left_out > 0:
        parts.append(Note(f"… and {plural(left_out, 'more changed cell')}", "dim"))
    for title in ("params", "metrics", "data", "environment"):
        parts += _sides(title, getattr(value, title), a.name, b.name)
    if value.is_same:
        parts.append(Note("In what is recorded of the two runs, nothing differs."))
    same = sum(side.is_same for side in value.sides) + len(value.cells) - len(value.changed_cells)
    if same:
        parts.append(Note(f"{plural(same, 'thing')} alike", "dim"))
    facts = (f"{short_id(a.id)} → {short_id(b.id)}",)
    return bundle(Card(f"{a.name} → {b.name}", facts=facts, parts=tuple(parts)))


def _sides(title: str, sides: Iterable[Any], a: str, b: str) -> list[Part]:
    rows = tuple((side.name, number(side.a), number(side.b)) for side in sides if not side.is_same)
    if not rows:
        return []
    heads = (a, b) if a != b else ("first", "second")
    return [Grid((title, *heads), rows, frozenset({1, 2}) if title in ("params", "metrics") else frozenset())]
