"""The check ``date-order``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Column, Mask
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.rules.facts import texts

_TEXT = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(\D.*)?")
_DAY = np.timedelta64(1, "D")


@checks.register("date-order")
def date_order(
    sample: Sample, *, max_share: float = 0.0, slack_d: int = 15, min_rows: int = 30
) -> Iterator[CheckResult]:
    """Dates with day and month swapped.

    What it measures
        In columns of texts such as 03/04/2024: whether some can only be read day first and some only month first. In
        columns of dates: dates that a swap of day and month would bring into the period of those that cannot be swapped
        (days after the 12th), within `slack_d` days, from outside of it; counted if that is so for at least nine of ten
        dates that lie outside. WARN above `max_share`.

    Why it matters
        A reader that guesses the order for each cell swaps 4 of 10 dates without a word.

    When it is wrong
        In columns over several years, swaps stay within the period and cannot be seen.

    Fix
        Read the column again with its format: pd.to_datetime(…, format="%d/%m/%Y").

    References
        Google, "ML Test Score" (Breck et al. 2017), Data 1: feature expectations are captured in a schema.
    """
    for column in sample.columns:
        if column.is_text:
            bad = _mixed_texts(sample, column)
        elif (
            column.offsets is None and column.values.dtype.kind == "M" and sample.facts.present(column.name) >= min_rows
        ):
            bad = _swapped(column, slack_d)
        else:
            continue
        present, count = sample.facts.present(column.name), int(np.count_nonzero(bad))
        share = count / present if present else 0.0
        shown = ", ".join(str(column.value(int(row)))[:10] for row in np.flatnonzero(bad)[:3])
        yield judged(
            share,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} of {present:,} dates have day and month swapped ({percent(share)}): {shown}",
            fix="Read the column again with its format.",
            evidence={"swapped": count},
            rows=bad,
        )


def _mixed_texts(sample: Sample, column: Column) -> Mask:
    """Return texts whose order of day and month is the rarer of two that occur."""
    first, inverse, counts = sample.facts.distinct(column.name)
    if not len(first) or column.offsets is None or int(np.diff(column.offsets)[first].max()) > 40:
        return np.zeros(column.rows, np.bool_)
    if not any(_TEXT.fullmatch(text) for text in texts(column, first[:1000])):
        return np.zeros(column.rows, np.bool_)
    order = np.zeros(len(first), np.int8)  # 1 day first, 2 month first, 0 either
    for at, text in enumerate(texts(column, first)):
        found = _TEXT.fullmatch(text)
        if found is not None:
            one, two = int(found[1]), int(found[3])
            order[at] = 1 if one > 12 >= two else 2 if two > 12 >= one else 0
    days, months = int(counts[order == 1].sum()), int(counts[order == 2].sum())
    rare = (order == (1 if days < months else 2)) if days and months else np.zeros(len(first), np.bool_)
    mask: Mask = rare[inverse]
    return mask


def _swapped(column: Column, slack_d: int) -> Mask:
    none = np.zeros(column.rows, np.bool_)
    rows = np.flatnonzero(~np.isnat(column.values)) if column.missing is None else np.flatnonzero(~column.missing)
    days = column.values[rows].astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    month = months.astype(np.int64) % 12 + 1
    is_sure = day > 12
    if np.count_nonzero(is_sure) < 10:
        return none
    low, high = days[is_sure].min() - slack_d * _DAY, days[is_sure].max() + slack_d * _DAY
    turned = (days.astype("datetime64[Y]").astype("datetime64[M]") + (day - 1)).astype("datetime64[D]") + (month - 1)
    outside = ~is_sure & ((days < low) | (days > high))
    inside = outside & (turned >= low) & (turned <= high)
    if np.count_nonzero(inside) < 3 or np.count_nonzero(inside) < 0.9 * np.count_nonzero(outside):
        return none
    none[rows[inside]] = True
    return none
