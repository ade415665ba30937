"""Compares what came out of runs with the truth that the programs declare."""

from __future__ import annotations

import ast
import fnmatch
import math
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from nbops.core.errors import InvalidInput
from nbops.debugging.diffs import apply_patch, is_patch
from zoo.causes import CAUSES
from zoo.doctors import Found
from zoo.program import Cell, Edit, Program
from zoo.running import Outcome
from zoo.table import CAUSES_OF_RULE, CAUSES_OF_TEXT, PLACES

SHOWN = 3  # cards that a person sees at once
REACHED = 0.95  # share of the twin's score at which a patch counts as healing
_RANK = {"error": 0, "warning": 1}


# ---- do the programs do what they declare ----------------------------------------------------------------------------


def works(program: Program, outcome: Outcome) -> bool:
    """Return whether a twin or a healthy program ended well."""
    if outcome.error or math.isnan(outcome.score):
        return False
    return outcome.score >= program.works if program.more_is_better else outcome.score <= program.works


def misbehaves(program: Program, sick: Outcome, twin: Outcome) -> bool:
    """Return whether a sick program ended as declared: with its error, or worse than its twin by the margin."""
    if program.kind == "crash":
        return re.search(program.raises, sick.error) is not None
    if sick.error and not (program.raises and re.search(program.raises, sick.error)):
        return False
    if math.isnan(sick.score):
        return True
    gap = twin.score - sick.score if program.more_is_better else sick.score - twin.score
    return gap >= program.margin


# ---- what a doctor found ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """How a doctor did on one run of a sick program; on other runs only the counts of alarms have a meaning."""

    is_detected: bool = False
    is_in_time: bool = False
    is_cause_first: bool = False
    is_cause_shown: bool = False
    is_place_right: bool = False
    is_healed: bool = False
    errors: int = 0
    warnings: int = 0


def alarms(outcome: Outcome) -> list[Found]:
    """Return errors and warnings in the order in which a person sees them; hints are no alarm."""
    found = [one for one in outcome.found if one.status in _RANK]
    return sorted(found, key=lambda one: (_RANK[one.status], -one.confidence, one.step))


def judge(program: Program, outcome: Outcome, cell: Cell, is_healed: bool = False) -> Verdict:
    """Return the verdict on one run; `cell` is the version that ran, `is_healed` whether its first patch heals."""
    found = alarms(outcome)
    first = causes_of(found[0])[:1] if found else []
    shown = {*(causes_of(found[0])[:SHOWN] if found else []), *(c for one in found[:SHOWN] for c in causes_of(one)[:1])}
    return Verdict(
        is_detected=bool(found),
        is_in_time=any(one.step <= program.by for one in found),
        is_cause_first=bool(set(first) & set(program.causes)),
        is_cause_shown=bool(shown & set(program.causes)),
        is_place_right=any(is_place_right(program, one, cell) for one in found[:SHOWN]),
        is_healed=is_healed,
        errors=sum(one.status == "error" for one in found),
        warnings=sum(one.status == "warning" for one in found),
    )


def causes_of(found: Found) -> list[str]:
    """Return the ids of the causes that a finding gives, most likely first: by its texts, else by its rule.

    What `zoo.table` does not know is no id but begins with a question mark; it holds its place all the same.
    """
    told: list[str] = []
    for text in found.causes:
        told += [text] if text in CAUSES else []
        known = [c for (rule, part), c in CAUSES_OF_TEXT.items() if rule in ("", found.name) and part in text]
        told += known or [f"? {text}"]
    if all(one.startswith("?") for one in told):
        told = [*CAUSES_OF_RULE.get(found.name, ()), *told] or [f"? {found.name}"]
    return list(dict.fromkeys(told))


def is_place_right(program: Program, found: Found, cell: Cell) -> bool:
    """Return whether a finding names a declared place, or a marked line by number or text."""
    layer = PLACES.get(found.layer, found.layer.partition(" ")[0])  # "metric accuracy" is about a metric
    if layer and any(fnmatch.fnmatch(layer, place) for place in program.places):
        return True
    marked = {cell.line(number) for number in cell.marked}
    return found.line in cell.marked or (bool(found.code.strip()) and found.code.strip() in marked)


# ---- does a patch heal -----------------------------------------------------------------------------------------------


def patched(cell: Cell, patch: str, *, line: int | None = None) -> Cell | None:
    """Return the cell with a patch applied, or None if it cannot be applied without a person.

    A patch is one that `nbops.debugging.diffs` applies; without signs it is the new text of the line that the finding
    names.
    """
    if is_patch(patch):
        try:
            return Cell(apply_patch(cell.source, patch))
        except InvalidInput:
            return None
    lines = [one for one in patch.split("\n") if one.strip()]
    return _replaced(cell, lines, line) if line and lines else None


def _replaced(cell: Cell, new: list[str], number: int) -> Cell | None:
    source = cell.source.split("\n")
    if not 0 < number <= len(source):
        return None
    old = source[number - 1]
    indent = old[: len(old) - len(old.lstrip())]
    source[number - 1 : number] = [indent + one for one in textwrap.dedent("\n".join(new)).split("\n")]
    text = "\n".join(source)
    try:
        ast.parse(text)
    except SyntaxError:
        return None
    return Cell(text)


def as_patch(edits: Iterable[Edit], source: str) -> str:
    """Return declared changes as a patch of the form that `patched` reads."""
    import difflib

    changed = source
    for edit in edits:
        changed = edit.apply(changed)
    diff = difflib.unified_diff(source.split("\n"), changed.split("\n"), lineterm="", n=1)
    return "\n".join(line for line in diff if not line.startswith(("---", "+++", "@@")))


def heals(program: Program, healed: Outcome, twin: Outcome, sick: Outcome) -> bool:
    """Return whether a patched program reaches 95 % of its twin's score.

    Where less is better, it must close 95 % of the distance from the sick score, if that is known.
    """
    if healed.error or math.isnan(healed.score):
        return False
    if program.kind == "crash" or program.more_is_better:
        return works(program, healed) if program.kind == "crash" else healed.score >= REACHED * twin.score
    if math.isfinite(sick.score):
        return sick.score - healed.score >= REACHED * (sick.score - twin.score)
    return healed.score <= twin.score / REACHED


def first_patch(cell: Cell, outcome: Outcome) -> Cell | None:
    """Return the cell with the patch that a person would try first: of the shown findings, most likely cause first.

    None if there is no patch, or if it cannot be applied without a person.
    """
    for one in alarms(outcome)[:SHOWN]:
        for patch in one.patches:
            if patch:
                return patched(cell, patch, line=one.line)
    return None
