"""Cards of preflight: what was found before the first step, and which points of a search space can be trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbops.core.display import Bundle
from nbops.core.records import Diagnosis
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Code, Facts, Grid, Key, Mono, Note, Part, chip
from nbops.view.format import cell, duration, number, plural

_WHOLE = 3  # findings that are shown with all that is known; the others are rows
_OTHER_CAUSES = 2


def show_preflight(value: Any) -> Bundle:
    """Draw a `PreflightReport`: the verdict, each stage, and for what was found its line and what to write there."""
    parts: list[Part] = [Facts("Stages", tuple((s.name, chip(s.verdict).sign) for s in value.stages))]
    for found in value.findings[:_WHOLE]:
        parts += _finding(found)
    if value.findings[_WHOLE:]:
        parts.append(_rows(value.findings[_WHOLE:]))
    parts += [Note(f"{s.name}: {s.note}", "dim") for s in value.stages if s.note and s.verdict != "skipped"]
    skipped = [s.name for s in value.stages if s.verdict == "skipped"]
    if skipped:
        parts.append(Note(f"Not looked at yet: {', '.join(skipped)}. Mend the error first.", "dim"))
    facts = (plural(value.parameters, "parameter"), value.batch, duration(value.duration_s))
    return bundle(Card(f"preflight of {value.model_name}", _chip(value.findings), "", facts, (), tuple(parts)))


def _chip(findings: tuple[Diagnosis, ...]) -> Chip:
    kinds = [d.status for d in findings]
    for kind in ("error", "warning"):
        if kind in kinds:
            return chip(kind, plural(kinds.count(kind), kind))
    return chip("pass", "ready to train" + (f", {plural(len(kinds), 'hint')}" if kinds else ""))


def where(found: Diagnosis) -> str:
    """Return the line that a finding is about: ``cell [3], line 5``, or of a file."""
    count = found.evidence.get("execution_count")
    source = str(found.evidence.get("file", "")) or (f"cell [{count}]" if count is not None else cell(found.cell_id))
    return ", ".join(part for part in (source, f"line {found.line}" if found.line is not None else "") if part)


def _finding(found: Diagnosis) -> Iterator[Part]:
    yield Grid(("", "", "", ""), ((chip(found.status), found.name, Mono(found.layer), where(found)),))
    told = ". ".join(line[:1].upper() + line[1:].rstrip(".") for line in (found.what, found.why) if line)
    yield Note(f"{told}.")
    if found.expected and found.got:
        yield Note(f"Expected {found.expected}, got {found.got}.", "dim")
    first = found.causes[0] if found.causes else None
    yield Note(f"Fix: {found.fix or (first.fix if first else '')}")
    patch, example = (first.patch, first.example) if first is not None else ("", "")
    lines = [f"{found.line:>4}  {found.code}"] if found.code and found.line is not None else []
    lines += [f"   {line[:1]}  {line[1:]}" for line in patch.splitlines()]
    lines += [f"      {line}" for line in example.splitlines() if line.strip() and not patch]
    if lines:
        yield Code("\n".join(lines))
    for cause in found.causes[1 : 1 + _OTHER_CAUSES]:
        yield Note(f"Or {cause.text}: {cause.fix}", "dim")


def _rows(findings: tuple[Diagnosis, ...]) -> Grid:
    rows = tuple((chip(d.status), d.name, Mono(d.layer), where(d), d.fix or d.what) for d in findings)
    return Grid(("state", "check", "layer", "where", "what to do"), rows)


def show_space(value: Any) -> Bundle:
    """Draw a `SpaceReport`: the share of points that cannot be trained, and why."""
    looked, bad = value.looked_at, len(value.invalid)
    sign = chip("pass", "all can be trained") if not bad else chip(
        "warning" if value.valid else "error", f"{bad / max(1, looked):.0%} cannot be trained"
    )  # fmt: skip
    keys = (Key(number(len(value.valid)), "valid points"), Key(number(bad), "invalid"))
    rows = tuple((r.count, r.check, Mono(r.layer), Mono(r.where), r.what) for r in value.reasons)
    parts: list[Part] = [Grid(("points", "check", "layer", "where", "why"), rows, frozenset({0}))] if rows else []
    if value.total > looked:
        parts.append(Note(f"{looked:,} of {value.total:,} points were looked at, drawn evenly.", "dim"))
    facts = (plural(value.total, "point"), duration(value.duration_s))
    return bundle(Card("preflight of a search space", sign, "", facts, keys, tuple(parts),
                       ("for point in report.valid: …",) if value.valid else ()))  # fmt: skip
