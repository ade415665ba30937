"""`nb.leaks`: what test tells train, or train tells test, before a score is believed.

The checks are in `checks`; running and recording them is in `checking`.
"""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from typing import Any, Literal

from nbops.core.errors import InvalidInput, not_found
from nbops.core.query import Compare, Field
from nbops.core.records import CheckReport
from nbops.core.splits import SplitRecord
from nbops.data.checking import Wanted, check_on_fail, chosen_checks, run_checks
from nbops.data.columns import Frame
from nbops.data.frames import read
from nbops.data.leaf import LEAKS, Sample
from nbops.data.leakage.fitted import judged_objects
from nbops.store.workspace import workspace


def leaks(
    train: Any, test: Any, *, label: str | None = None, group: str | Sequence[str] | None = None,
    time: str | Sequence[str] | None = None, split: Any = None, fitted: Any = None, suite: Wanted | None = None,
    name: str = "", on_fail: Literal["report", "raise"] = "report",
) -> CheckReport:  # fmt: skip
    """Look for leaks between what is learned from and what is judged by, record the report and return it.

    Parameters
    ----------
    train, test
        What `nb.snapshot` takes, with the same columns; pairs ``(X, y)`` bring their labels.
    label : str, optional
        The label column; ``y`` of pairs if None.
    group : str or list of str, optional
        Columns of what must be on one side only: patient, customer.
    time : str or (str, str), optional
        When a row happened, or began and ended: all of test must be later than train.
    split : Split, SplitRecord or str, optional
        An earlier split, or its name: no row may have changed its side since.
    fitted : estimator or list, optional
        Fitted scalers, imputers, selections, pipelines: they must not have seen test.
    suite : list or mapping, optional
        Names of checks, or names with thresholds, as in `nb.check`; all that look for leaks if None.
    name : str, optional
        Name of the report; ``leaks`` if empty.
    on_fail : {"report", "raise"}
        Whether a FAIL or ERROR raises, after the report is recorded.

    Returns
    -------
    CheckReport

    Raises
    ------
    CheckFailed
        With ``on_fail="raise"``: names the worst finding.
    NotFound
        An unknown check, column or split.
    InvalidInput
        Data that cannot be read, or without a common column; fitted objects that do not fit these columns.
    """
    check_on_fail(on_fail)
    started = clock.perf_counter()
    sample = _sample(read(train, label=label), read(test, label=label))
    given = {
        "group-overlap": ("group", group),
        "time-overlap": ("time", time),
        "moved-rows": ("split", _record(split)),
        "fit-before-split": ("fitted", None if fitted is None else judged_objects(fitted, _of(sample), sample.frame)),
    }
    for columns in (group, time):
        for column in [columns] if isinstance(columns, str) else columns or ():
            sample.frame.column(column)  # raises for a name that is not there
    chosen = chosen_checks(LEAKS if suite is None else suite)
    options = {check: {option: value} for check, (option, value) in given.items() if value is not None}
    chosen = [(check, leaf, {**options.get(check, {}), **own}) for check, leaf, own in chosen]
    return run_checks(sample, chosen, name=name or "leaks", on_fail=on_fail, started=started)


def _sample(train: Frame, test: Frame) -> Sample:
    if not set(train.names) & set(test.names):
        raise InvalidInput(f"train and test have no column in common: {', '.join(train.names[:3])} … and "
                           f"{', '.join(test.names[:3])} …", hint="Pass both sides of the same table.")  # fmt: skip
    return Sample(test, reference=train)


def _of(sample: Sample) -> Frame:
    return sample.reference or sample.frame


def _record(split: Any) -> SplitRecord | None:
    if split is None or isinstance(split, SplitRecord):
        return split
    if isinstance(split, str):
        store = workspace().store
        found = store.find(SplitRecord, Compare(Field("name"), "==", split), limit=1)
        if not found:
            names = {record.name for record in store.find(SplitRecord, limit=200)}
            raise not_found("split", split, names, hint="List them with nb.find('splits').")
        return found[0]
    record = getattr(split, "record", None)
    if not isinstance(record, SplitRecord):
        raise InvalidInput(f"split is a {type(split).__name__}", hint="Pass what nb.split returned, or its name.")
    return record
