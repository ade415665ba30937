"""`nb.quarantine`: data in two, rows that keep all rules and rows that do not, split by position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from nbops.core.display import Shown
from nbops.core.errors import CheckFailed, InvalidInput
from nbops.core.records import CheckResult, Verdict
from nbops.data.checking import Wanted, examine
from nbops.data.columns import Array, Frame, Mask
from nbops.data.leaf import Located
from nbops.data.rows import settled, take_rows


@dataclass(frozen=True, eq=False)
class Finding:
    """What one rule found.

    Attributes
    ----------
    result : CheckResult
    positions : int array
        Rows of the data, from 0.
    """

    result: CheckResult
    positions: Array


@dataclass(frozen=True, eq=False)
class Quarantine(Shown):
    """Data in two: every row is in exactly one part, in its order and with its index.

    Attributes
    ----------
    positions : int array
        Rows in quarantine, from 0, rising.
    findings : tuple of Finding
        What puts rows there.
    remaining : tuple of CheckResult
        What is wrong with the table or a whole column, which taking out rows does not mend.
    """

    frame: Frame
    positions: Array
    findings: tuple[Finding, ...]
    remaining: tuple[CheckResult, ...]

    @property
    def rows(self) -> int:
        """Number of rows in all."""
        return self.frame.rows

    @cached_property
    def passed(self) -> Any:
        """The rows that keep all rules, as the type that was given."""
        keep = np.ones(self.rows, np.bool_)
        keep[self.positions] = False
        return take_rows(self.frame.native, np.flatnonzero(keep))

    @cached_property
    def failed(self) -> Any:
        """The rows in quarantine, as the type that was given."""
        return take_rows(self.frame.native, self.positions)

    @cached_property
    def reasons(self) -> Any:
        """One line for each row in quarantine and rule: row, rule, column, value, message.

        `row` is the position in the data that was given. A frame of the caller's library; else a dict of columns.
        """
        lines = sorted((int(row), at) for at, found in enumerate(self.findings) for row in found.positions)
        table: dict[str, list[Any]] = {name: [] for name in ("row", "rule", "column", "value", "message")}
        for row, at in lines:
            found = self.findings[at].result
            cells = (row, found.check, found.column, self._said(row, found.column), found.message)
            for name, cell in zip(table, cells, strict=True):
                table[name].append(cell)
        return _in_library_of(self.frame.native, table)

    def _said(self, row: int, name: str) -> str:
        """Return the value of a column, or of each of several (``"start, end"``), as text; "" for the table."""
        names = self.frame.names
        parts = [name] if name in names else [part for part in name.split(", ") if part in names]
        told = ((part, self.frame.column(part).value(row)) for part in parts)
        shown = [(part, "missing" if value is None else str(value)[:200]) for part, value in told]
        return shown[0][1] if len(shown) == 1 else ", ".join(f"{part}={value}" for part, value in shown)


def quarantine(
    data: Any, *, suite: Wanted | None = None, baseline: Any = None, label: Any = None, environment: str = "",
    level: Literal["fail", "warn"] = "fail",
) -> Quarantine:  # fmt: skip
    """Split data into rows that keep all rules and rows that do not, exactly and by position.

    passed + failed = the input: no row is lost or doubled, the order stays, and an index (repeated, unsorted, with
    several levels) is neither used nor changed. Rows are those of results that fail; a rule within its `max_share`
    fails no row. Nothing is recorded.

    Parameters
    ----------
    data
        What `nb.check` takes; a dataset's name gives its stored data. A lazy frame or a DuckDB relation is collected
        once, and its parts are what it collects to. With labels as an array the parts are ``(X, y)``.
    suite, baseline, label, environment
        As for `nb.check`.
    level : {"fail", "warn"}
        Whether rows of warnings go into quarantine too.

    Returns
    -------
    Quarantine
        `passed`, `failed`, `reasons`; and `remaining`, what no row is to blame for.

    Raises
    ------
    CheckFailed
        A rule crashed, so that nobody knows which rows are good.
    NotFound
        An unknown check, label column or dataset.
    InvalidInput
        Data that cannot be read or cut.

    Examples
    --------
    >>> parts = nb.quarantine(df, suite=[expect.InRange("age", low=0, high=120)])
    >>> parts.passed, parts.failed, parts.reasons
    """
    if level not in ("fail", "warn"):
        raise InvalidInput(f"level is {level!r}", hint='Use "fail" or "warn".')
    sample, results = examine(settled(data), suite=suite, baseline=baseline, label=label, environment=environment)
    crashed = [found for found in results if found.verdict is Verdict.ERROR]
    if crashed:
        where = f" on column '{crashed[0].column}'" if crashed[0].column else ""
        raise CheckFailed(
            f"rule '{crashed[0].check}' crashed{where}, so no row can be told good: {crashed[0].message}",
            hint=crashed[0].fix or "Correct the rule, or leave it out.",
        )
    wrong = [found for found in results if found.verdict in (Verdict.FAIL, Verdict(level))]
    bad: Mask = np.zeros(sample.rows, np.bool_)
    findings, remaining = [], []
    for found in wrong:
        if not isinstance(found, Located):
            remaining.append(found)
            continue
        mask = found.mask()
        bad |= mask
        findings.append(Finding(found.plain(), np.flatnonzero(mask)))
    return Quarantine(sample.frame, np.flatnonzero(bad), tuple(findings), tuple(remaining))


def _in_library_of(native: Any, table: dict[str, list[Any]]) -> Any:
    """Return a table as a frame of the library that `native` is of; as it is for arrays, lists and dicts."""
    import narwhals as nw

    if isinstance(native, tuple) and len(native) == 2:
        native = native[0]
    try:
        frame = nw.from_native(native, allow_series=True)
    except TypeError:
        return table
    types: dict[str, Any] = {name: nw.Int64 if name == "row" else nw.String for name in table}
    return nw.from_dict(table, types, backend=frame.implementation).to_native()
