"""The check ``group-overlap``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from nbops.core.records import CheckResult, Verdict
from nbops.data.columns import Column, Frame
from nbops.data.leaf import Sample, checks, judged, percent, result, skipped
from nbops.data.splits.identity import found_in, identities
from nbops.data.splits.proving import spread_of

# the last word of a column's name that says whom or what a row is about
_ENTITY = re.compile(
    r"(?:^|[_\W])(?:id|uuid|guid|patient|subject|person|customer|client|user|account|household|session|device|group|"
    r"vehicle|machine|store|shop|school|author|speaker|video|document|sample)(?:_?(?:id|key|no|nr|number|code))?$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@checks.register("group-overlap")
def group_overlap(
    sample: Sample, *, group: str | Sequence[str] | None = None, max_share: float = 0.0
) -> Iterator[CheckResult]:
    """Groups that have rows on both sides.

    What it measures
        The share of test rows whose group (patient, customer, video) has rows in train: FAIL above `max_share`.
        `group` names the column, or several that name it together. Without it, columns that are called like an
        entity (``patient_id``, ``user``) and repeat their values are looked at, and give a WARN.

    Why it matters
        Rows of one group resemble each other. A model that recognises the patient scores well on known patients and
        fails on the next one; random splits and cross-validation cannot show it.

    When it is wrong
        Where the model will meet the same groups when it is used (known customers next month): then time must part
        the sides, not groups. Guesses by name can be wrong; pass `group`, or leave the check out.

    Fix
        Split with nb.split(data, group="patient").

    References
        Kapoor and Narayanan, "Leakage and the reproducibility crisis in ML-based science", 2023: L3.2.
        Roberts et al., "Common pitfalls … detecting COVID-19", Nature Machine Intelligence 3, 2021.
    """
    train = sample.reference
    if train is None:
        yield skipped("no train data was given", fix="Use nb.leaks(train, test).")
        return
    names = [group] if isinstance(group, str) else list(group or ())
    if names:
        columns = [sample.frame.column(name) for name in names]
        yield _judge(", ".join(names), columns, [train.column(name) for name in names], sample, max_share)
        return
    guesses = [
        c for c in sample.columns if c.name in train.names and c.name != sample.frame.label and _is_entity(c, train)
    ]
    for column in guesses:
        found = _judge(column.name, [column], [train.column(column.name)], sample, max_share)
        if found.verdict is Verdict.FAIL:
            yield result("warn", column=found.column, value=found.value, limit=found.limit, unit=found.unit,
                         message=found.message, fix=found.fix, evidence=found.evidence)  # fmt: skip
        else:
            yield found
    if not guesses:
        yield skipped("no group was given", fix="Pass group=: the column of the patient, customer, video …")


def _judge(
    name: str, mine: list[Column], others: list[Column], sample: Sample, max_share: float
) -> CheckResult:  # fmt: skip
    test, train = (spread_of(identities(columns, columns[0].rows)) for columns in (mine, others))
    there = found_in(test, train)
    for column in mine:
        if column.missing is not None:
            there &= ~column.missing
    share = np.count_nonzero(there) / sample.rows if sample.rows else 0.0
    groups, of_all = len(np.unique(test[there])), len(np.unique(test))
    return judged(
        share,
        fail=max_share,
        column=name,
        unit="share",
        message=f"{groups:,} of {of_all:,} groups in test have rows in train ({percent(share)} of the test rows)",
        fix=f'Split with nb.split(data, group="{name}").'
        if len(mine) == 1
        else "Split with nb.split(data, group=[…]).",
        evidence={"groups": groups, "rows": np.flatnonzero(there)[:20].tolist()},
    )


def _is_entity(column: Column, train: Frame) -> bool:
    """Tell whether a column is called like an entity, and its values repeat without being few, as categories are."""
    if not (column.is_text or column.dtype.startswith(("int", "uint"))) or not _ENTITY.search(
        _CAMEL.sub("_", column.name)
    ):
        return False
    other = train.column(column.name)
    values = len(np.unique(identities([other], other.rows)))
    return values >= 10 and math.sqrt(train.rows) <= values <= 0.8 * train.rows
