"""From a rule and data to results: environments, conditions, segments, severities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput, did_you_mean
from nbops.core.records import CheckResult, Verdict
from nbops.data.columns import Array, Column, Mask
from nbops.data.leaf import percent, result, skipped
from nbops.data.rules.base import Outcome, Rule
from nbops.data.rules.conditions import columns_of, rows_where
from nbops.data.rules.facts import Facts, Unfit

MAX_SEGMENTS = 1000
_VERDICTS = {"fail": Verdict.FAIL, "warn": Verdict.WARN, "info": Verdict.PASS}


def judge_all(rules: Sequence[Rule], facts: Facts, *, environment: str = "") -> Iterator[CheckResult]:
    """Yield the results of rules; a rule that crashes is a result too."""
    for rule in rules:
        try:
            yield from judge(rule, facts, environment=environment)
        except Exception as error:  # a rule may call anybody's code: it must not cost the other results
            yield result(Verdict.ERROR, column=rule.about, message=f"{type(error).__name__}: {error}",
                         fix="Correct the rule, or leave it out.")  # fmt: skip


def judge(rule: Rule, facts: Facts, *, environment: str = "") -> Iterator[CheckResult]:
    """Yield the result of a rule: one, or one a segment that breaks it.

    Raises
    ------
    InvalidInput
        A condition that cannot be compared, or more than 1,000 segments.
    """
    if environment and rule.environments and environment not in rule.environments:
        yield skipped(f"holds in {', '.join(rule.environments)}, not in {environment}", column=rule.about)
        return
    asked = {*rule.needs, *((rule.by,) if rule.by else ()), *(columns_of(rule.when) if rule.when else ())}
    gone = sorted(name for name in asked if name not in facts.frame.names)
    if gone:
        verdict = _VERDICTS[rule.severity]
        yield result(verdict, column=gone[0], message=f"the column is missing; rule {rule.code} needs it",
                     evidence=_noted(rule, 1), fix=did_you_mean(gone[0], facts.frame.names) or
                     "Look at the query or file that should have brought it.")  # fmt: skip
        return
    chosen = np.flatnonzero(rows_where(facts, rule.when)) if rule.when else None
    if not rule.by:
        yield _judged(rule, facts, chosen, "")
        return
    held = 0
    for name, rows in _segments(rule, facts, chosen):
        found = _judged(rule, facts, rows, f"{rule.by} = {name}: ")
        is_held = found.verdict is Verdict.PASS and "severity" not in found.evidence
        held += is_held
        if not is_held:
            yield found
    yield result(Verdict.PASS, column=rule.about, message=f"holds for {held:,} values of {rule.by}")


def _segments(rule: Rule, facts: Facts, chosen: Array | None) -> Iterator[tuple[str, Array]]:
    column = facts.column(rule.by)
    first, inverse, _ = facts.distinct(rule.by)
    if len(first) > MAX_SEGMENTS:
        raise InvalidInput(
            f"by='{rule.by}' has {len(first):,} values", hint=f"Choose a column with at most {MAX_SEGMENTS:,}."
        )
    rows = np.arange(facts.rows) if chosen is None else chosen
    groups = inverse[rows]
    order = np.argsort(groups, kind="stable")
    ends = np.searchsorted(groups[order], np.arange(len(first)), side="right")
    parts = [(int(first[i]), rows[part]) for i, part in enumerate(np.split(order, ends[:-1])) if len(part)]
    for row, part in sorted(parts):
        yield "missing" if column.value(row) is None else repr(column.value(row)), part


def _judged(rule: Rule, facts: Facts, positions: Array | None, where: str) -> CheckResult:
    part = facts if positions is None else Facts(facts.frame, positions=positions)
    try:
        found = rule.look(part)
    except Unfit as error:
        found = Outcome(1, 1, str(error), unit="type")
    share = found.bad / found.of if found.of else 0.0
    is_broken = found.bad > 0 if found.unit else share > rule.max_share
    verdict = _VERDICTS[rule.severity] if is_broken else Verdict.PASS
    evidence: dict[str, Any] = _noted(rule, found.bad)
    said = found.what
    if not found.unit:
        said = f"{found.bad:,} of {found.of:,} {found.what} ({percent(share)})"
        evidence |= {"bad": found.bad, "of": found.of}
        if is_broken and found.rows is not None and rule.about in facts.frame.names:
            said += _examples(part.column(rule.about), found.rows())
    measured = {"value": share, "limit": rule.max_share, "unit": "share"} if not found.unit else {
        "value": found.value, "limit": found.limit, "unit": "rows" if found.unit == "rows" else ""}  # fmt: skip
    made = result(verdict, column=rule.about, message=where + (said if is_broken else f"{rule.code} holds"),
                  fix=rule.fix if is_broken else "", evidence=evidence, **measured,
                  rows=_placed(found, positions, facts.rows) if is_broken else None)  # fmt: skip
    return made


def _noted(rule: Rule, bad: int) -> dict[str, Any]:
    noted: dict[str, Any] = {} if rule.false_alarms is None else {"false_alarms": rule.false_alarms}
    return noted | ({"severity": "info"} if rule.severity == "info" and bad else {})


def _examples(column: Column, mask: Mask) -> str:
    rows = np.flatnonzero(mask)[:3]
    values = [column.value(int(row)) for row in rows] if not column.is_tensor else []
    shown = [
        repr(value if isinstance(value, int | float) else str(value)[:40]) for value in values if value is not None
    ]
    return f", such as {', '.join(shown)}" if shown else ""


def _placed(found: Outcome, positions: Array | None, rows: int) -> Any:
    """Return the mask over the whole table, or a function that makes it."""
    make = found.rows
    if make is None or positions is None:
        return make

    def mask() -> Mask:
        whole = np.zeros(rows, np.bool_)
        whole[positions] = make()
        return whole

    return mask
