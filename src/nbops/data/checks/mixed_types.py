"""The check ``mixed-types``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nbops.core.records import CheckResult, Verdict
from nbops.data.columns import Array, Column, Mask
from nbops.data.leaf import Sample, checks, judged, percent, result

_LONGEST_NUMBER = 40  # bytes; longer text is taken for no number
_DEAD = 8


def _automaton() -> NDArray[np.uint8]:
    """Return next states of a number's grammar, [9 states, 256 bytes]: sign, digits, point, digits, e, sign, digits."""
    step = np.full((9, 256), _DEAD, np.uint8)
    digits, signs, point, exponent = [*b"0123456789"], [*b"+-"], ord("."), [*b"eE"]
    step[0, signs], step[0, point] = 1, 3  # 0 start, 1 sign, 3 point without digits before it
    step[1, point] = 3
    step[[[0], [1], [2]], digits] = 2  # 2 whole digits
    step[2, point] = 4
    step[[[3], [4]], digits] = 4  # 4 digits and a point
    step[[[2], [4]], exponent] = 5
    step[5, signs] = 6
    step[[[5], [6], [7]], digits] = 7
    return step


_STEP = _automaton()
_ACCEPTED = np.isin(np.arange(9), [2, 4, 7])


@checks.register("mixed-types")
def mixed_types(sample: Sample, *, max_rare_share: float = 0.1) -> Iterator[CheckResult]:
    """Columns whose values are of more than one type.

    What it measures
        In a column of Python objects, the share of values that are not of its commonest type (all
        numbers are one type): FAIL above zero. In a text column, the share of the rarer of two sorts:
        text that reads as a number and text that does not. WARN if that is above 0 and at most
        `max_rare_share`; an even mixture is taken for codes such as "A1" and "12", and passes.

    Why it matters
        One "n/a" or "1,234" turns a column of numbers into text: models then treat it as
        categories, sums fail, and a converter drops or fills those rows.

    When it is wrong
        In names and free text of which a few happen to be numbers ("1984" among book titles).

    Fix
        Convert the column and look at what does not convert; name the marks of missing values when reading the file.

    References
        Sambasivan et al., "Data cascades in high-stakes AI", CHI 2021.
    """
    for column in sample.columns:
        if column.dtype == "object":
            yield _objects(column)
        elif column.is_text and column.offsets is not None:
            yield _texts(column, reads_as_number(column.values, column.offsets), max_rare_share)
        else:
            yield result("pass", column=column.name, message=f"one type: {column.dtype}")


def _objects(column: Column) -> CheckResult:
    total = sum(column.kinds.values())
    kinds = sorted(column.kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    rare = 1 - kinds[0][1] / total if total else 0.0
    return judged(
        rare,
        fail=0.0,
        column=column.name,
        unit="share",
        message="values are " + ", ".join(f"{name} ({count:,})" for name, count in kinds),
        fix="Convert the column to one type.",
        evidence={"kinds": dict(kinds)},
        rows=partial(_odd_objects, column),
    )


def _odd_objects(column: Column) -> Mask:
    """Return the rows whose value is not of the commonest kind, by the tag that each value begins with."""
    there: Mask = np.ones(column.rows, np.bool_) if column.missing is None else ~column.missing
    if column.offsets is None or not there.any():
        return np.zeros(column.rows, np.bool_)
    tags = column.values[column.offsets[:-1][there]]
    tags[np.isin(tags, [*b"ifd"])] = ord("i")  # all numbers are one kind
    odd = np.zeros(column.rows, np.bool_)
    odd[there] = tags != np.bincount(tags).argmax()
    return odd


def _texts(column: Column, numeric: Mask, max_rare_share: float) -> CheckResult:
    present = column.rows - column.missing_count
    there: Mask = np.ones(column.rows, np.bool_) if column.missing is None else ~column.missing
    count = int(np.count_nonzero(numeric & there))
    odd = (numeric if 2 * count < present else ~numeric) & there
    share = min(count, present - count) / present if present else 0.0
    if not 0 < share <= max_rare_share:
        return result("pass", column=column.name, value=share, unit="share", message="text of one sort")
    rows = np.flatnonzero(odd)[:5]
    values = [str(column.value(int(row)))[:60] for row in rows]
    sort = "read as numbers" if 2 * count < present else "do not read as numbers"
    return result(
        Verdict.WARN,
        column=column.name,
        value=share,
        limit=0.0,
        unit="share",
        message=f"{np.count_nonzero(odd):,} of {present:,} texts {sort} ({percent(share)}): "
        + ", ".join(repr(value) for value in values),
        fix="Convert the column; name the marks of missing values when reading the file.",
        evidence={"rows": rows.tolist(), "values": values},
        rows=odd,
    )


def reads_as_number(data: Array, offsets: NDArray[np.int64]) -> Mask:
    """Tell for each text whether it is a plain decimal number, as ``-1.5e3``."""
    starts, lengths = offsets[:-1], np.diff(offsets)
    state = np.zeros(len(lengths), np.uint8)
    state[lengths > _LONGEST_NUMBER] = _DEAD
    alive = np.flatnonzero((lengths > 0) & (state != _DEAD))
    done = 0
    while len(alive):
        state[alive] = _STEP[state[alive], data[starts[alive] + done]]
        done += 1
        alive = alive[(state[alive] != _DEAD) & (lengths[alive] > done)]
    accepted: Mask = _ACCEPTED[state]
    return accepted
