"""Rules about a column as a whole, and about the table."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.frames import read
from nbops.data.rules.base import ColumnRule, ColumnsRule, Outcome, Rule, check_order, listed, of_mask, span
from nbops.data.rules.facts import Facts
from nbops.data.rules.values import moment

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class DistinctInRange(ColumnRule, frozen=True, kw_only=True):
    """The column has so many different values.

    Attributes
    ----------
    low, high : int, optional
    """

    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order(self, self.low, self.high)

    def look(self, facts: Facts) -> Outcome:
        """Count distinct hashes."""
        codes, there = facts.hashes(self.column), facts.there(self.column)
        count = len(np.unique(codes if there is None else codes[there]))
        return _measured(count, self.low, self.high, "different values", "values")


class RowCount(Rule, frozen=True, kw_only=True):
    """The table has so many rows.

    Attributes
    ----------
    low, high : int, optional
    """

    low: int | None = None
    high: int | None = None

    fix: ClassVar[str] = "Look at the query or file that gave the rows, or change the rule."

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order(self, self.low, self.high)

    def look(self, facts: Facts) -> Outcome:
        """Count the rows."""
        return _measured(facts.rows, self.low, self.high, "rows", "rows")


def _measured(value: float, low: Any, high: Any, noun: str, unit: str) -> Outcome:
    is_low, is_high = low is not None and value < low, high is not None and value > high
    limit = low if is_low or high is None else high
    return Outcome(int(is_low or is_high), 1, f"{value:,} {noun}, not {span(low, high)}", None, value, limit, unit)


class HasColumns(ColumnsRule, frozen=True, kw_only=True):
    """The table has these columns; with `is_exact` no other.

    Attributes
    ----------
    is_exact : bool
        Whether other columns are wrong.
    """

    is_exact: bool = False

    fix: ClassVar[str] = "Look at the query or file, or change the list."

    @property
    def needs(self) -> tuple[str, ...]:
        """None: missing columns are what this rule finds."""
        return ()

    @property
    def about(self) -> str:
        """The table."""
        return ""

    def look(self, facts: Facts) -> Outcome:
        """Compare names."""
        names = set(facts.frame.names)
        gone = [name for name in self.columns if name not in names]
        new = [name for name in facts.frame.names if name not in self.columns] if self.is_exact else []
        said = [f"{word} {listed(which)}" for word, which in (("lacks", gone), ("has beside", new)) if which]
        return Outcome(len(gone) + len(new), len(self.columns), "the table " + " and ".join(said), unit="columns")


class Fresh(ColumnRule, frozen=True, kw_only=True):
    """The newest date of a column is not too old.

    Attributes
    ----------
    max_age : str
        ``"6h"``, ``"1d"``, ``"2w"``, ``"90min"``.
    now : str
        The moment to compare with, ISO text in UTC; the clock's if empty.
    """

    max_age: str
    now: str = ""

    fix: ClassVar[str] = "Look at the step that should have brought newer rows."

    def __post_init__(self) -> None:
        super().__post_init__()
        _seconds(self.max_age)
        if self.now:
            moment(self.now)

    def look(self, facts: Facts) -> Outcome:
        """Compare the newest date with the clock."""
        least_most = facts.extremes(self.column, facts.dates(self.column))
        if least_most[1] is None:
            return Outcome(1, 1, "has no date", unit="s")
        last = moment(self.now) if self.now else datetime.now(UTC).replace(tzinfo=None)
        age = float((np.datetime64(last) - least_most[1]) / np.timedelta64(1, "s"))
        limit = _seconds(self.max_age)
        said = f"the newest is {least_most[1]}, older than {self.max_age}"
        return Outcome(int(age > limit), 1, said, None, age, limit, "s")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)", text)
    if found is None:
        raise InvalidInput(f"{text!r} is no duration", hint="Write e.g. 90min, 6h, 1d or 2w.")
    return float(found[1]) * _UNITS[found[2]]


class Holds(Rule, frozen=True, kw_only=True):
    """A function of yours holds. It gets the data as you passed it; it answers True or False, or [rows] of them.

    Attributes
    ----------
    function : callable
        ``lambda df: df["net"] <= df["gross"]``. A suite with functions can be written as code, not as YAML.
    name : str
        What it says of the rows, for the message; the function's name if empty.
    """

    function: Any
    name: str = ""

    def look(self, facts: Facts) -> Outcome:
        """Call the function."""
        told = self.function(facts.native)
        name = self.name or getattr(self.function, "__name__", "function").replace("_", " ")
        if isinstance(told, bool | np.bool_):
            return Outcome(int(not told), 1, f"'{name}' does not hold", unit="table")
        columns = read({"told": told}).columns
        if len(columns) != 1 or columns[0].dtype != "bool" or columns[0].rows != facts.rows:
            raise InvalidInput(f"'{name}' gave a {type(told).__name__}, not {facts.rows:,} of True or False",
                               hint="Return one boolean for each row, or one in all.")  # fmt: skip
        bad = ~columns[0].values
        if columns[0].missing is not None:
            bad &= ~columns[0].missing
        return of_mask(bad, facts.rows, f"rows for which '{name}' does not hold")
