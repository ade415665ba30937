"""Rules about the values of one column."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array, Column, Mask
from nbops.data.rules.base import ColumnRule, Outcome, check_order, listed, of_mask, span
from nbops.data.rules.facts import Facts, Unfit, among, hashes_of, texts

TYPES = (
    "int", "float", "number", "bool", "text", "date", "datetime", "duration", "time", "decimal", "bytes", "object",
)  # fmt: skip
_SAMPLED = 5000  # distinct texts up to which a pattern is tried on each distinct one only
Cell = str | int | float | bool


class HasType(ColumnRule, frozen=True, kw_only=True):
    """The column has a type.

    Attributes
    ----------
    type : str
        ``int``, ``float``, ``number``, ``bool``, ``text``, ``date``, ``datetime``, ``duration``, ``time``,
        ``decimal``, ``bytes``, ``object``, or one width: ``int32``. A column without any value has every type, and
        whole numbers that are floats only because some are missing count as int.
    """

    type: str

    fix: ClassVar[str] = "Convert the column, or change the rule."

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(
            rf"({'|'.join(TYPES)}|u?int(8|16|32|64)|float(16|32|64)|datetime\[.+\]|tensor<.+)", self.type
        ):
            raise InvalidInput(f"no type {self.type!r}", hint=f"Use one of: {', '.join(TYPES)}; or int32, float64 …")

    def look(self, facts: Facts) -> Outcome:
        """Compare the logical type."""
        column = facts.column(self.column)
        is_right = column.dtype == "null" or self.type in _types_of(column)
        return Outcome(0 if is_right else 1, 1, f"is {column.dtype}, not {self.type}", unit="type")


def _types_of(column: Column) -> set[str]:
    """Return all names that the type of a column goes by."""
    family = column.dtype.partition("[")[0].rstrip("0123456789")
    found = {column.dtype, family, family.removeprefix("u")}
    if found & {"int", "float"}:
        found.add("number")
    if column.is_float and column.missing is not None and not column.is_tensor:
        present = column.values[~column.missing]
        if (present == np.trunc(present)).all():
            found.add("int")
    return found


class NotMissing(ColumnRule, frozen=True, kw_only=True):
    """Cells are not missing: no null, None, NaN, NaT. Text of no character is not missing."""

    fix: ClassVar[str] = "Look at the step that fills the column; impute or drop the rows, or raise max_share."

    def look(self, facts: Facts) -> Outcome:
        """Count missing cells; of a tensor, rows with any."""
        column = facts.column(self.column)
        if column.missing is None:
            return Outcome(0, facts.rows, "cells are missing")
        return of_mask(_any_cell(column.missing), facts.rows, "cells are missing")


class Finite(ColumnRule, frozen=True, kw_only=True):
    """Numbers are not infinite."""

    fix: ClassVar[str] = "Look for a division by zero or a logarithm of zero before this."

    def look(self, facts: Facts) -> Outcome:
        """Count infinite numbers."""
        values, of = facts.numbers(self.column), facts.present(self.column)
        low, high = facts.extremes(self.column, values)
        if low is None or values.dtype.kind != "f" or (np.isfinite(low) and np.isfinite(high)):
            return Outcome(0, of, "numbers are infinite")
        return of_mask(_any_cell(np.isinf(values)), of, "numbers are infinite")


class InRange(ColumnRule, frozen=True, kw_only=True):
    """Numbers or dates lie between two limits, which belong to the range. Infinite is outside of any.

    Attributes
    ----------
    low, high : number or text, optional
        Limits; a date as ISO text: ``"2024-01-31"``.
    """

    low: float | int | str | None = None
    high: float | int | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order(self, self.low, self.high)

    def look(self, facts: Facts) -> Outcome:
        """Compare the extremes, and each value only where they are outside."""
        column = facts.column(self.column)
        is_time = column.values.dtype.kind == "M" and column.offsets is None
        values = column.values if is_time else facts.numbers(self.column)
        of, what = facts.present(self.column), f"values are outside {span(self.low, self.high)}"
        least, most = facts.extremes(self.column, values)
        if least is None:
            return Outcome(0, of, what)
        low, high = (_limit(edge, is_time, column) for edge in (self.low, self.high))
        infinite = not is_time and values.dtype.kind == "f" and bool(np.isinf(least) or np.isinf(most))
        if not infinite and not (low is not None and least < low) and not (high is not None and most > high):
            return Outcome(0, of, what)
        outside = np.isinf(values) if infinite else np.zeros(values.shape, np.bool_)
        if low is not None:
            outside |= values < low
        if high is not None:
            outside |= values > high
        if column.missing is not None:
            outside &= ~column.missing
        return of_mask(_any_cell(outside), of, what)


def _limit(edge: Any, is_time: bool, column: Column) -> Any:
    """Return a limit as it can be compared with the column: never in the column's own narrow type."""
    if edge is None:
        return None
    if is_time:
        try:
            return np.datetime64(str(edge))
        except ValueError:
            raise Unfit(f"holds dates, and {edge!r} is none") from None
    if isinstance(edge, str):
        raise Unfit(f"holds {column.dtype}, and {edge!r} is no number")
    return np.int64(edge) if isinstance(edge, int) and column.values.dtype.kind == "i" else np.float64(edge)


class OneOf(ColumnRule, frozen=True, kw_only=True):
    """Values are among those that are allowed; or, with ``is_not``, among none of them.

    Attributes
    ----------
    values : sequence
        Texts, numbers or booleans.
    is_not : bool
        Whether the values are forbidden instead.
    """

    values: tuple[Cell, ...]
    is_not: bool = False

    fix: ClassVar[str] = "Map or correct the values, or change the list."

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.values, str) or not self.values:
            raise InvalidInput(f"values are {self.values!r}", hint="Give a list of one value or more.")
        _set(self, "values", tuple(_plain(value) for value in self.values))

    def look(self, facts: Facts) -> Outcome:
        """Compare hashes with those of the list."""
        column = facts.column(self.column)
        if column.is_tensor:
            raise Unfit("holds arrays, which are no categories")
        known = among(facts.hashes(self.column), hashes_of(column, self.values))
        bad = known if self.is_not else ~known
        there = facts.there(self.column)
        what = f"values are {'forbidden' if self.is_not else 'none of'}: {listed(self.values)}"
        return of_mask(bad if there is None else bad & there, facts.present(self.column), what)


class Matches(ColumnRule, frozen=True, kw_only=True):
    """Texts match a pattern from their first to their last character; or, with ``is_not``, do not.

    Attributes
    ----------
    pattern : str
        A regular expression of Python's `re`.
    is_not : bool
        Whether matching is forbidden instead.
    """

    pattern: str
    is_not: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InvalidInput(f"pattern {self.pattern!r}: {error}", hint="Correct the regular expression.") from None

    def look(self, facts: Facts) -> Outcome:
        """Try the pattern on each distinct text."""
        column = facts.column(self.column)
        if not column.is_text:
            raise Unfit(f"holds {column.dtype}, not text")
        match = re.compile(self.pattern).fullmatch
        bad = each_text(facts, self.column, lambda text: (match(text) is None) != self.is_not)
        what = f"texts {'match' if self.is_not else 'do not match'} {self.pattern}"
        return of_mask(bad, facts.present(self.column), what)


def each_text(facts: Facts, name: str, test: Callable[[str], bool]) -> Mask:
    """Return for each row whether its text passes `test`, which is asked once a distinct text; False where missing."""
    column = facts.column(name)
    first, inverse, _ = facts.distinct(name)
    told = np.array([test(text) for text in texts(column, first)], np.bool_)
    found: Mask = told[inverse] if len(told) else np.zeros(column.rows, np.bool_)
    return found if column.missing is None else found & ~column.missing


class LengthInRange(ColumnRule, frozen=True, kw_only=True):
    """Texts have so many characters.

    Attributes
    ----------
    low, high : int, optional
        Fewest and most characters.
    """

    low: int | None = None
    high: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order(self, self.low, self.high)

    def look(self, facts: Facts) -> Outcome:
        """Compare lengths."""
        lengths, there = facts.lengths(self.column), facts.there(self.column)
        bad = np.zeros(len(lengths), np.bool_)
        if self.low is not None:
            bad |= lengths < self.low
        if self.high is not None:
            bad |= lengths > self.high
        what = f"texts do not have {span(self.low, self.high)} characters"
        return of_mask(bad if there is None else bad & there, facts.present(self.column), what)


class NotInFuture(ColumnRule, frozen=True, kw_only=True):
    """Dates and times are not later than now.

    A time without a zone is in the future only where it is so everywhere on earth (UTC+14).

    Attributes
    ----------
    now : str
        The moment to compare with, ISO text in UTC; the clock's if empty.
    """

    now: str = ""

    fix: ClassVar[str] = "Correct the dates: a typo, a wrong century, day and month swapped."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.now:
            moment(self.now)

    def look(self, facts: Facts) -> Outcome:
        """Compare with the clock."""
        values, there = facts.dates(self.column), facts.there(self.column)
        late = values > latest_now(facts.column(self.column), self.now)
        return of_mask(late if there is None else late & there, facts.present(self.column), "dates are in the future")


def latest_now(column: Column, now: str = "") -> Any:
    """Return the latest value that is not in the future, as datetime64; see `NotInFuture`."""
    last = moment(now) if now else datetime.now(UTC).replace(tzinfo=None)
    if not column.dtype.startswith("datetime["):
        last += timedelta(hours=14)
    return np.datetime64(last.date()) if column.dtype == "date" else np.datetime64(last)


def moment(text: str) -> datetime:
    """Return a moment in UTC, without its zone, of ISO text."""
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is no date", hint="Write e.g. 2024-01-31 or 2024-01-31T14:30.") from None
    return made.astimezone(UTC).replace(tzinfo=None) if made.tzinfo else made


def _any_cell(mask: Array) -> Mask:
    """Return which rows of a tensor have any such cell; a mask of rows as it is."""
    return np.asarray(mask.any(axis=1) if mask.ndim == 2 else mask)


def _plain(value: Any) -> Any:
    """Return a Python value of a NumPy scalar, and text of anything that is no plain cell (a date)."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool) else str(value)


def _set(rule: Any, name: str, value: Any) -> None:
    import msgspec

    msgspec.structs.force_setattr(rule, name, value)
