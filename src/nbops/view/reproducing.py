"""Cards of what makes a run come out again: its seed, the verdict on its cells, a second execution, what differs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Code, Facts, Grid, Mono, Note, Part, Picture, Section, chip
from nbops.view.format import MISSING, cell, number, plural, text
from nbops.view.rasters import raster

_ROWS, _COLUMNS, _WIDE = 40, 200, 560  # layers and steps that are drawn, and pixels for them
_CELLS, _LINES = 6, 14  # changed cells that are shown, and lines of each
_VERDICTS = {True: ("pass", "reproducible"), False: ("fail", "not reproducible"), None: ("skipped", "not known")}


def show_seeded(value: Any) -> Bundle:
    """Draw a `Seeded`: what was seeded and set, what was not, and where the seed is kept."""
    parts: list[Part] = [Facts("seeded", tuple((name, "") for name in value.generators))]
    parts += [Note(line) for line in value.settings]
    parts += [Note(f"Not seeded: {line}", "warn") for line in value.left_out]
    if value.run is None:
        parts.append(Note("No run is open: those that open from now on have it in their context.", "dim"))
    facts = () if value.run is None else (f"a parameter of {short_id(value.run)}",)
    return bundle(Card(f"seed {value.value}", chip("pass", "set"), facts=facts, parts=tuple(parts)))


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


def show_fingerprint(value: Any) -> Bundle:
    """Draw a `Fingerprint`: the hash over all, and each of the six with what it was made of."""
    rows = tuple((part.name, Mono(part.digest[:16]), part.of or "nothing is recorded") for part in value.parts)
    parts: list[Part] = [Grid(("part", "sha256", "of"), rows)]
    if value.hardware:
        parts.append(Note(f"Ran on {value.hardware}, which is in no hash.", "dim"))
    if value.run.status == "RUNNING":
        parts.append(Note("The run is not over: this is of what it has so far.", "warn"))
    facts = (f"fingerprint {value.digest[:16]}",)
    return bundle(Card(value.run.name, None, short_id(value.run.id), facts, parts=tuple(parts)))


def show_difference(value: Any) -> Bundle:
    """Draw a `Difference`: which of the six differ, changed cells, then parameters, metrics, data and environment."""
    a, b = value.a, value.b
    alike = [name for name in value.fingerprints[0].digests if name not in value.differing]
    parts: list[Part] = []
    if value.differing:
        said = f"Differs: {', '.join(value.differing)}."
        parts.append(Note(f"{said} Alike: {', '.join(alike)}." if alike else said))
    for one in value.changed_cells[:_CELLS]:
        parts.append(Note(f"{cell(one.cell_id) or 'cell'}, {one.change}"))
        lines = one.lines
        more = [f"… {plural(len(lines) - _LINES, 'more line')}"] if len(lines) > _LINES else []
        parts.append(Code("\n".join([*lines[:_LINES], *more])))
    left_out = len(value.changed_cells) - _CELLS
    if left_out > 0:
        parts.append(Note(f"… and {plural(left_out, 'more changed cell')}", "dim"))
    for one in value.layers:
        parts += _layers(one, several=len(value.layers) > 1)
    for title in ("params", "metrics", "data", "environment"):
        parts += _sides(title, getattr(value, title), a.name, b.name)
    if value.is_same:
        parts.append(Note("In what is recorded of the two runs, nothing differs."))
    same = sum(side.is_same for side in value.sides) + len(value.cells) - len(value.changed_cells)
    if same:
        parts.append(Note(f"{plural(same, 'thing')} alike", "dim"))
    facts = (f"{short_id(a.id)} → {short_id(b.id)}",)
    return bundle(Card(f"{a.name} → {b.name}", facts=facts, parts=tuple(parts)))


def _layers(value: Any, *, several: bool) -> list[Part]:
    """Return where the layers of two watched trainings part, in words and as layers over steps."""
    title = f"layers of {text(value.name)}" if several else "layers"
    said = value.lines()
    state = chip("pass", "alike") if value.is_same else chip("warn", "part" if value.partings else "not compared")
    parts: list[Part] = [Section(title, state), Note(said[0]), *(Note(line, "dim") for line in said[1:])]
    if value.is_equal or not len(value.steps):
        return parts
    rows = _spread(len(value.layers), _ROWS, first=value.first)
    across = _spread(len(value.steps), _COLUMNS)
    cells = [[None if math.isnan(value.differences[i][j]) else float(value.differences[i][j]) for j in across]
             for i in rows]  # fmt: skip
    ends = (f"step {value.steps[0]:,}", f"{value.steps[-1]:,}")
    names = [value.layers[i] for i in rows]
    group, high = raster("relative difference", names, cells, ends, is_log=True, width=_WIDE)
    size = f'viewBox="0 0 {_WIDE} {high}" width="{_WIDE}" height="{high}"'
    label = "Relative difference of layers over steps"
    return [*parts, Picture(f'<svg {size} role="img" aria-label="{label}">{group}</svg>', ())]


def _spread(count: int, most: int, *, first: int | None = None) -> list[int]:
    """Return at most about `most` of so many indices, evenly, with `first` and the last among them."""
    if count <= most:
        return list(range(count))
    kept = {i * count // most for i in range(most)} | {count - 1}
    return sorted(kept if first is None else kept | {first})


def _sides(title: str, sides: Iterable[Any], a: str, b: str) -> list[Part]:
    rows = tuple((side.name, number(side.a), number(side.b)) for side in sides if not side.is_same)
    if not rows:
        return []
    heads = (a, b) if a != b else ("first", "second")
    return [Grid((title, *heads), rows, frozenset({1, 2}) if title in ("params", "metrics") else frozenset())]
