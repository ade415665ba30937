"""What a rule is: a frozen struct with its code as tag, and one method that looks at the data.

Being structs, rules are data: they are written to YAML and to Python, and read back with their types checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from nbops.core.errors import InvalidInput, QuerySyntaxError
from nbops.core.query import parse
from nbops.data.columns import Mask
from nbops.data.rules.facts import Facts

SEVERITIES = ("info", "warn", "fail")
OPTIONS = ("max_share", "severity", "when", "by", "environments", "false_alarms")


def kebab(name: str) -> str:
    """Return the code of a rule's class: ``in-range`` of ``InRange``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


@dataclass(frozen=True)
class Outcome:
    """What a rule found.

    Attributes
    ----------
    bad, of : int
        How many rows break the rule, of how many that it is about.
    what : str
        What is wrong with them, so that ``3 of 10 {what}`` is a sentence.
    rows : callable or None
        Gives the mask of those rows, [rows] bool; None where the table or a whole column is wrong.
    value, limit : float or None
        What was measured where it is not a share of rows.
    """

    bad: int
    of: int
    what: str
    rows: Callable[[], Mask] | None = None
    value: float | None = None
    limit: float | None = None
    unit: str = ""


class Rule(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True,
    tag_field="rule", tag=kebab
):  # fmt: skip
    """What all rules have.

    Attributes
    ----------
    max_share : float
        Share of the rows that may break the rule, 0 to below 1.
    severity : {"fail", "warn", "info"}
        What a broken rule is. ``info`` never colours a report.
    when : str
        Look only at rows where this holds: ``"country == 'CH' and age >= 18"``.
    by : str
        Judge each value of this column by itself.
    environments : sequence of str
        Where the rule holds, such as ``("training",)``; everywhere if empty.
    false_alarms : float or None
        Estimated share of healthy tables that break the rule; `nb.learn` writes it.
    """

    max_share: float = 0.0
    severity: Literal["info", "warn", "fail"] = "fail"
    when: str = ""
    by: str = ""
    environments: tuple[str, ...] = ()
    false_alarms: float | None = None

    fix: ClassVar[str] = "Correct the rows, take them out with nb.quarantine, or change the rule."

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise InvalidInput(f"severity is {self.severity!r}", hint=f"Use one of: {', '.join(SEVERITIES)}.")
        if not 0 <= self.max_share < 1:
            raise InvalidInput(f"max_share is {self.max_share}", hint="Give a share from 0 to below 1.")
        _as_tuple(self, "environments")
        if self.when:
            try:
                parse(self.when)
            except QuerySyntaxError as error:
                raise InvalidInput(f"when: {error.message}", hint="Write e.g. country == 'CH' and age >= 18") from None

    @property
    def code(self) -> str:
        """The stable name of this kind of rule."""
        return str(self.__struct_config__.tag)

    @property
    def about(self) -> str:
        """The column that results name; "" for the table."""
        return ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that must be there."""
        return (self.about,) if self.about else ()

    def look(self, facts: Facts) -> Outcome:
        """Look at the data; each kind says how."""
        raise NotImplementedError(f"{type(self).__name__} is a kind of rule without a method look(facts)")


class ColumnRule(Rule, frozen=True):
    """A rule about one column."""

    column: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.column, str) or not self.column:
            raise InvalidInput(f"column is {self.column!r}", hint="Give the name of one column.")

    @property
    def about(self) -> str:
        """The column."""
        return self.column


class ColumnsRule(Rule, frozen=True):
    """A rule about several columns together."""

    columns: tuple[str, ...]

    fewest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _as_tuple(self, "columns")
        if len(self.columns) < self.fewest or len(set(self.columns)) < len(self.columns):
            raise InvalidInput(
                f"columns are {list(self.columns)}", hint=f"Give {self.fewest} or more different column names."
            )

    @property
    def about(self) -> str:
        """The columns, as results name them."""
        return ", ".join(self.columns)

    @property
    def needs(self) -> tuple[str, ...]:
        """All of the columns."""
        return self.columns


def _as_tuple(rule: Rule, name: str) -> None:
    """Make a tuple of what may have been given as one text or as a list."""
    value: Any = getattr(rule, name)
    made = (value,) if isinstance(value, str) else tuple(value)
    if made != value:
        msgspec.structs.force_setattr(rule, name, made)


def check_order(rule: Rule, low: Any, high: Any) -> None:
    """Refuse a range without limits, or one that is empty."""
    if low is None and high is None:
        raise InvalidInput(f"{rule.code} has neither low nor high", hint="Give at least one of them.")
    if low is not None and high is not None and isinstance(low, str) != isinstance(high, str):
        raise InvalidInput(f"{rule.code}: low {low!r} and high {high!r} are of two types", hint="Give two of one type.")
    if low is not None and high is not None and low > high:
        raise InvalidInput(f"{rule.code}: low {low!r} is above high {high!r}", hint="Swap them.")


def span(low: Any, high: Any) -> str:
    """Return a range in words: ``0 to 120``, ``at least 0``."""

    def short(value: Any) -> str:
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    if low is None:
        return f"at most {short(high)}"
    return f"at least {short(low)}" if high is None else f"{short(low)} to {short(high)}"


def of_mask(mask: Mask, of: int, what: str) -> Outcome:
    """Return the outcome of a mask of bad rows that is there already."""
    return Outcome(int(np.count_nonzero(mask)), of, what, lambda: mask)


def listed(names: Sequence[Any], count: int = 5) -> str:
    """Return the first names, quoted, and how many more there are."""
    shown = ", ".join(repr(str(name)[:40]) for name in names[:count])
    return shown + (f" and {len(names) - count:,} more" if len(names) > count else "")
