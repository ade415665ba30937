"""Cards of diagnoses and of watch sessions."""

from __future__ import annotations

from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import Diagnosis
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Grid, Key, Mono, Note, Part, chip
from nbops.view.format import cell, number, plural, text
from nbops.view.reading import attribute


def show_diagnosis(value: Diagnosis) -> Bundle:
    """Draw a `Diagnosis`: what happened and where, why, what was measured, what to change."""
    parts: list[Part] = [Note(line) for line in (value.what, value.why) if line]
    if value.fix:
        parts.append(Note(f"Fix: {value.fix}"))
    limit = f"limit {number(value.limit)}" if value.limit is not None else ""
    keys = [Key(number(value.measured), "measured", limit)] if value.measured is not None else []
    keys += [Key(f"{number(value.confidence * 100)} %", "confidence", "estimated")]
    facts = [f"step {value.step:,}", *([value.layer] if value.layer else [])]
    facts.append(cell(value.cell_id))
    return bundle(Card(value.name, chip(value.status), short_id(value.id), tuple(facts), tuple(keys), tuple(parts)))


def show_watch(value: Any) -> Bundle:
    """Draw a `Watch`: whether it is attached, how many steps it saw, what it found."""
    is_open = bool(attribute(value, "is_open", default=False))
    found = list(attribute(value, "diagnoses", default=()))
    model = attribute(value, "model")
    name = attribute(value, "name") or type(model).__name__
    steps = int(attribute(value, "steps", default=0))
    quiet = "Nothing is wrong so far." if steps else "No step was seen yet."
    parts: tuple[Part, ...] = (diagnoses(found),) if found else (Note(quiet, "dim"),)
    parts += tuple(Note(note, "dim") for note in attribute(value, "notes", default=()))
    state = Chip("●", "watching", "live") if is_open else Chip("■", "closed", "dim")
    if found:
        worst = min(found, key=lambda d: ("error", "warning", "hint").index(d.status) if d.status in (
            "error", "warning", "hint") else 3)  # fmt: skip
        state = chip(worst.status, f"{plural(len(found), 'finding')}{'' if is_open else ', closed'}")
    return bundle(Card(text(name), state, facts=(plural(steps, "step"),), parts=parts))


def diagnoses(found: list[Diagnosis]) -> Grid:
    """Return one row for each diagnosis."""
    rows = tuple(
        (chip(d.status), d.name, d.step, Mono(d.layer), number(d.measured), number(d.limit), d.fix or d.what)
        for d in found
    )
    return Grid(("state", "rule", "step", "layer", "measured", "limit", "what to do"), rows, frozenset({2, 4, 5}))
