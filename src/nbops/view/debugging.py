"""Cards of diagnoses and of watch sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import Cause, Diagnosis
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Code, Facts, Grid, Item, Key, Mono, Note, Part, Ranked, Section, chip
from nbops.view.format import cell, number, plural, text
from nbops.view.reading import attribute

IN_FULL = 3  # findings that are told in full at a time; the others in one line each
_CAUSES = 3
_EVIDENCE = 4
_STATUSES = ("error", "warning", "hint")


def show_diagnosis(value: Diagnosis) -> Bundle:
    """Draw a `Diagnosis`: what happened and where, why, what was measured, likely causes, what to change."""
    limit = f"limit {number(value.limit)}" if value.limit is not None else ""
    keys = [Key(number(value.measured), "measured", limit)] if value.measured is not None else []
    keys += [Key(f"{number(value.confidence * 100)} %", "confidence", "estimated")]
    facts = [
        f"step {value.step:,}" if value.step >= 0 else "before the first step",
        *([place(value.layer)] if value.layer else []),
    ]
    facts.append(cell(value.cell_id))
    parts = tuple(_told(value))
    return bundle(Card(value.name, chip(value.status), short_id(value.id), tuple(facts), tuple(keys), parts))


def show_watch(value: Any) -> Bundle:
    """Draw a `Watch`: whether it is attached, how many steps it saw, what it found."""
    every = ranked(attribute(value, "diagnoses", default=()))
    found = [one for one in every if one.status != "muted"]
    steps = int(attribute(value, "steps", default=0))
    quiet = "Nothing is wrong so far." if steps else "No step was seen yet."
    parts = findings(found) or [Note(quiet, "dim")]
    parts += muted([one for one in every if one.status == "muted"])
    parts += [Note(note, "dim") for note in attribute(value, "notes", default=())]
    name = attribute(value, "name") or type(attribute(value, "model")).__name__
    return bundle(Card(text(name), watch_chip(value, found), facts=(plural(steps, "step"),), parts=tuple(parts)))


def watch_chip(value: Any, found: list[Diagnosis]) -> Chip:
    """Return the state of a watch: its worst finding, else whether it is attached. `found` is ranked."""
    is_open = bool(attribute(value, "is_open", default=False))
    if found:
        return chip(found[0].status, f"{plural(len(found), 'finding')}{'' if is_open else ', closed'}")
    return Chip("●", "watching", "live") if is_open else Chip("■", "closed", "dim")


def ranked(found: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Return diagnoses in the order in which they deserve attention: errors first, then the surest, then the oldest."""
    return sorted(found, key=lambda d: (_rank(d.status), -d.confidence, d.step, d.created_at))


def _rank(status: str) -> int:
    return _STATUSES.index(status) if status in _STATUSES else len(_STATUSES)


def findings(found: list[Diagnosis]) -> list[Part]:
    """Return the first three of ranked diagnoses in full, and the others in one line each."""
    parts: list[Part] = []
    for one in found[:IN_FULL]:
        sure = f"confidence {number(one.confidence * 100)} %"
        parts.append(Section(one.name, chip(one.status), (when(one.step), place(one.layer), sure)))
        parts += _told(one, also=_measured(one))
    if found[IN_FULL:]:
        parts.append(Section(f"{len(found) - IN_FULL:,} more"))
        parts.append(diagnoses(found[IN_FULL:]))
    return parts


def muted(found: list[Diagnosis]) -> list[Part]:
    """Return what the user said is no problem here, in one line each."""
    return [Section(f"{len(found):,} muted"), diagnoses(found)] if found else []


def _told(value: Diagnosis, *, also: tuple[tuple[str, str], ...] = ()) -> list[Part]:
    """Return what was seen and why it matters, the evidence, the place, causes with their tests, and the remedy."""
    parts: list[Part] = [Note(sentence(line)) for line in (value.what, value.why) if line]
    seen = [*also, *((name, said) for name, said in (("expected", value.expected), ("got", value.got)) if said)]
    seen += [(name.replace("_", " "), _short(v)) for name, v in list(value.evidence.items())[:_EVIDENCE]]
    if seen:
        parts.append(Facts("evidence", tuple(seen)))
    if value.code:
        where = f"line {value.line}" if value.line is not None else "code"
        parts += [Note(f"{where}{' of ' + cell(value.cell_id) if cell(value.cell_id) else ''}:", "dim"),
                  Code(value.code)]  # fmt: skip
    causes = value.causes[:_CAUSES]
    if causes:
        parts.append(Ranked("Likely causes" if len(causes) > 1 else "Likely cause", tuple(map(_cause, causes))))
    if value.fix and value.fix not in [cause.fix for cause in causes]:
        parts.append(Note(f"Fix: {value.fix}"))
    patched = next((place for place, cause in enumerate(causes, 1) if cause.patch or cause.example), 0)
    if patched:
        of = f" for cause {patched}" if len(causes) > 1 else ""
        chosen = causes[patched - 1]
        said = f"Patch{of} of your lines:" if chosen.patch else f"Example{of}, to try in a cell:"
        parts += [Note(said, "dim"), Code(chosen.patch or chosen.example)]
    return parts


def _cause(cause: Cause) -> Item:
    tested = (("to tell it", cause.test), ("fix", cause.fix))
    return Item(sentence(cause.text), f"{number(cause.confidence * 100)} %", tested)


def when(step: int) -> str:
    """Return a step as one says it."""
    return f"step {step:,}" if step >= 0 else "before the first step"


def place(layer: str) -> str:
    """Return the name of a layer as one says it: a number alone says nothing."""
    return f"layer {layer}" if layer[:1].isdigit() else layer


def sentence(words: str) -> str:
    """Return `words` with a capital letter, unless they begin with a name of code."""
    return words[:1].upper() + words[1:] if words.partition(" ")[0].isalpha() else words


def _measured(value: Diagnosis) -> tuple[tuple[str, str], ...]:
    if value.measured is None:
        return ()
    limit = (("limit", number(value.limit)),) if value.limit is not None else ()
    return (("measured", number(value.measured)), *limit)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(number(one) for one in value[:6]) + (" …" if len(value) > 6 else "")
    return number(value)


def diagnoses(found: list[Diagnosis]) -> Grid:
    """Return one row for each diagnosis."""
    rows = tuple(
        (chip(d.status), d.name, d.step if d.step >= 0 else "before", Mono(d.layer), number(d.measured),
         number(d.limit), d.fix or d.what)
        for d in found
    )  # fmt: skip
    return Grid(("state", "rule", "step", "layer", "measured", "limit", "what to do"), rows, frozenset({2, 4, 5}))
