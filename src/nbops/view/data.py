"""Cards of datasets and of data checks."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.records import CheckReport, CheckResult, ColumnSchema, Dataset, Verdict
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Facts, Grid, Mono, Note, Part, chip
from nbops.view.format import MISSING, cut, duration, number, plural, quantity, size, some, text, when
from nbops.view.staleness import moved_on
from nbops.view.suites import rules_grid

_SAME_SHOWN = 4  # columns listed one by one before the rest are told by their number
_MOST_TOLD = 12  # findings that are shown one by one
_COLUMNS_SHOWN = 12
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")


def show_dataset(value: Dataset) -> Bundle:
    """Draw a `Dataset`: version, size, content digest, where it came from, its columns or how many files it has."""
    source = tuple((name.replace("_", " "), _short(text(getattr(value.source, name)))) for name in (
        "origin", "extraction_code", "label_set", "entry_point") if getattr(value.source, name))  # fmt: skip
    source += tuple((name.replace("_", " "), _short(text(said))) for name, said in value.source.versions.items())
    parts: list[Part] = [Facts("source", source)] if source else []
    if value.tags:
        parts.append(Facts("tags", tuple(value.tags.items())))
    if value.columns:
        parts.append(_columns(value))
    if moved := moved_on(value.name, value.version):
        parts.insert(0, Note(f"! {moved}", "warn"))
    if value.is_folder and value.profile.get("left_out"):
        left_out = value.profile["left_out"]
        parts.append(Note(f"left out: {some([f'{path} ({why})' for path, why in left_out.items()], 4)}", "dim"))
    extent = f"{value.rows:,} × {len(value.columns):,}"
    if value.is_folder:
        extent = f"{plural(value.rows, 'file')}, {size(value.profile.get('size_bytes'))}"
    facts = (extent, f"sha256 {value.digest[:12]}", when(value.created_at))
    return bundle(Card(f"{value.name}/{value.version}", Chip("✓", "snapshot", "ok"), short_id(value.id), facts,
                       parts=tuple(parts)))  # fmt: skip


def _short(said: str) -> str:
    """Return text with whole hashes of commits as git shortens them."""
    return _COMMIT.sub(lambda found: found[0][:12], said)


def _columns(value: Dataset) -> Grid | Facts:
    profile = value.profile.get("columns") if isinstance(value.profile.get("columns"), dict) else value.profile
    known = [c.name for c in value.columns if isinstance((profile or {}).get(c.name), dict)]
    if not known:
        kinds: dict[str, list[ColumnSchema]] = defaultdict(list)
        for column in value.columns:
            kinds[column.dtype].append(column)
        return Facts("columns", tuple((f"{len(found):,} × {dtype}", some([c.name for c in found], 4))
                                      for dtype, found in kinds.items()))  # fmt: skip
    wanted = [key for key in ("missing", "missing_share", "unique", "distinct", "min", "mean", "median", "max", "std")
              if any(key in (profile or {})[name] for name in known)][:6]  # fmt: skip
    rows = []
    for column in value.columns[:_COLUMNS_SHOWN]:
        found = (profile or {}).get(column.name) or {}
        cells = [quantity(found.get(key), "share" if "share" in key else "") for key in wanted]
        rows.append((Mono(column.name), column.dtype, *cells))
    head = ("column", "type", *(key.replace("_", " ") for key in wanted))
    left_out = len(value.columns) - len(rows)
    more = f"… and {plural(left_out, 'more column')}" if left_out > 0 else ""
    return Grid(head, tuple(rows), frozenset(range(2, len(head))), more=more)


def show_report(value: CheckReport) -> Bundle:
    """Draw a `CheckReport`: the verdict, then a line for each check that fails or warns, then how many passed."""
    worst: dict[str, Verdict] = {}
    for result in value.results:
        worst[result.check] = max(worst.get(result.check, Verdict.PASS), result.verdict, key=lambda v: v.severity)
    found = sorted((r for r in value.results if r.verdict.severity >= Verdict.WARN.severity),
                   key=lambda r: (-r.verdict.severity, r.check))  # fmt: skip
    parts: list[Part] = []
    from nbops.data.expect import KINDS  # views are listed without what they show
    from nbops.data.leaf import TOLD

    broken = [r for r in found if r.check in KINDS]  # of rules, what was found says more than what to do
    told = [r for r in found if r.check in TOLD]
    found = [r for r in found if r.check not in KINDS and r.check not in TOLD]
    if told:
        parts.append(_told(told))
    if found:
        parts.append(Grid(("check", "column", "value", "limit", "what to do"), _rows(found), frozenset({2, 3})))
    if broken:
        parts.append(rules_grid(broken))
    parts += [Note(f"i {r.check}{r.column and f' ({r.column})'}: {r.message}", "dim")
              for r in value.results if r.evidence.get("severity") == "info"][:_SAME_SHOWN]  # fmt: skip
    for verdict, word in ((Verdict.PASS, "passed"), (Verdict.SKIPPED, "skipped")):
        names = sorted(name for name, is_now in worst.items() if is_now == verdict)
        if names:
            parts.append(Note(f"{len(names):,} {word}: {some(names, 12)}", "dim"))
    facts = (f"{value.rows:,} × {value.columns:,}", duration(value.duration_s))
    return bundle(Card(value.name or "data", _verdict(worst), short_id(value.id), facts, parts=tuple(parts)))


def _told(results: Sequence[CheckResult]) -> Grid:
    """Return the table of findings that say where something is: some of each check."""
    seen: Counter[str] = Counter()
    rows: list[tuple[str, str, str]] = []
    for r in results:
        seen[r.check] += 1
        if seen[r.check] <= _SAME_SHOWN and len(rows) < _MOST_TOLD:
            rows.append((f"{chip(r.verdict).sign} {r.check}", r.message, r.fix))
    left = len(results) - len(rows)
    return Grid(("check", "what was found", "what to do"), tuple(rows), more=f"… and {left:,} more" if left else "")


def _verdict(worst: dict[str, Verdict]) -> Chip:
    """Return the head's state: how many checks have the worst verdict, of how many."""
    verdicts = list(worst.values())
    words = {Verdict.ERROR: ("could not run",) * 2, Verdict.FAIL: ("fails", "fail"), Verdict.WARN: ("warns", "warn")}
    for verdict, (one, many) in words.items():
        count = verdicts.count(verdict)
        if count:
            return chip(verdict, f"{count:,} of {plural(len(verdicts), 'check')} {one if count == 1 else many}")
    return chip(Verdict.PASS, f"{plural(verdicts.count(Verdict.PASS), 'check')} passed")


def _rows(results: Sequence[CheckResult]) -> tuple[tuple[Any, ...], ...]:
    groups: dict[tuple[str, Verdict], list[CheckResult]] = defaultdict(list)
    for result in results:
        groups[result.check, result.verdict].append(result)
    rows = []
    for (check, verdict), same in groups.items():
        worst = max(same, key=_distance)
        column = some([r.column for r in same if r.column], _SAME_SHOWN) if len(same) > 1 else same[0].column
        advice = worst.fix or worst.message
        rows.append((f"{chip(verdict).sign} {check}", Mono(column), quantity(worst.value, worst.unit),
                     quantity(worst.limit, worst.unit), advice))  # fmt: skip
    return tuple(rows)


def _distance(result: CheckResult) -> float:
    if result.value is None or result.limit is None:
        return 0.0
    return abs(result.value - result.limit)


def show_result(value: CheckResult) -> Bundle:
    """Draw one `CheckResult`: what was found, against which limit, what to do."""
    parts: list[Part] = [Note(value.message)] if value.message else []
    if value.fix and value.verdict.severity >= Verdict.WARN.severity:
        parts.append(Note(value.fix))
    if value.evidence:
        parts.append(Facts("evidence", tuple((k, cut(number(v), 60)) for k, v in value.evidence.items())))
    facts = tuple(
        f"{label} {quantity(found, value.unit)}"
        for label, found in (("value", value.value), ("limit", value.limit)) if quantity(found, value.unit) != MISSING
    )  # fmt: skip
    return bundle(Card(value.check, chip(value.verdict), value.column, facts, parts=tuple(parts)))
